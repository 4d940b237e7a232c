package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
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
// the nodes there, and the one of this machine passes on what it is told. No host is cut off,
// and no process of a host is killed: nobody could undo that from another one.

// afarFaults are those that need no more than that.
var afarFaults = []string{
	"kill-web", "kill-replica", "kill-sentinel", "kill-balancer", "kill-master",
	"pause-web", "pause-replica", "pause-sentinel", "pause-balancer", "pause-master",
	"restart-web", "restart-replica", "restart-sentinel", "restart-balancer", "restart-master", "switchover",
	"kill-all-sentinels", "kill-all-redis", "kill-all-web", "kill-master-twice",
	"kill-master-and-sentinel", "kill-master-pause-sentinel", "switchover-kill-sentinel",
}

// afar reports whether a drill is one of a user's stack of several hosts.
func (c Config) afar() bool { return c.Several && !c.OnItsOwn() }

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

// entriesAfar are where clients find a user's stack of several hosts: at its virtual addresses,
// or at each host that has a balancer.
func entriesAfar(entry string, virtual []string, p plan.Plan) (all []string, err error) {
	_, port, err := net.SplitHostPort(strings.TrimPrefix(strings.TrimPrefix(entry, "http://"), "https://"))
	if err != nil {
		return nil, fmt.Errorf("the entry %s has no port: %w", entry, err)
	}
	scheme, _, _ := strings.Cut(entry, "://")
	at := func(address string) string { return scheme + "://" + net.JoinHostPort(address, port) }
	for _, address := range virtual {
		all = append(all, at(address))
	}
	if len(all) > 0 {
		return all, nil
	}
	for _, h := range p.Hosts {
		if slices.ContainsFunc(h.Processes, func(n plan.Process) bool { return n.Kind == plan.Balancer }) {
			all = append(all, at(h.Address))
		}
	}
	return all, nil
}
