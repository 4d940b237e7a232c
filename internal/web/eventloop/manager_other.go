//go:build !linux || !(amd64 || arm64)

package eventloop

import (
	"context"
	"errors"
	"net"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/fair"
)

// Manager decides where a connection is served. On these systems there is no event loop: the HTTP
// server serves everything.
type Manager struct {
	http      *fasthttp.Server
	listeners listenerSet
	table     *connTable // nil: no connection is closed to make room
}

// place is where a pending request came from. There are none here.
type place struct{}

// Peer returns the source of a pending request's connection.
func (*Pending) Peer() string { return "" }

// New returns a manager. It starts nothing.
func New(http *fasthttp.Server, _ Handler, _ int, _ *fair.TurnedAway) *Manager {
	return &Manager{http: http}
}

// Connections returns how many connections are open.
func (e *Manager) Connections() int { return int(e.http.GetOpenConnectionsCount()) }

// Serve serves a listener's connections until shutdown.
func (e *Manager) Serve(ln net.Listener) error {
	if !e.listeners.add(ln) {
		return net.ErrClosed
	}
	defer e.listeners.done()
	return e.http.Serve(listener{ln})
}

// Shutdown ends serving: no connection is accepted any more, and requests under way are answered.
func (e *Manager) Shutdown(ctx context.Context) error {
	return errors.Join(e.listeners.close(), e.http.ShutdownWithContext(ctx))
}

func (e *Manager) wants([]byte) bool { return false }

func (e *Manager) reclaim(conn net.Conn, _ []byte, _ int32) error { return conn.Close() }

func (e *Manager) reserve() {}

func (e *Manager) unreserve() {}
