package drill

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// A fault proves something only if it strikes a node at work. So each fault first looks at what the
// nodes do: web nodes and balancers have to get requests, a Redis node has to carry out commands of
// applications.

// workSample is the time between two looks. workPatience is how long to wait for work. lookLimit
// limits how long one answer may take.
const (
	workSample   = 300 * time.Millisecond
	workPatience = 3 * time.Second
	lookLimit    = time.Second
)

// workCounters holds how much nodes have done so far. Each balancer, and each redis node, has a
// counter.
type workCounters map[counterKey]int64

// counterKey is the counter of one node's work that one balancer, or the node itself, keeps.
type counterKey struct{ node, by string }

// since returns how much each node did after an earlier look. A counter that was missing then, or
// that was reset by a restart, says nothing and is left out.
func (w workCounters) since(before workCounters) map[string]int64 {
	did := map[string]int64{}
	for c, n := range w {
		if b, there := before[c]; there && n > b {
			did[c.node] += n - b
		}
	}
	return did
}

// work returns how much nodes have done so far: requests, or commands of applications. Nodes that
// do not answer are left out.
func (s *supervisedStack) work(ctx context.Context, nodes []supervise.NodeStatus) workCounters {
	w := workCounters{}
	isWeb := func(name string) bool {
		return slices.ContainsFunc(nodes, func(n supervise.NodeStatus) bool { return n.Kind == plan.Web && n.Name == name })
	}
	for balancer, rows := range s.statistics(ctx) {
		for _, r := range rows {
			switch {
			case r.Server == "FRONTEND":
				w[counterKey{balancer, balancer}] += r.Requests
			case isWeb(r.Server):
				w[counterKey{r.Server, balancer}] += r.TotalSessions
			}
		}
	}
	for _, n := range nodes {
		if n.Kind != plan.Redis {
			continue
		}
		if commands, err := s.commands(ctx, n.Name); err == nil {
			w[counterKey{n.Name, n.Name}] = commands
		}
	}
	return w
}

// commands returns how many commands a Redis node has carried out for applications.
func (s *supervisedStack) commands(ctx context.Context, node string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return s.admin(node).Work(ctx)
}

// statistics returns the counters of each balancer, by its name. A balancer that does not answer is
// left out.
func (s *supervisedStack) statistics(ctx context.Context) map[string][]haproxy.Stat {
	all := map[string][]haproxy.Stat{}
	for name, client := range s.balancers {
		ctx, cancel := context.WithTimeout(ctx, lookLimit)
		if rows, err := client.Stat(ctx); err == nil {
			all[name] = rows
		}
		cancel()
	}
	return all
}

// findBalancers finds the runtime sockets of the balancers.
func (s *supervisedStack) findBalancers(p plan.Plan) {
	s.balancers = map[string]balancerStats{}
	for _, h := range p.Hosts {
		for _, n := range h.Processes {
			switch {
			case n.Probe.Kind == plan.ProbeHAProxy && s.onUserHosts:
				s.balancers[n.Node] = remoteBalancer{s.client(), h.Name, n.Node}
			case n.Probe.Kind == plan.ProbeHAProxy:
				s.balancers[n.Node] = haproxy.NewClient(filepath.Join(s.stateOf(h.Name), n.Probe.Socket))
			}
		}
	}
}

// busyNodes returns those of some nodes that are busy, and how much each did in workSample. It
// returns an error if none is busy within workPatience.
func (fc *faultContext) busyNodes(ctx context.Context, nodes []supervise.NodeStatus) ([]supervise.NodeStatus, map[string]int64, error) {
	before := fc.stack.work(ctx, nodes)
	for deadline := time.Now().Add(workPatience); ; {
		if err := sleep(ctx, workSample); err != nil {
			return nil, nil, err
		}
		now := fc.stack.work(ctx, nodes)
		did := now.since(before)
		busy := slices.DeleteFunc(slices.Clone(nodes), func(n supervise.NodeStatus) bool { return did[n.Name] == 0 })
		if len(busy) > 0 {
			return busy, did, nil
		}
		if time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("%s %s: the fault would have struck nothing that is under load", joinNames(nodes), idle(nodes[0].Kind))
		}
		before = now
	}
}

// requireBusy records that the nodes to be struck are busy, or returns an error if they are not.
func (fc *faultContext) requireBusy(ctx context.Context, nodes ...supervise.NodeStatus) error {
	_, did, err := fc.busyNodes(ctx, nodes)
	if err != nil {
		return err
	}
	fc.recordWork(nodes, did)
	return nil
}

// recordWork records what nodes did just before they are struck.
func (fc *faultContext) recordWork(nodes []supervise.NodeStatus, did map[string]int64) {
	var words []string
	for _, n := range nodes {
		if did[n.Name] > 0 {
			words = append(words, fmt.Sprintf("%s %d %s", n.Name, did[n.Name], unit(n.Kind)))
		}
	}
	fc.evidence("under load: %s in %v", strings.Join(words, ", "), workSample)
}

// unit names what is counted for a kind of node.
func unit(k plan.Kind) string {
	if k == plan.Redis {
		return "commands"
	}
	return "requests"
}

// idle describes a node of a kind that has nothing to do.
func idle(k plan.Kind) string {
	if k == plan.Redis {
		return "carried out no command of an application"
	}
	return "got no request"
}
