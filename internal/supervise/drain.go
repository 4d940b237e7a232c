package supervise

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
)

// drainLimit is how long a node may take at most to finish its requests, before it is told to
// stop all the same.
const drainLimit = 10 * time.Second

// drainTime returns drainLimit, or the node's grace where that is shorter. A request that does
// not end, such as a WebSocket, would always use up the whole drainLimit.
func drainTime(p plan.Process) time.Duration { return min(drainLimit, p.Grace) }

// runningBalancers returns clients of the runtime sockets of the balancers that are up, or in
// one of the other states.
func (s *Supervisor) runningBalancers(or ...State) []*haproxy.Client {
	return slices.Collect(maps.Values(s.balancersUp(or...)))
}

// balancersUp is runningBalancers, by the names of the nodes.
func (s *Supervisor) balancersUp(or ...State) map[string]*haproxy.Client {
	clients := map[string]*haproxy.Client{}
	for _, st := range s.statusBoard.snapshot().Nodes {
		if st.Kind == plan.Balancer && st.PID != 0 && (st.State == Up || slices.Contains(or, st.State)) {
			clients[st.Name] = s.balancer(*s.node(st.Name).spec())
		}
	}
	return clients
}

// drain takes a node out of service. First it waits, for at most rotationLimit, until another
// node has taken over. Then it has every balancer send the node nothing new, and waits, for at
// most drainTime, until the node has no request in hand. An error is logged and does not keep
// the node from stopping: HAProxy repeats a request that is cut off.
func (s *Supervisor) drain(ctx context.Context, node string) {
	balancers := s.runningBalancers()
	s.awaitRelief(ctx, balancers, node)

	ctx, cancel := context.WithTimeout(ctx, drainTime(*s.node(node).spec()))
	defer cancel()

	for _, b := range balancers {
		s.setServer(ctx, b, node, haproxy.Drain)
	}
	for _, b := range balancers {
		left := int64(0)
		if !poll(ctx, func() bool { left = openRequests(ctx, b, node); return left == 0 }) {
			s.log.Warn("still had requests in hand when it was stopped", "node", node, "requests", left)
			return
		}
	}
}

// awaitRelief waits, for at most rotationLimit, until every balancer sends requests to another
// node of the application, if one is up. It may have come up just now, and a balancer notices it
// only after two checks of its own. The balancers are asked at once, so that one that hangs
// takes no time from the others. When the stack is being taken down, no other node has to take
// over.
func (s *Supervisor) awaitRelief(ctx context.Context, balancers []*haproxy.Client, node string) {
	ctx, cancel := context.WithTimeout(ctx, s.rotationLimit())
	defer cancel()

	others := map[string]bool{}
	for _, st := range s.statusBoard.snapshot().Nodes {
		if st.App == s.node(node).spec().App && st.Name != node && st.State == Up {
			others[st.Name] = true
		}
	}
	if len(others) == 0 {
		return
	}

	var waiting sync.WaitGroup
	for _, b := range balancers {
		waiting.Go(func() {
			answered := false
			relieved := func() bool {
				there, served, err := inRotation(ctx, b, others)
				answered = answered || err == nil
				return s.stopping.Load() || err == nil && (served > 0 || there == 0) // there == 0: no route leads to them
			}
			if !poll(ctx, relieved) && answered { // without a reply nothing is known
				s.log.Warn("it is taken out of service although a balancer has no other node of its application", "node", node)
			}
		})
	}
	waiting.Wait()
}

// openRequests returns how many requests of a balancer a node has in hand; 0 if the balancer does
// not reply.
func openRequests(ctx context.Context, b *haproxy.Client, node string) (n int64) {
	stats, _ := b.Stat(ctx)
	for _, st := range stats {
		if st.Server == node {
			n += st.Sessions
		}
	}
	return n
}

// poll waits until a condition holds, and returns false if the context ends first.
func poll(ctx context.Context, holds func() bool) bool {
	return clock.Poll(ctx, 20*time.Millisecond, holds)
}

// putIntoService puts a node that is up back into service at every balancer, unless an operator has
// drained it.
func (s *Supervisor) putIntoService(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	if s.drained(node) { // by an operator
		return
	}
	spec := *s.node(node).spec()

	// A balancer that was just adopted may still count as starting.
	for balancer, b := range s.balancersUp(Starting) {
		// A balancer that knows the node at a former address would send requests there. It gets
		// the new address when it is reloaded.
		if !s.knownElsewhere(ctx, balancer, b, spec) {
			s.setServer(ctx, b, node, haproxy.Ready)
		}
	}

	s.tellHealth(ctx, spec, true)
}

// setServer sets a node's state in every backend of a balancer that has the node.
func (s *Supervisor) setServer(ctx context.Context, b *haproxy.Client, node string, state haproxy.State) {
	_, err := b.SetStateEverywhere(ctx, node, state)
	if err != nil && !errors.Is(err, haproxy.ErrNoServer) { // ErrNoServer: no route leads to it
		s.log.Error("cannot change a server's state at a balancer", "node", node, "state", state, "error", err)
	}
}
