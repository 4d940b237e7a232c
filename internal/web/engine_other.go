//go:build !linux || !(amd64 || arm64)

package web

import (
	"context"
	"errors"
	"net"

	"github.com/valyala/fasthttp"
)

// engine decides where a connection is served. On these systems there is no event loop: the HTTP
// server serves everything.
type engine struct {
	http  *fasthttp.Server
	gate  gate
	table *connTable // nil: no connection is closed to make room
}

// flight is a request under way on an event loop. There are none here.
type flight struct {
	closing bool
	journey
}

func (*flight) peer() string { return "" }

func newEngine(http *fasthttp.Server, _ responder, _ int, _ *turned) *engine {
	return &engine{http: http}
}

func (e *engine) connections() int { return int(e.http.GetOpenConnectionsCount()) }

func (e *engine) serve(ln net.Listener) error {
	if !e.gate.admit(ln) {
		return net.ErrClosed
	}
	defer e.gate.leave()
	return e.http.Serve(listener{ln})
}

func (e *engine) shutdown(ctx context.Context) error {
	return errors.Join(e.gate.close(), e.http.ShutdownWithContext(ctx))
}

func (e *engine) wants([]byte) bool { return false }

func (e *engine) takeBack(conn net.Conn, _ []byte, _ int32) error { return conn.Close() }

func (e *engine) claim() {}

func (e *engine) disclaim() {}
