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

// A user's stack of several hosts is drilled where it runs: the process of each host strikes
// the nodes there and cuts its network, and the one of this machine passes on what it is told.
// The process of a host is not killed: nobody could start it again from another one.

// afarFaults are those that need no more than that.
var afarFaults = []string{
	"kill-web", "kill-replica", "kill-sentinel", "kill-balancer", "kill-master",
	"pause-web", "pause-replica", "pause-sentinel", "pause-balancer", "pause-master",
	"restart-web", "restart-replica", "restart-sentinel", "restart-balancer", "restart-master", "switchover",
	"kill-all-sentinels", "kill-all-redis", "kill-all-web", "kill-master-twice",
	"kill-master-and-sentinel", "kill-master-pause-sentinel", "switchover-kill-sentinel",
	"cut-master-port", "cut-host", "cut-master", "cut-master-host", "cut-halves", "cut-one-way", "cut-other-way",
	"kill-keepalived",
}

// theirHosts reports whether the faults strike a user's hosts where they can.
func (c Config) theirHosts() bool { return c.Several && !c.Own && c.Hosts == 0 }

// afar reports whether a drill is one of a user's stack of several hosts.
func (c Config) afar() bool { return c.Several && !c.OnItsOwn() }

// notTheirs is the names of the faults for which a stack of the drill's own takes the place of
// a user's hosts.
func (c Config) notTheirs() (names []string) {
	chosen, _ := c.pool()
	for _, f := range chosen {
		if c.theirHosts() && c.OnItsOwn() && notAfar(f) != "" {
			names = append(names, f.name)
		}
	}
	return names
}

// notAfar says why a fault cannot be brought about on a user's stack of several hosts; empty:
// it can.
func notAfar(f fault) string {
	switch {
	case slices.Contains(afarFaults, f.name):
		return ""
	case strings.Contains(f.name, "supervisor"):
		return "it kills or stops the process of a host, which nobody could start again from another host; --own drills it on hosts of the drill's own"
	}
	return "it acts on the machine where the drill runs, and the stack runs on several; --own drills it on hosts of the drill's own"
}

// hands are how a drill reaches the processes of the stack: those of this machine, or of a
// host by the control socket of this one.
type hands struct {
	// state is the state directory of this host, and client its process; empty: all processes
	// are this machine's.
	state  string
	client *control.Client
}

func handsOf(state string) hands { return hands{state, control.NewClient(state)} }

// callLimit is how long a host may take to strike a process.
const callLimit = 3 * time.Second

func (h hands) call(host string, call control.ProcessCall) (control.ProcessState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	return h.client.Process(ctx, host, call)
}

// here reports whether a process is one of this machine's.
func (h hands) here(host string) bool { return h.state == "" || host == "" }

// identify returns the process that has a pid on a host. Its error is process.ErrGone when
// that has ended.
func (h hands) identify(host string, pid int) (process.ID, error) {
	if h.here(host) {
		return process.Identify(pid)
	}
	now, err := h.call(host, control.ProcessCall{PID: pid})
	if err == nil && !now.Alive {
		err = process.ErrGone
	}
	return now.ID, err
}

func (h hands) signal(host string, id process.ID, sig syscall.Signal, group bool) error {
	if h.here(host) {
		return process.Signal(id, sig, group)
	}
	_, err := h.call(host, control.ProcessCall{ID: id, Signal: sig})
	return err
}

// alive reports whether a process runs. It is true when its host does not answer: the end of
// a process has to be seen.
func (h hands) alive(host string, id process.ID) bool {
	if h.here(host) {
		return process.Alive(id)
	}
	now, err := h.call(host, control.ProcessCall{ID: id})
	return err != nil || now.Alive
}

func (h hands) stopped(host string, id process.ID) bool {
	if h.here(host) {
		return process.Stopped(id)
	}
	now, err := h.call(host, control.ProcessCall{ID: id})
	return err == nil && now.Stopped
}

// gone reports whether the process of a node has ended. It is false when its host does not
// answer.
func (h hands) gone(n supervise.NodeStatus) bool {
	_, err := h.identify(n.Host, n.PID)
	return err != nil && (h.here(n.Host) || errors.Is(err, process.ErrGone))
}

// statistician tells the figures of a balancer.
type statistician interface {
	Stat(ctx context.Context) ([]haproxy.Stat, error)
}

// balancerAfar is a balancer of a host.
type balancerAfar struct {
	client     *control.Client
	host, node string
}

func (b balancerAfar) Stat(ctx context.Context) ([]haproxy.Stat, error) {
	return b.client.BalancerStat(ctx, b.host, b.node)
}

// findHosts finds the hosts of a user's stack, and which of them this machine is.
func (t *target) findHosts(ctx context.Context, entry string, p plan.Plan) (err error) {
	v, err := t.client().Hosts(ctx)
	if err != nil {
		return err
	}
	t.here = v.Here
	t.theirs, err = hostsOf(entry, p)
	return err
}

// hostsOf are the hosts of a plan, with entries like the one that the stack says it has.
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

// theirsSick says what is wrong with a user's hosts; empty: each takes part, and each virtual
// address is on one of them.
func (t *target) theirsSick(ctx context.Context, st supervise.Status) string {
	if why := t.apart(ctx); why != "" {
		return why
	}
	for _, v := range st.Virtual {
		if len(v.Hosts) != 1 {
			return fmt.Sprintf("%d hosts have the address %s", len(v.Hosts), v.Address)
		}
	}
	return ""
}
