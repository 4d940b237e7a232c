package web

import (
	"errors"
	"net"
	"sync"
)

// gate has the listeners that are served, and closes each once: also one whose
// server has yet to begin, which would otherwise wait for it for ever.
type gate struct {
	mu      sync.Mutex
	shut    bool
	lns     []net.Listener
	serving sync.WaitGroup
}

// admit takes a listener in until leave; too late, it is closed.
func (g *gate) admit(ln net.Listener) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		_ = ln.Close()
		return false
	}
	g.lns = append(g.lns, ln)
	g.serving.Add(1)
	return true
}

// leave says that a listener is served no more.
func (g *gate) leave() { g.serving.Done() }

// close closes the listeners, for good.
func (g *gate) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var err error
	for _, ln := range g.lns {
		err = errors.Join(err, ln.Close())
	}
	g.lns, g.shut = nil, true
	return err
}
