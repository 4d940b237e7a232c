package supervise

import (
	"slices"
	"strings"

	"holdfast/internal/plan"
)

// The variables of the supervisor's environment that its children get. It may
// have secrets in it, of Holdfast and of others, and each process shows its own
// to whoever may read /proc/PID/environ; a crash or a bug may, too.
var (
	// forServers is for HAProxy, Redis and Sentinel: where they are, and how they
	// find libraries and tell the time.
	forServers = []string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_*", "LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*",
		"FAKETIME_TIMESTAMP_FILE", "FAKETIME_CACHE_DURATION", "FAKETIME_DONT_FAKE_MONOTONIC"}
	// forOurs is for Holdfast's own processes besides: Go's runtime, traces, and
	// the way to who gets them.
	forOurs = append(slices.Clone(forServers),
		"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "GORACE", "GOCOVERDIR", "OTEL_*", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
)

// forSupervisor are what systemd tells a service of itself (systemd.exec(5),
// "Environment Variables in Spawned Processes"): nobody else is that service.
var forSupervisor = []string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "MAINPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"}

// inherited is what a process gets of the supervisor's environment. A user's own
// program gets all of it but the variables of Holdfast and of systemd.
func inherited(environ []string, program plan.Program) []string {
	var wanted []string
	switch {
	case program == plan.HAProxy, program.IsRedis():
		wanted = forServers
	case program == plan.Self:
		wanted = forOurs
	default:
		return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
			name, _, _ := strings.Cut(v, "=")
			return strings.HasPrefix(name, "HOLDFAST_") || slices.Contains(forSupervisor, name)
		})
	}
	var out []string
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if slices.ContainsFunc(wanted, func(w string) bool {
			prefix, all := strings.CutSuffix(w, "*")
			return name == w || all && strings.HasPrefix(name, prefix)
		}) {
			out = append(out, v)
		}
	}
	return out
}
