package web

import (
	"cmp"
	"net"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// A node has room for so many connections. When nearly all of it is taken, those
// that wait for their clients are closed: of the client address that has most of
// them first, and of one address the oldest first, those with a part of a request
// before those that idle. So a client that opens thousands of connections and
// says nothing, or not all, keeps nobody out: not even others of its address.

const (
	// scarcePart is which part of the connections may be free before some are
	// closed, and how many are closed then.
	scarcePart = 16
	// maxParts is how many connections may have a part of a request. The HTTP server
	// has a buffer of maxHeader for each of them: 256 MB together.
	maxParts = 2048
	// roomPeriod lies between two times that connections are closed for room: to
	// look for them takes some milliseconds.
	roomPeriod = 20 * time.Millisecond
)

// doing is what a connection of the HTTP server does.
type doing int32

const (
	awaits   doing = iota // nothing came of the next request
	arrives               // a part of a request came
	serves                // its request is being answered
	lingers               // it had its last answer, and its client may yet send
	yielding              // it is being closed for room
	closed
)

// waiting is a connection that waits for its client.
type waiting struct {
	source string
	part   bool          // a part of a request came
	since  time.Duration // of the process' clock
	close  func()
}

// choose returns those of the connections to close so that count are closed.
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

	// What they have beyond a level is closed, for the highest level by which that
	// is enough: so the greediest come down to what others have.
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

// turned counts what a node turned away because there was too much of it.
type turned struct {
	connections, waiting, streams, bodies atomic.Uint64
}

// connTable has the connections of the HTTP server, from before they are given to it
// until they are closed: some may have to be closed for want of room.
type connTable struct {
	began    time.Time
	mu       sync.Mutex
	conns    map[*conn]struct{}
	last     atomic.Int64 // when some were closed, since began
	open     atomic.Int64 // the number of conns
	parts    atomic.Int64 // those with a part of a request
	maxParts int
	turned   *turned
}

func newConnTable(t *turned) *connTable {
	return &connTable{began: time.Now(), conns: map[*conn]struct{}{}, maxParts: maxParts, turned: t}
}

// clock is the time since the process began to serve. It is not the wall clock's,
// which may be set.
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

// waiting are the HTTP server's connections that do one of those.
func (r *connTable) waiting(those ...doing) []waiting {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []waiting
	for c := range r.conns {
		if what := doing(c.doing.Load()); slices.Contains(those, what) {
			all = append(all, waiting{source(c.RemoteAddr()), what != awaits, time.Duration(c.since.Load()), c.yield})
		}
	}
	return all
}

// due reports whether connections may be closed again.
func (r *connTable) due() bool {
	last, now := r.last.Load(), int64(r.clock())
	return now-last >= int64(roomPeriod) && r.last.CompareAndSwap(last, now)
}

// is notes what a connection does from now on.
func (c *conn) is(what doing) {
	if c.table == nil {
		return
	}
	was := doing(c.doing.Swap(int32(what)))
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
		c.table.yield(choose(c.table.waiting(arrives), beyond+c.table.maxParts/scarcePart))
	}
}

// yield has connections closed.
func (r *connTable) yield(chosen []waiting) {
	for _, w := range chosen {
		w.close()
		r.turned.waiting.Add(1)
	}
}

// yield ends the wait for the client.
func (c *conn) yield() {
	c.is(yielding)
	_ = c.SetReadDeadline(time.Unix(1, 0))
}

// does notes what the connection of a request does from now on.
func does(c net.Conn, what doing) {
	if c, ok := c.(*conn); ok {
		c.is(what)
	}
}
