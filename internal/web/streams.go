package web

import (
	"fmt"

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

// places are those of streams and long polls.
type places struct {
	// lasting has the places of streams and long polls, monitors those of /monitor, which are
	// counted by themselves.
	lasting, monitors *shares
	senders           *senders
	turned            *turned
}

// newPlaces returns so many places, of which each sender may have so many; 0: at most as many as are
// free.
func newPlaces(limit, each int, of *senders, t *turned) *places {
	return &places{lasting: newShares(limit, each, 1), monitors: newShares(maxMonitors, 0, 1), senders: of, turned: t}
}

// take takes the places of a stream or long poll that listens to so many names. The error is a 429.
func (p *places) take(ctx *fasthttp.RequestCtx, who *token.Rights, names int) (place, error) {
	return p.from(p.lasting, ctx, who, 1+max(0, names-1)/namesPerPlace, "streams and long polls")
}

// takeMonitor takes a place for a stream of /monitor.
func (p *places) takeMonitor(ctx *fasthttp.RequestCtx, who *token.Rights) (place, error) {
	return p.from(p.monitors, ctx, who, 1, "streams of all commands")
}

// inUse returns how many places streams and long polls take.
func (p *places) inUse() int { return p.lasting.inUse() }

func (p *places) from(of *shares, ctx *fasthttp.RequestCtx, who *token.Rights, n int, what string) (place, error) {
	mine := place{of: of, sender: p.senders.of(ctx, who), n: n}
	if of.take(mine.sender, n) {
		return mine, nil
	}
	p.turned.streams.Add(1)
	whose := "this client address"
	if who != nil {
		whose = "this token"
	}
	return place{}, newError(fasthttp.StatusTooManyRequests, fmt.Sprintf("ERR too many %s of %s are open at this node; close some, or try again in a moment", what, whose))
}
