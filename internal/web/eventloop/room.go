package eventloop

import (
	"cmp"
	"net"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/web/fair"
)

// A node has room for a number of connections. When nearly all of it is taken, connections that
// wait for their clients are closed: those of the client address with most of them first. Of one
// address, connections with a part of a request go before idle ones, and then the oldest first. So
// a client that opens thousands of connections and sends nothing, or not all of a request, keeps
// nobody out: not even others at its address.

const (
	// When less than 1/scarcePart of the connections is free, as many are closed.
	scarcePart = 16
	// maxParts is how many connections may have a part of a request. The HTTP server has a buffer
	// of httpfast.MaxHeader for each of them: 256 MB together.
	maxParts = 2048
	// roomPeriod is the least time between two times that connections are closed for room, because
	// looking for them takes some milliseconds.
	roomPeriod = 20 * time.Millisecond
)

// connState is what a connection of the HTTP server does at the moment.
type connState int32

const (
	awaits   connState = iota // nothing came of the next request
	arrives                   // a part of a request came
	serves                    // its request is being answered
	lingers                   // it had its last response, and its client may still be sending
	yielding                  // it is being closed for room
	closed
)

// waiting is a connection that waits for its client.
type waiting struct {
	source string
	part   bool          // a part of a request came
	since  time.Duration // when it began to wait, since the process began to serve
	close  func()
}

// choose returns count of the connections, or all if there are fewer: those to close.
func choose(all []waiting, count int) []waiting {
	of := map[string][]waiting{}
	for _, w := range all {
		of[w.source] = append(of[w.source], w)
	}
	var sources [][]waiting
	for _, mine := range of {
		slices.SortFunc(mine, func(a, b waiting) int {
			if a.part != b.part {
				if a.part {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.since, b.since)
		})
		sources = append(sources, mine)
	}
	slices.SortFunc(sources, func(a, b []waiting) int { return cmp.Compare(len(b), len(a)) })

	// Find the highest level of connections for a source such that closing all beyond it is enough.
	// So the greediest sources come down to what others have.
	beyond := func(level int) (n int) {
		for _, mine := range sources {
			n += max(0, len(mine)-level)
		}
		return n
	}
	level := max(0, sort.Search(len(all)+1, func(level int) bool { return beyond(level) < count })-1)
	var chosen []waiting
	for _, mine := range sources {
		chosen = append(chosen, mine[:max(0, len(mine)-level)]...)
	}
	return chosen[:min(count, len(chosen))]
}

// connTable has the connections of the HTTP server, from before they are given to it until they are
// closed, because some may have to be closed to make room.
type connTable struct {
	began    time.Time
	mu       sync.Mutex
	conns    map[*conn]struct{}
	last     atomic.Int64 // when some were closed, since began
	open     atomic.Int64 // the number of conns
	parts    atomic.Int64 // those with a part of a request
	maxParts int
	turned   *fair.TurnedAway
}

func newConnTable(t *fair.TurnedAway) *connTable {
	return &connTable{began: time.Now(), conns: map[*conn]struct{}{}, maxParts: maxParts, turned: t}
}

// clock returns the time since began. It is monotonic: the wall clock may be set.
func (r *connTable) clock() time.Duration { return time.Since(r.began) }

func (r *connTable) enter(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = struct{}{}
	r.open.Store(int64(len(r.conns)))
}

func (r *connTable) leave(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	r.open.Store(int64(len(r.conns)))
}

// waiting returns the connections that do one of those.
func (r *connTable) waiting(those ...connState) []waiting {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []waiting
	for c := range r.conns {
		if what := connState(c.doing.Load()); slices.Contains(those, what) {
			all = append(all, waiting{fair.Source(c.RemoteAddr()), what != awaits, time.Duration(c.since.Load()), c.yield})
		}
	}
	return all
}

// due reports whether connections may be closed again. If so, the next time is roomPeriod away.
func (r *connTable) due() bool {
	last, now := r.last.Load(), int64(r.clock())
	return now-last >= int64(roomPeriod) && r.last.CompareAndSwap(last, now)
}

// is notes what a connection does from now on, and makes room when too many have a part of a
// request.
func (c *conn) is(what connState) {
	if c.table == nil {
		return
	}
	was := connState(c.doing.Swap(int32(what)))
	if was == what {
		return
	}
	c.since.Store(int64(c.table.clock()))
	if was == arrives {
		c.table.parts.Add(-1)
	}
	if what != arrives {
		return
	}
	if beyond := int(c.table.parts.Add(1)) - c.table.maxParts; beyond > 0 && c.table.due() {
		c.table.closeAll(choose(c.table.waiting(arrives), beyond+c.table.maxParts/scarcePart))
	}
}

// closeAll closes connections.
func (r *connTable) closeAll(chosen []waiting) {
	for _, w := range chosen {
		w.close()
		r.turned.Waiting.Add(1)
	}
}

// yield ends the wait for the client, so that the HTTP server closes the connection.
func (c *conn) yield() {
	c.is(yielding)
	_ = c.SetReadDeadline(time.Unix(1, 0))
}

// Serving notes that the request of a connection is being answered: the connection does not wait for
// its client.
func Serving(c net.Conn) {
	if c, ok := c.(*conn); ok {
		c.is(serves)
	}
}
