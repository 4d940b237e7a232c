package web

import (
	"bufio"
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/command"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
	"holdfast/internal/web/routes"
)

// fastResponder answers simple requests on a loop. Its methods do not block, except for finishTo and
// express, which goroutines of their own call.
type fastResponder interface {
	// wants reports whether the responder answers a request of this kind.
	wants(q *httpfast.Request) bool
	// respond begins to answer a request. Either the response is appended to out at once, or it is
	// made later, when the request has landed. Or the request is declined, and nothing was done.
	respond(f *pendingRequest, q *httpfast.Request, out []byte) ([]byte, progress)
	// long reports whether the response of a pending request that has landed is so long that the
	// loop should not wait while it is made.
	long(f *pendingRequest) bool
	// finish appends the response of a pending request that has landed.
	finish(f *pendingRequest, out []byte) []byte
	// finishTo writes the response of a pending request that has landed to conn, in pieces where it
	// is long.
	finishTo(f *pendingRequest, conn net.Conn) error
	// express makes a connection for a loop's read connection: see redis.Client. The error is
	// errors.ErrUnsupported where there will never be one.
	express(ctx context.Context) (*redis.Express, net.Conn, error)
	// answered counts requests that were answered at once from the cache: each within took, some
	// microseconds, since the loop was told of them.
	answered(requests int, took time.Duration)
	// again asks for a pending request's command in the usual way, not by the read connection. It
	// reports whether the request has landed already.
	again(f *pendingRequest) bool
}

// progress is how far a request on a loop got.
type progress int

// The values of progress.
const (
	declined progress = iota // it is left to the HTTP server
	answered                 // the response is made
	landed                   // the outcome is there, but its response is long: see long
	pending                  // the request will land
)

// requestState is what a responder keeps of a request under way.
type requestState struct {
	request redis.Request
	// lent holds the command while borrowed is true. Its memory may be reused as soon as the
	// response is written, because the read connection, unlike Client.Start, keeps no reference to the
	// command.
	lent     command.BorrowedCommand
	borrowed bool
	began    time.Time
	method   int
	came     routes.Form // how the command came
	form     response.Form
	err      error
	memory   *scratch    // the loop's, or the request's own where the response is made aside
	started  func(error) // takes the outcome and lands the request; made once
	// board puts the request on the loop's read connection, or reports false; made once.
	board func(*redis.Spec) bool
	// phase decides who has the response written: the goroutine that started the request, if the
	// outcome was there before that goroutine was done, else the goroutine that brings the outcome.
	phase atomic.Int32
}

// scratch is scratch space that the requests of a loop use one after the other, each only while the
// loop works on it.
type scratch struct {
	arguments command.Arguments
	body      []byte
	// turn is when the loop last began to work on events, and now when it last read the clock
	// since.
	turn, now time.Time
	hits      int // requests answered from the cache since that reading
	// ctx and writer render responses with the server's own functions; made once.
	ctx    *fasthttp.RequestCtx
	writer *bufio.Writer
}

// keepOut is how large the buffers for responses may stay, in bytes.
const keepOut = 256 << 10

// The values of requestState.phase.
const (
	starting int32 = iota // the request is being started
	early                 // its outcome came before it had been started
	under                 // it has been started, and its outcome is still to come
)

// landedEarly reports whether the outcome is there already. It is called once, when the request has
// been started.
func (j *requestState) landedEarly() bool { return !j.phase.CompareAndSwap(starting, under) }

// lands stores the outcome. It reports whether the request had been started: if so, the caller lands
// it.
func (j *requestState) lands(err error) bool {
	j.err = err
	return !j.phase.CompareAndSwap(starting, early)
}

// tidy empties the arguments, and frees them if they grew large.
func (m *scratch) tidy() {
	if m.arguments.Large() {
		m.arguments = command.Arguments{}
	}
	m.arguments.Reset()
}
