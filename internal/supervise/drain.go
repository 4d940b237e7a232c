package supervise

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
)

// drainLimit is how long a node may take at most to finish its requests before it is
// asked to stop all the same.
const drainLimit = 10 * time.Second

// drainTime is that time of one node: its grace, where that is shorter. What lasts, such as
// a WebSocket, is a request in hand like others, and would always take the whole of it.
func drainTime(p plan.Process) time.Duration { return min(drainLimit, p.Grace) }

// runningBalancers are clients of the runtime sockets of the balancers that
// are up, or in one of the other states.
func (s *Supervisor) runningBalancers(or ...State) []*haproxy.Client {
	return slices.Collect(maps.Values(s.balancersUp(or...)))
}

// balancersUp is runningBalancers by the names of the nodes.
func (s *Supervisor) balancersUp(or ...State) map[string]*haproxy.Client {
	clients := map[string]*haproxy.Client{}
	for _, st := range s.board.snapshot().Nodes {
		if st.Kind == plan.Balancer && st.PID != 0 && (st.State == Up || slices.Contains(or, st.State)) {
			clients[st.Name] = s.balancer(*s.node(st.Name).spec())
		}
	}
	return clients
}

// drain waits, for rotationLimit at most, until another node has taken over, takes
// a node out of service at every balancer and waits, for drainTime at most, until
// it has no request in hand. What fails is logged and does not
// keep the node from stopping: a request that meets its end is sent again.
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
		if !poll(ctx, func() bool { left = inHand(ctx, b, node); return left == 0 }) {
			s.log.Warn("still had requests in hand when it was stopped", "node", node, "requests", left)
			return
		}
	}
}

// awaitRelief waits, for rotationLimit at most, until every balancer sends
// requests to another node of the application, if there is one that is up: it
// may be so only since a moment ago, and a balancer needs two checks of its own
// to see it. One that hangs takes none of the others' time. When the stack is
// taken down nobody has to take over.
func (s *Supervisor) awaitRelief(ctx context.Context, balancers []*haproxy.Client, node string) {
	ctx, cancel := context.WithTimeout(ctx, s.rotationLimit())
	defer cancel()
	others := map[string]bool{}
	for _, st := range s.board.snapshot().Nodes {
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
				return s.stopping.Load() || err == nil && (served > 0 || there == 0) // 0: no route leads there
			}
			if !poll(ctx, relieved) && answered { // else nobody knows
				s.log.Warn("it is taken out of service although a balancer has no other node of its application", "node", node)
			}
		})
	}
	waiting.Wait()
}

// inHand is how many requests a node has of a balancer that answers.
func inHand(ctx context.Context, b *haproxy.Client, node string) (n int64) {
	stats, _ := b.Stat(ctx)
	for _, st := range stats {
		if st.Server == node {
			n += st.Sessions
		}
	}
	return n
}

// poll looks until a condition holds; false: the context ended before.
func poll(ctx context.Context, holds func() bool) bool {
	return pollEvery(ctx, 20*time.Millisecond, holds)
}

// pollEvery is poll with another time between two looks.
func pollEvery(ctx context.Context, every time.Duration, holds func() bool) bool {
	for !holds() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(every):
		}
	}
	return true
}

// enlist puts a node that is up back into service at every balancer.
func (s *Supervisor) enlist(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	state := haproxy.Ready
	if s.drained(node) {
		state = haproxy.Drain
	}
	// One that was adopted a moment ago may not be known to be up yet.
	if s.drained(node) { // by its operator
		return
	}
	spec := *s.node(node).spec()
	for balancer, b := range s.balancersUp(Starting) {
		// One that knows a former address would send requests there: it gets the new one when
		// it is reloaded.
		if !s.knownElsewhere(ctx, balancer, b, spec) {
			s.setServer(ctx, b, node, state)
		}
	}
	s.tellHealth(ctx, spec, true)
}

// setServer sets a node's state in every back end of a balancer that has it.
func (s *Supervisor) setServer(ctx context.Context, b *haproxy.Client, node string, state haproxy.State) {
	_, err := b.SetStateEverywhere(ctx, node, state)
	if err != nil && !errors.Is(err, haproxy.ErrNoServer) { // no route leads there
		s.log.Error("cannot change a server's state at a balancer", "node", node, "state", state, "error", err)
	}
}
