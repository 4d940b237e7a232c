package drill

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// link is a TCP proxy that is as bad as a network can be: what goes through
// it comes late, and now and then it stalls, as TCP does while it sends again
// what was lost.
type link struct {
	listener net.Listener
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
	// Bytes that went through, and that did not after stop.
	bytes, dropped int64
}

// newLink listens on a port of its own on loopback, and begins to pass on.
func newLink(to string, delay time.Duration, loss float64, stall time.Duration, seed uint64) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{listener: l, to: to, delay: delay, loss: loss, stall: stall, conns: map[net.Conn]struct{}{}, seed: seed, stalled: make(chan struct{})}
	k.parts.Go(k.accept)
	return k, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

// passed is how many bytes went through so far.
func (l *link) passed() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// lost is how many bytes came and did not pass, after stop.
func (l *link) lost() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
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
		to, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", l.to)
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
				l.pass(way[0], way[1], random)
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
func (l *link) pass(from io.Reader, to io.Writer, random *rand.Rand) {
	way := make(chan piece, maxUnderWay)
	var writer sync.WaitGroup
	writer.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.due))
			select {
			case <-l.stalled:
				l.mu.Lock()
				l.dropped += int64(len(p.bytes))
				l.mu.Unlock()
				continue // it is never passed on
			default:
			}
			if _, err := to.Write(p.bytes); err != nil {
				for range way { // until the reader has seen it, too
				}
				return
			}
			l.mu.Lock()
			l.bytes += int64(len(p.bytes))
			l.mu.Unlock()
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
