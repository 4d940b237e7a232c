package web

import (
	"fmt"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"holdfast/internal/token"
)

// maxMonitors is how many streams of /monitor a node has at once, of all clients together. Each is
// a connection to the master, which writes every command that it carries out to each of them.
const maxMonitors = 16

// namesPerPlace is how many channels or patterns a stream may listen to for one place; with more it
// takes more places.
const namesPerPlace = 8

// place is what a stream or long poll takes while it lasts. It has to leave once.
type place struct {
	of     *shares
	sender string
	n      int
}

func (p place) leave() { p.of.leave(p.sender, p.n) }

// takePlace takes the places of a stream or long poll that listens to so many names. The error is a
// 429.
func (s *Server) takePlace(ctx *fasthttp.RequestCtx, who *token.Rights, names int) (place, error) {
	return s.placeOf(ctx, who, s.lasting, 1+max(0, names-1)/namesPerPlace, "streams and long polls", &s.engine.turned.streams)
}

// takeMonitor takes a place for a stream of /monitor.
func (s *Server) takeMonitor(ctx *fasthttp.RequestCtx, who *token.Rights) (place, error) {
	return s.placeOf(ctx, who, s.monitors, 1, "streams of all commands", &s.engine.turned.streams)
}

func (s *Server) placeOf(ctx *fasthttp.RequestCtx, who *token.Rights, of *shares, n int, what string, turned *atomic.Uint64) (place, error) {
	p := place{of: of, sender: s.sender(ctx, who), n: n}
	if of.take(p.sender, n) {
		return p, nil
	}
	turned.Add(1)
	whose := "this client address"
	if who != nil {
		whose = "this token"
	}
	return place{}, &failure{fasthttp.StatusTooManyRequests, fmt.Sprintf("ERR too many %s of %s are open at this node; close some, or try again in a moment", what, whose)}
}
