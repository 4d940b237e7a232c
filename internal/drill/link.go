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

// link is a TCP proxy that behaves like a bad network: what passes through it arrives late. Now and
// then it stalls, as TCP does while it sends lost data again.
type link struct {
	listener net.Listener
	netns    string
	to       string
	delay    time.Duration // one way
	// loss is the fraction of pieces (of up to 16 KB) that count as lost: they arrive later by
	// stall, and all pieces behind them wait.
	loss  float64
	stall time.Duration

	// stalled is closed when nothing passes any more.
	stalled chan struct{}

	parts sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil: the link is closed
	seed  uint64
	sent  [2]tally
}

// tally counts the bytes and pieces in one direction.
type tally struct {
	passed  int64 // bytes that went through
	dropped int64 // bytes that arrived after stop and were not passed on
	again   int   // pieces that were lost and sent again
}

const forth, back = 0, 1 // from the side that connected; to that side

// within runs a function in the link's network namespace.
func (l *link) within(do func() error) error {
	if l.netns == "" {
		return do()
	}
	return process.Within(l.netns, do)
}

// newLink listens on a free port on loopback and begins to pass on connections. netns is the path
// of the network namespace of both its ends, or empty for this process' own. The node at to sees
// the connections come from there.
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

// count returns the tally of a direction so far.
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

// stop makes the link pass nothing any more while its connections stay open. What is sent
// afterwards is lost when the link is closed.
func (l *link) stop() { close(l.stalled) }

// close ends the link and all its connections.
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

// keep registers connections, so that close can end them. It returns false if the link is closed
// already.
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

// piece is the result of one read.
type piece struct {
	bytes []byte
	due   time.Time
}

// maxUnderWay limits the pieces on their way in one direction: a network holds no more than a
// window.
const maxUnderWay = 256

// pass passes on what arrives, each piece after the delay of the link.
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
				continue // never passed on
			default:
			}
			if _, err := to.Write(p.bytes); err != nil {
				for range way { // drained, so that the reader is not blocked before it has seen the error, too
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
				due = last // no piece overtakes another
			}
			last = due
			way <- piece{buf[:n], due}
		}
		if err != nil {
			return
		}
	}
}
