package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/supervise"
)

// A user's stack of several hosts is drilled where it runs. The holdfast process of each host
// strikes the nodes there and cuts its network; the process of this machine passes the requests on.
// No host's process is killed, because no other host could start it again.

// userHostFaults are the faults that need no more than that.
var userHostFaults = []string{
	"kill-web", "kill-replica", "kill-sentinel", "kill-balancer", "kill-master",
	"pause-web", "pause-replica", "pause-sentinel", "pause-balancer", "pause-master",
	"restart-web", "restart-replica", "restart-sentinel", "restart-balancer", "restart-master", "switchover",
	"kill-all-sentinels", "kill-all-redis", "kill-all-web", "kill-master-twice",
	"kill-master-and-sentinel", "kill-master-pause-sentinel", "switchover-kill-sentinel",
	"cut-master-port", "cut-host", "cut-master", "cut-master-host", "cut-halves", "cut-one-way", "cut-other-way",
	"kill-keepalived",
}

// mayUseUserHosts reports whether faults strike a user's own hosts, if they can.
func (c Config) mayUseUserHosts() bool { return c.Several && !c.Own && c.Hosts == 0 }

// onUserHosts reports whether this drill runs on a user's stack of several hosts.
func (c Config) onUserHosts() bool { return c.Several && !c.OnItsOwn() }

// notOnUserHosts returns the names of the faults for which the drill stands up a stack of its own,
// although the user has hosts.
func (c Config) notOnUserHosts() (names []string) {
	chosen, _ := c.pool()
	for _, f := range chosen {
		if c.mayUseUserHosts() && c.OnItsOwn() && whyNotOnUserHosts(f) != "" {
			names = append(names, f.name)
		}
	}
	return names
}

// whyNotOnUserHosts returns why a fault cannot be brought about on a user's stack of several hosts;
// empty: it can.
func whyNotOnUserHosts(f fault) string {
	switch {
	case slices.Contains(userHostFaults, f.name):
		return ""
	case strings.Contains(f.name, "supervisor"):
		return "it kills or stops the process of a host, which nobody could start again from another host; --own drills it on hosts of the drill's own"
	}
	return "it acts on the machine where the drill runs, and the stack runs on several; --own drills it on hosts of the drill's own"
}

// processes reaches the processes of the stack: those of this machine directly, those of other
// hosts through the control socket of this host.
type processes struct {
	// state is this host's state directory, and client its holdfast process. Both are empty if all
	// processes are on this machine.
	state  string
	client *control.Client
}

func processesOf(state string) processes { return processes{state, control.NewClient(state)} }

// callLimit limits how long a host may take to strike a process.
const callLimit = 3 * time.Second

func (h processes) call(host string, call control.ProcessCall) (control.ProcessState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	return h.client.Process(ctx, host, call)
}

// isLocal reports whether a host's processes are those of this machine.
func (h processes) isLocal(host string) bool { return h.state == "" || host == "" }

// identify returns the process with a pid on a host. The error is process.ErrGone if the process
// has ended.
func (h processes) identify(host string, pid int) (process.ID, error) {
	if h.isLocal(host) {
		return process.Identify(pid)
	}
	now, err := h.call(host, control.ProcessCall{PID: pid})
	if err == nil && !now.Alive {
		err = process.ErrGone
	}
	return now.ID, err
}

func (h processes) signal(host string, id process.ID, sig syscall.Signal, group bool) error {
	if h.isLocal(host) {
		return process.Signal(id, sig, group)
	}
	_, err := h.call(host, control.ProcessCall{ID: id, Signal: sig})
	return err
}

// alive reports whether a process runs. It returns true if the host does not answer: only an
// observed end counts.
func (h processes) alive(host string, id process.ID) bool {
	if h.isLocal(host) {
		return process.Alive(id)
	}
	now, err := h.call(host, control.ProcessCall{ID: id})
	return err != nil || now.Alive
}

func (h processes) stopped(host string, id process.ID) bool {
	if h.isLocal(host) {
		return process.Stopped(id)
	}
	now, err := h.call(host, control.ProcessCall{ID: id})
	return err == nil && now.Stopped
}

// hasEnded reports whether the process of a node has ended. It returns false if the host does not
// answer.
func (h processes) hasEnded(n supervise.NodeStatus) bool {
	_, err := h.identify(n.Host, n.PID)
	return err != nil && (h.isLocal(n.Host) || errors.Is(err, process.ErrGone))
}

// balancerStats returns the statistics of a balancer.
type balancerStats interface {
	Stat(ctx context.Context) ([]haproxy.Stat, error)
}

// remoteBalancer is a balancer on another host.
type remoteBalancer struct {
	client     *control.Client
	host, node string
}

func (b remoteBalancer) Stat(ctx context.Context) ([]haproxy.Stat, error) {
	return b.client.BalancerStat(ctx, b.host, b.node)
}

// findHosts finds the hosts of a user's stack, and which of them this machine is.
func (s *supervisedStack) findHosts(ctx context.Context, entry string, p plan.Plan) (err error) {
	v, err := s.client().Hosts(ctx)
	if err != nil {
		return err
	}
	s.thisHost = v.Here
	s.userHosts, err = hostsOf(entry, p)
	return err
}

// hostsOf returns the hosts of a plan. Scheme and port of their entries are those of the stack's
// entry.
func hostsOf(entry string, p plan.Plan) (*hosts, error) {
	scheme, address, _ := strings.Cut(entry, "://")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the entry %s has no port: %w", entry, err)
	}
	h := &hosts{scheme: scheme}
	if h.entryPort, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("the port of the entry %s is no number", entry)
	}
	for _, of := range p.Hosts {
		address, err := netip.ParseAddr(of.Address)
		if err != nil {
			return nil, fmt.Errorf("the address of host %s: %w", of.Name, err)
		}
		h.all = append(h.all, host{name: of.Name, address: address})
	}
	return h, nil
}

// whyUserHostsUnwell returns what is wrong with a user's hosts; empty: each takes part, and each
// virtual address is on exactly one of them.
func (s *supervisedStack) whyUserHostsUnwell(ctx context.Context, st supervise.Status) string {
	if why := s.missingHost(ctx); why != "" {
		return why
	}
	for _, v := range st.Virtual {
		if len(v.Hosts) != 1 {
			return fmt.Sprintf("%d hosts have the address %s", len(v.Hosts), v.Address)
		}
	}
	return ""
}
