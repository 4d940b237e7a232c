//go:build !linux || !(amd64 || arm64)

package web

import (
	"context"
	"errors"
	"net"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/fair"
)

// connManager decides where a connection is served. On these systems there is no event loop: the HTTP
// server serves everything.
type connManager struct {
	http      *fasthttp.Server
	listeners listenerSet
	table     *connTable // nil: no connection is closed to make room
}

// pendingRequest is a request under way on an event loop. There are none here.
type pendingRequest struct {
	closing bool
	requestState
}

func (*pendingRequest) peer() string { return "" }

func newConnManager(http *fasthttp.Server, _ fastResponder, _ int, _ *fair.TurnedAway) *connManager {
	return &connManager{http: http}
}

func (e *connManager) connections() int { return int(e.http.GetOpenConnectionsCount()) }

func (e *connManager) serve(ln net.Listener) error {
	if !e.listeners.add(ln) {
		return net.ErrClosed
	}
	defer e.listeners.done()
	return e.http.Serve(listener{ln})
}

func (e *connManager) shutdown(ctx context.Context) error {
	return errors.Join(e.listeners.close(), e.http.ShutdownWithContext(ctx))
}

func (e *connManager) wants([]byte) bool { return false }

func (e *connManager) reclaim(conn net.Conn, _ []byte, _ int32) error { return conn.Close() }

func (e *connManager) reserve() {}

func (e *connManager) unreserve() {}
