package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"holdfast/internal/plan"
)

const (
	// lookAtNamesEvery is how often the names of the Services are looked at, while the pod waits
	// or runs.
	lookAtNamesEvery = 30 * time.Second
	// resolveLimit is how long one name may take.
	resolveLimit = 5 * time.Second
)

// movedError is why a pod ends by itself: a Service has another address than the pod's plan,
// as after it was deleted and made again. The pod's next container plans anew.
type movedError struct{ node, was, is string }

func (e *movedError) Error() string {
	return fmt.Sprintf("the Service of %s has the address %s now, and had %s: the container ends, and the next one takes that up", e.node, e.is, e.was)
}

// watchNames looks whether a Service has another address than it had, and then tells moved. A
// name that does not resolve changes nothing. All pods see the same, and must not end at once:
// the one whose own Service it is goes first.
func (p *podProcess) watchNames(ctx context.Context, moved func(*movedError)) {
	nodes := plan.DataNodes(p.file)
	turn := 1 + slices.Index(nodes, p.pod.Node)
	if !p.pod.HasData() {
		turn = 1 + rand.IntN(len(nodes)+1)
	}
	for wait := lookAtNamesEvery; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		e := p.findMoved(ctx, nodes)
		switch {
		case e == nil:
			wait = lookAtNamesEvery
		case wait > lookAtNamesEvery || e.node == p.pod.Node:
			moved(e)
			return
		default: // seen again at its turn
			p.log.Warn("a Service has another address", "node", e.node, "was", e.was, "is", e.is)
			wait = time.Duration(1+turn) * lookAtNamesEvery
		}
	}
}

// findMoved returns the first Service with another address; nil: none is known to have one.
func (p *podProcess) findMoved(ctx context.Context, nodes []string) *movedError {
	for _, node := range nodes {
		limited, cancel := context.WithTimeout(ctx, resolveLimit)
		addresses, err := net.DefaultResolver.LookupHost(limited, inNamespace(plan.PodService(p.file, node)))
		cancel()
		if was := p.addresses[node]; err == nil && len(addresses) > 0 && !slices.Contains(addresses, was) {
			return &movedError{node, was, addresses[0]}
		}
	}
	return nil
}
