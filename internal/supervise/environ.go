package supervise

import (
	"slices"
	"strings"

	"holdfast/internal/plan"
)

// The variables of the supervisor's environment that its children get. The environment may hold
// secrets of Holdfast and of others. Each process shows its own environment to every process
// that may read /proc/PID/environ, and a crash or a bug may show it, too.
var (
	// forServers is for HAProxy, Redis and Sentinel: paths, libraries, language and time.
	forServers = []string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_*", "LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*",
		"FAKETIME_TIMESTAMP_FILE", "FAKETIME_CACHE_DURATION", "FAKETIME_DONT_FAKE_MONOTONIC"}
	// forOurs is for Holdfast's own processes. It adds Go's runtime, traces, and the
	// certificates and proxies for sending them.
	forOurs = append(slices.Clone(forServers),
		"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "GORACE", "GOCOVERDIR", "OTEL_*", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
)

// forSupervisor holds the variables that systemd sets for a service (systemd.exec(5),
// "Environment Variables in Spawned Processes"). They are about the supervisor's process alone.
var forSupervisor = []string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "MAINPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"}

// environFor returns the part of the supervisor's environment that a process gets. A user's own
// program gets all of it except the variables of Holdfast and of systemd.
func environFor(environ []string, program plan.Program) []string {
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
