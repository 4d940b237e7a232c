package supervise

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// facts gathers what a plan of the stack needs to know: ports and secrets, which are those of
// last time where there are any, and the facts of each host by name.
func (h hosts) facts(ctx context.Context, s stack.Stack, baseDir string, last persistedState) (plan.Facts, map[string]plan.HostFacts, error) {
	chosen, err := choosePorts(s.Name, plan.Needs(s), last.Ports, func(port int) bool { return h.free(ctx, port) })
	if err != nil {
		return plan.Facts{}, nil, err
	}
	h.claims.all(chosen)

	facts := plan.Facts{Ports: chosen, Hosts: last.Hosts, Replication: last.Redis.Replication, Stay: last.stay}
	if len(s.Hosts) > 0 {
		facts.Hosts = plan.HostsOf(s)
		if facts.Placement, err = plan.Spread(s, last.Placement, h.absent.names()...); err != nil {
			return plan.Facts{}, nil, err
		}
	}

	each := facts.Everywhere(plan.HostFacts{BaseDir: baseDir})
	for name, host := range each {
		if was, known := last.Facts[name]; h.isAbsent(name) {
			was.BaseDir, was.StateDir = baseDir, h.at(name).Path()
			if !known {
				was.Cores, was.Files = runtime.NumCPU(), 0
			}
			each[name] = was
			continue
		}
		is, err := h.at(name).Facts(ctx)
		if err != nil {
			return plan.Facts{}, nil, fmt.Errorf("ask the host %s what it is: %w", name, err)
		}
		host.StateDir, host.Cores, host.HAProxyUser, host.Files, host.Names = h.at(name).Path(), is.Cores, is.HAProxyUser, is.Files, is.Names
		was := last.Facts[name] // kept also when somebody inspects the host from outside
		host.User, host.Self = is.User, cmp.Or(is.Self, h.self, was.Self)
		host.SetsAddresses = is.SetsAddresses
		host.Interface = cmp.Or(interfaceOf(is, facts.Hosts, name), was.Interface)
		each[name] = host
	}

	secrets, err := h.imageSecrets(last.Secrets, s)
	if err != nil {
		return plan.Facts{}, nil, err
	}
	if h.apart { // a secret that this pod drew would be unknown to the other pods
		facts.Secrets = secrets
		return facts, each, secrets.CheckComplete(s)
	}
	facts.Secrets, err = secrets.Complete(rand.Reader, s)
	return facts, each, err
}

// imageSecrets adds the passwords of applications whose containers somebody else builds, if the
// function is known that derives them from the stack's authority.
func (h hosts) imageSecrets(x plan.Secrets, s stack.Stack) (plan.Secrets, error) {
	if h.secret == nil {
		return x, nil
	}
	x.Programs = maps.Clone(x.Programs)
	for _, app := range s.Programs() {
		if s.Apps[app].Kind() != stack.Image {
			continue
		}
		password, err := h.secret(plan.ProgramSecret(app))
		if err != nil {
			return plan.Secrets{}, fmt.Errorf("make the password of apps.%s at Redis: %w", app, err)
		}
		if x.Programs == nil {
			x.Programs = map[string]string{}
		}
		x.Programs[app] = password
	}
	return x, nil
}

// interfaceOf returns the network interface that has the address of a host; empty: none has.
func interfaceOf(is machine.Facts, hosts []plan.Place, name string) string {
	for _, h := range hosts {
		for _, l := range is.Links {
			if h.Name == name && slices.Contains(l.Addresses, h.Address) {
				return l.Name
			}
		}
	}
	return ""
}

// MachineNames returns the names of this machine.
func MachineNames() []string { return machine.Names() }
