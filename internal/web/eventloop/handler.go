package eventloop

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/web/httpfast"
)

// Handler answers simple requests on loops. Several loops call it at once. Its methods do not block,
// except for FinishTo and Express, which goroutines of their own call.
type Handler interface {
	// Wants reports whether the handler answers a request of this kind.
	Wants(q *httpfast.Request) bool
	// Respond begins to answer a request. Either the response is appended to out at once, or it is
	// made later, when the request has landed. Or the request is declined, and nothing was done.
	Respond(p *Pending, q *httpfast.Request, out []byte) ([]byte, Progress)
	// Long reports whether the response of a pending request that has landed is so long that the
	// loop should not wait while it is made.
	Long(p *Pending) bool
	// Finish appends the response of a pending request that has landed.
	Finish(p *Pending, out []byte) []byte
	// FinishTo writes the response of a pending request that has landed to conn, in pieces where it
	// is long.
	FinishTo(p *Pending, conn net.Conn) error
	// Express makes a connection for a loop's read connection: see redis.Client. The error is
	// errors.ErrUnsupported where there will never be one.
	Express(ctx context.Context) (*redis.Express, net.Conn, error)
	// Answered counts requests that were answered at once from the cache: each within took, some
	// microseconds, since the loop was told of them.
	Answered(requests int, took time.Duration)
	// Again asks for a pending request's command in the usual way, not by the read connection. It
	// reports whether the request has landed already.
	Again(p *Pending) bool
}

// Progress is how far a request on a loop got.
type Progress int

// The values of Progress.
const (
	Declined Progress = iota // it is left to the HTTP server
	Answered                 // the response is made
	Landed                   // the outcome is there, but its response is long: see Handler.Long
	Underway                 // the request will land
)

// Pending is a request under way on a loop, from its reading until its response is written. It lands
// when its outcome is there. Loops use it again for other requests.
type Pending struct {
	// Request is what the handler asks Redis for. Its answer may be read until the response is
	// written.
	Request redis.Request
	// Err is why the whole request failed.
	Err     error
	Closing bool // the connection closes after the response
	// Memory is the loop's, or the request's own where the response is made aside.
	Memory *Memory
	// State is the handler's own. A loop keeps it for the next request.
	State any
	// Started takes the outcome of Request, and lands the request. It is the callback of
	// redis.Client.Start.
	Started func(error)
	// Board puts Request into the next batch of the loop's read connection. It reports false if the
	// request cannot go there. spec is what Redis reports about its command.
	Board func(spec *redis.Spec) bool

	// phase decides who has the response written: the goroutine that started the request, if the
	// outcome was there before that goroutine was done, else the goroutine that brings the outcome.
	phase atomic.Int32
	place // where the request came from
}

// NewPending returns a pending request without Board. land is called when its outcome is there,
// unless that was so before the request had been started.
func NewPending(m *Memory, land func(*Pending)) *Pending {
	f := &Pending{Memory: m}
	f.Started = func(err error) {
		if f.lands(err) {
			land(f)
		}
	}
	return f
}

// Memory is scratch memory that the requests of a loop use one after the other, each only while the
// loop works on it.
type Memory struct {
	// Turn is when the loop last began to work on events, and Now when it last read the clock since.
	Turn, Now time.Time
	Hits      int // requests answered from the cache since that reading
	Scratch   any // the handler's own
}

// KeepOut is how large the buffers for responses may stay, in bytes.
const KeepOut = 256 << 10

// The values of Pending.phase.
const (
	starting int32 = iota // the request is being started
	early                 // its outcome came before it had been started
	under                 // it has been started, and its outcome is still to come
)

// LandedEarly reports whether the outcome is there already. The handler calls it once, when it has
// started the request.
func (f *Pending) LandedEarly() bool { return !f.phase.CompareAndSwap(starting, under) }

// lands stores the outcome. It reports whether the request had been started: if so, the caller lands
// it.
func (f *Pending) lands(err error) bool {
	f.Err = err
	return !f.phase.CompareAndSwap(starting, early)
}

// Renew makes a pending request ready for its next request. The handler calls it when the response
// is made.
func (f *Pending) Renew() {
	f.Err = nil
	f.phase.Store(starting)
}
