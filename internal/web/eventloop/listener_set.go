package eventloop

import (
	"errors"
	"net"
	"sync"
)

// listenerSet has the listeners that are served, and closes each once. That includes one whose
// server has not begun to accept yet: that server would wait for it for ever otherwise.
type listenerSet struct {
	mu      sync.Mutex
	shut    bool
	lns     []net.Listener
	serving sync.WaitGroup
}

// add adds a listener, which has to leave when it is served no more. It reports whether that was
// in time; else the listener is closed.
func (g *listenerSet) add(ln net.Listener) bool {
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

// done notes that one listener is served no more.
func (g *listenerSet) done() { g.serving.Done() }

// close closes all listeners; later ones are not admitted.
func (g *listenerSet) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var err error
	for _, ln := range g.lns {
		err = errors.Join(err, ln.Close())
	}
	g.lns, g.shut = nil, true
	return err
}
