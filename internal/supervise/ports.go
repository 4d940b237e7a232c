package supervise

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"strconv"
	"sync"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// Ports that the stack file leaves open are chosen from below the range that the kernel uses
// for outgoing connections (32768 and up on Linux). A port in that range may be in use by a
// connection when a node needs it back.
const (
	firstPort = 20000
	lastPort  = 32000
)

// choosePorts gives each need a port: the fixed one, otherwise the one that the node had
// before, otherwise the preferred one if it is free, otherwise any free one. A port that is
// kept for a node which is not in the stack now is not given away, unless the stack file names
// it. The search starts at a place that depends on the stack's name, so that two stacks choose
// different ports.
func choosePorts(stackName string, needs []plan.PortNeed, kept map[string]int, free func(port int) bool) (map[string]int, error) {
	ports := map[string]int{}
	taken := map[int]bool{}
	for _, n := range needs {
		if p := n.Fixed; p != 0 {
			ports[n.Node], taken[p] = p, true
		}
	}

	for _, n := range needs {
		if p := kept[n.Node]; n.Fixed == 0 && p != 0 && !taken[p] {
			ports[n.Node], taken[p] = p, true
		}
	}

	for _, p := range kept {
		taken[p] = true
	}

	h := fnv.New32a()
	h.Write([]byte(stackName))
	next := firstPort + int(h.Sum32())%(lastPort-firstPort)

	for _, n := range needs {
		if ports[n.Node] != 0 {
			continue
		}
		if p := n.Preferred; p != 0 && !taken[p] && free(p) {
			ports[n.Node], taken[p] = p, true
			continue
		}
		for range lastPort - firstPort {
			p := next
			if next++; next >= lastPort {
				next = firstPort
			}
			if !taken[p] && free(p) {
				ports[n.Node], taken[p] = p, true
				break
			}
		}
		if ports[n.Node] == 0 {
			return nil, fmt.Errorf("no free port for %s between %d and %d", n.Node, firstPort, lastPort)
		}
	}
	return ports, nil
}

// claims are the ports of this machine that a supervisor has chosen for nodes. The supervisor
// keeps them from its choice until it ends: a node listens only seconds later, and without the
// claim the supervisor or a node of another stack could take the port in between. The zero
// value has no ports. claims is safe for concurrent use.
type claims struct {
	mu   sync.Mutex
	held map[int]io.Closer
}

// claim claims a port, and reports whether this supervisor has it. It returns false if another
// supervisor has it.
func (c *claims) claim(port int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[port] != nil {
		return true
	}
	claim, free := machine.Claim(port)
	if free {
		if c.held == nil {
			c.held = map[int]io.Closer{}
		}
		c.held[port] = claim
	}
	return free
}

// release gives up the claim of a port that is not used after all.
func (c *claims) release(port int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.held[port]; l != nil {
		_ = l.Close() // nothing connects to it, so nothing is lost
		delete(c.held, port)
	}
}

// all claims the ports of a plan. A port that another stack has claimed stays in the plan: the
// start of the node there finds out (see checkAddresses).
func (c *claims) all(ports map[string]int) {
	if c == nil {
		return
	}
	for _, port := range ports {
		c.claim(port)
	}
}

func (c *claims) close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.held {
		_ = l.Close()
	}
	c.held = nil
}

// free reports whether a port of this machine can be chosen for a node: nothing listens there,
// and no other supervisor has chosen it. If the caller is a supervisor, free also claims the
// port.
func (h hosts) free(ctx context.Context, port int) bool {
	if h.claims == nil { // the caller only looks
		claim, free := machine.Claim(port)
		if free {
			_ = claim.Close() // nobody else had it
		}
		return free && h.listensNobody(ctx, port)
	}
	if !h.claims.claim(port) {
		return false
	}
	free := h.listensNobody(ctx, port)
	if !free {
		h.claims.release(port)
	}
	return free
}

func (h hosts) listensNobody(ctx context.Context, port int) bool {
	return h.here.Free(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) == nil
}

// splitAddress splits an address of the plan.
func splitAddress(address string) (host, port string) {
	host, port, _ = net.SplitHostPort(address)
	return host, port
}

// atoi returns the number that s is, such as a port; 0 if it is no number.
func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
