//go:build !linux || !(amd64 || arm64)

package web

import (
	"context"
	"errors"
	"net"

	"github.com/valyala/fasthttp"
)

// engine is the way of connections: here, the HTTP server serves everything.
type engine struct {
	http   *fasthttp.Server
	gate   gate
	table  *connTable // nil: no connection is closed for want of room
	turned turned
}

// flight is one request on its way on an event loop, of which there is none.
type flight struct {
	closing bool
	journey
}

func (*flight) peer() string { return "" }

func newEngine(http *fasthttp.Server, _ responder, _ int) *engine { return &engine{http: http} }

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
