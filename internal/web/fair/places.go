package fair

import (
	"fmt"

	"github.com/valyala/fasthttp"

	"holdfast/internal/token"
	"holdfast/internal/web/response"
)

// maxMonitors is how many streams of /monitor a node has at once, of all clients together. Each is
// a connection to the master, which writes every command that it carries out to each of them.
const maxMonitors = 16

// namesPerPlace is how many channels or patterns a stream may listen to for one place; with more it
// takes more places.
const namesPerPlace = 8

// Place is what a stream or long poll takes while it lasts. It has to leave once.
type Place struct {
	of     *shares
	sender string
	n      int
}

// Leave gives the place back.
func (p Place) Leave() { p.of.leave(p.sender, p.n) }

// Places are those of streams and long polls.
type Places struct {
	// lasting has the places of streams and long polls, monitors those of /monitor, which are
	// counted by themselves.
	lasting, monitors *shares
	senders           *Senders
	turned            *TurnedAway
}

// NewPlaces returns so many places, of which each sender may have so many; 0: at most as many as are
// free.
func NewPlaces(limit, each int, of *Senders, t *TurnedAway) *Places {
	return &Places{lasting: newShares(limit, each, 1), monitors: newShares(maxMonitors, 0, 1), senders: of, turned: t}
}

// Take takes the places of a stream or long poll that listens to so many names. The error is a 429.
func (p *Places) Take(ctx *fasthttp.RequestCtx, who *token.Rights, names int) (Place, error) {
	return p.from(p.lasting, ctx, who, 1+max(0, names-1)/namesPerPlace, "streams and long polls")
}

// TakeMonitor takes a place for a stream of /monitor.
func (p *Places) TakeMonitor(ctx *fasthttp.RequestCtx, who *token.Rights) (Place, error) {
	return p.from(p.monitors, ctx, who, 1, "streams of all commands")
}

// InUse returns how many places streams and long polls take.
func (p *Places) InUse() int { return p.lasting.inUse() }

func (p *Places) from(of *shares, ctx *fasthttp.RequestCtx, who *token.Rights, n int, what string) (Place, error) {
	mine := Place{of: of, sender: p.senders.Sender(ctx, who), n: n}
	if of.take(mine.sender, n) {
		return mine, nil
	}
	p.turned.Streams.Add(1)
	whose := "this client address"
	if who != nil {
		whose = "this token"
	}
	return Place{}, response.NewError(fasthttp.StatusTooManyRequests, fmt.Sprintf("ERR too many %s of %s are open at this node; close some, or try again in a moment", what, whose))
}
