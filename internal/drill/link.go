package drill

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"holdfast/internal/process"
)

// link is a TCP proxy that is as bad as a network can be: what goes through
// it comes late, and now and then it stalls, as TCP does while it sends again
// what was lost.
type link struct {
	listener net.Listener
	netns    string
	to       string
	delay    time.Duration // one way
	// loss is the fraction of the pieces (of up to 16 KB) that are lost and
	// sent again after stall, while all behind them wait.
	loss  float64
	stall time.Duration

	// closed when nothing passes any more.
	stalled chan struct{}

	parts sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil: closed
	seed  uint64
	sent  [2]tally
}

// tally is what became of the bytes and pieces in one direction.
type tally struct {
	passed  int64 // bytes that went through
	dropped int64 // bytes that came after stop and did not
	again   int   // pieces that were lost and sent again
}

// The directions.
const forth, back = 0, 1 // from who connected, and to who did

// within does something in the link's network namespace.
func (l *link) within(do func() error) error {
	if l.netns == "" {
		return do()
	}
	return process.Within(l.netns, do)
}

// newLink listens on a port of its own on loopback, and begins to pass on. Both
// its ends are in a network namespace, the path of which is given, or empty for
// this process' own: whom it leads to sees the connection come from there.
func newLink(netns, to string, delay time.Duration, loss float64, stall time.Duration, seed uint64) (*link, error) {
	k := &link{netns: netns, to: to, delay: delay, loss: loss, stall: stall, conns: map[net.Conn]struct{}{}, seed: seed, stalled: make(chan struct{})}
	err := k.within(func() (err error) {
		k.listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return nil, err
	}
	k.parts.Go(k.accept)
	return k, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

// count is what became of what went in a direction, so far.
func (l *link) count(way int) tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent[way]
}

func (l *link) note(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// stop lets nothing pass any more, and yet no connection ends: what is sent is
// lost when the link is closed.
func (l *link) stop() { close(l.stalled) }

// close ends the link with all connections over it.
func (l *link) close() {
	l.listener.Close()
	l.mu.Lock()
	for c := range l.conns {
		c.Close()
	}
	l.conns = nil
	l.mu.Unlock()
	l.parts.Wait()
}

func (l *link) accept() {
	for n := uint64(0); ; n += 2 {
		from, err := l.listener.Accept()
		if err != nil {
			return
		}
		var to net.Conn
		err = l.within(func() (err error) {
			to, err = (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", l.to)
			return err
		})
		if err != nil {
			from.Close()
			continue
		}
		if !l.keep(from, to) {
			return
		}
		for i, way := range [][2]net.Conn{{from, to}, {to, from}} {
			random := rand.New(rand.NewPCG(l.seed, n+uint64(i)))
			l.parts.Go(func() {
				l.pass(i, way[0], way[1], random)
				way[0].Close()
				way[1].Close()
			})
		}
	}
}

// keep takes note of connections, to end them; false: the link is closed.
func (l *link) keep(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		if l.conns == nil {
			c.Close()
			continue
		}
		l.conns[c] = struct{}{}
	}
	return l.conns != nil
}

// piece is what was read at one time.
type piece struct {
	bytes []byte
	due   time.Time
}

// maxUnderWay bounds the pieces on their way in one direction: a network holds
// no more than a window.
const maxUnderWay = 256

// pass passes on what comes, each piece as late as the link is long.
func (l *link) pass(direction int, from io.Reader, to io.Writer, random *rand.Rand) {
	count := &l.sent[direction]
	way := make(chan piece, maxUnderWay)
	var writer sync.WaitGroup
	writer.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.due))
			select {
			case <-l.stalled:
				l.note(func() { count.dropped += int64(len(p.bytes)) })
				continue // it is never passed on
			default:
			}
			if _, err := to.Write(p.bytes); err != nil {
				for range way { // until the reader has seen it, too
				}
				return
			}
			l.note(func() { count.passed += int64(len(p.bytes)) })
		}
	})
	defer writer.Wait()
	defer close(way)
	var last time.Time
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if n > 0 {
			due := time.Now().Add(l.delay)
			if random.Float64() < l.loss {
				due = due.Add(l.stall)
				l.note(func() { count.again++ })
			}
			if due.Before(last) {
				due = last // nothing overtakes
			}
			last = due
			way <- piece{buf[:n], due}
		}
		if err != nil {
			return
		}
	}
}
