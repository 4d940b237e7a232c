package supervise

import (
	"crypto/rand"
	"os"
	"os/user"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/hostname"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// planFacts gathers the facts that a plan of the stack needs: ports and secrets
// of last time where there are some, new ones where not, and the facts of this
// machine.
func planFacts(s stack.Stack, baseDir, stateDir string, last kept) (plan.Facts, plan.HostFacts, error) {
	chosen, err := choosePorts(s.Name, plan.Needs(s), last.Ports)
	if err != nil {
		return plan.Facts{}, plan.HostFacts{}, err
	}
	here := plan.HostFacts{
		StateDir: stateDir, BaseDir: baseDir,
		Cores: runtime.NumCPU(), HAProxyUser: haproxyUser(), Files: openFiles(),
		Names: MachineNames(),
	}
	facts := plan.Facts{Ports: chosen, Hosts: last.Hosts, Replication: last.Redis.Replication}
	if len(s.Hosts) > 0 {
		facts.Hosts = plan.HostsOf(s)
		if facts.Placement, err = plan.Spread(s, nil); err != nil {
			return plan.Facts{}, plan.HostFacts{}, err
		}
	}
	facts.Secrets, err = last.Secrets.Complete(rand.Reader, s)
	return facts, here, err
}

// MachineNames are the names of this machine: what it calls itself, and the same
// where names are told by multicast (RFC 6762).
func MachineNames() []string {
	name, err := os.Hostname()
	if err != nil {
		return nil
	}
	var names []string
	short, _, _ := strings.Cut(name, ".")
	for _, name := range []string{name, short + ".local"} {
		if _, err := hostname.New(name); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// haproxyUser is the user that a HAProxy started by root drops to; empty when
// it is not root that starts it, or the distribution made no such user.
func haproxyUser() string {
	const name = "haproxy"
	if os.Geteuid() != 0 {
		return ""
	}
	if _, err := user.Lookup(name); err != nil {
		return ""
	}
	return name
}

// openFiles is how many files a process of this user may have open; 0: unknown.
// HAProxy raises its soft limit to the hard one by itself.
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Max, 1<<30))
}
