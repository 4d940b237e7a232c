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

// Ports that the stack file leaves open are taken from below the range that
// the kernel gives to outgoing connections (32768 and up on Linux): a port out
// of that range may be somebody's connection when a node wants it back.
const (
	firstPort = 20000
	lastPort  = 32000
)

// choosePorts gives a port to every need: the fixed one, else the one it had
// before, else the preferred one when it is free, else any free one. A port that
// is kept for a node which the stack does not have now is given to nobody, unless
// the stack file names it. Two stacks start looking at different places.
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

// claims are the ports of this machine that a supervisor has chosen for nodes. It claims
// them from its choice until it ends: a node listens only seconds later, and another
// stack's supervisor, or a node of it, would have the port by then. The zero value has
// none; it is safe for concurrent use.
type claims struct {
	mu   sync.Mutex
	held map[int]io.Closer
}

// claim reports whether a port is this supervisor's from now on, and false when another
// one has it.
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

// release ends the claim of a port that is not used after all.
func (c *claims) release(port int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.held[port]; l != nil {
		_ = l.Close() // nobody connects to it: nothing is lost
		delete(c.held, port)
	}
}

// all claims the ports that a plan has. One that another stack has, too, is kept all the
// same: who starts a node there finds out (see checkAddresses).
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

// free reports whether a port of this machine can be chosen for a node: nobody listens
// there, and no other supervisor has chosen it. A supervisor that asks claims the port, too.
func (h hosts) free(ctx context.Context, port int) bool {
	if h.claims == nil { // somebody who only looks
		claim, free := machine.Claim(port)
		if free {
			_ = claim.Close() // it was nobody's
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
