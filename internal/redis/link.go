package redis

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/cache"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/socket"
)

// dialTimeout bounds a connection's making, the greeting included.
const dialTimeout = 500 * time.Millisecond

// link is a rueidis client of one address whose connections can be cut at
// once, which frees everybody who waits for a server that hangs.
type link struct {
	rueidis.Client
	addr string
	mu   sync.Mutex
	// built is false while the client is made: rueidis dials then, and a
	// constructor here starts nothing.
	built bool
	wires map[*wire]struct{}
	// Of the meters of its connections. answers is nil where there are none; cuts is
	// how often something was dropped.
	answers *meter.Ledger
	each    meter.Allowance
	kept    bool
	cuts    atomic.Int64

	// silent: the monitor's last question had no answer; probed: it is asked
	// aside until it has one.
	silent, probed atomic.Bool
	unseen         [64]atomic.Int32            // how many commands about unseen keys are under way
	cache          atomic.Pointer[cache.Cache] // of the newest connection; of a caching link
	heard          atomic.Int64                // see hear; in nanoseconds since birth
	asking         atomic.Int64                // requests under way; of a replica's link
	slow           atomic.Bool                 // one that is not brief is among them
	resting        atomic.Int64                // until when it is left alone, in Unix nanoseconds
}

// linkKind says how a link is used.
type linkKind int

const (
	probing    linkKind = iota // one short question now and then
	pipelining                 // everything at once
	caching                    // reads, with a cache that Redis invalidates
)

// Dial makes a connection to an address (host:port).
type Dial func(ctx context.Context, address string) (net.Conn, error)

// connect makes a connection to an address within dialTimeout.
func (c Config) connect(ctx context.Context, addr string) (net.Conn, error) {
	if c.Dial != nil {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return c.Dial(ctx, addr)
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: time.Second}
	return d.DialContext(ctx, "tcp", addr)
}

// dial connects to an address, and shakes hands when Config.TLS is set.
func (c Config) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := c.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	conn = socket.Swift(conn)
	if c.TLS == nil {
		return conn, nil
	}
	settings := c.TLS
	if settings.ServerName == "" {
		settings = settings.Clone()
		settings.ServerName, _, _ = net.SplitHostPort(addr)
	}
	secure := tls.Client(conn, settings)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return secure, nil
}

// unwrapped is the connection below TLS. Closing that one never waits, while
// the other says goodbye to a server that may hang.
func unwrapped(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

// newLink makes a link; it connects when it is first used.
func newLink(cfg Config, addr string, kind linkKind) *link {
	l := &link{addr: addr, wires: map[*wire]struct{}{}}
	if kind != probing { // what is asked there has short answers
		l.answers, l.each = cfg.answers.Ledger, meter.Allowance{Budget: int64(cfg.MaxAnswer)}
	}
	l.hear(time.Now()) // there is nothing older
	db := cfg.DB
	if kind == probing {
		db = 0 // ROLE needs none, and a Sentinel has none
	}
	opt := rueidis.ClientOption{
		InitAddress: []string{addr},
		Username:    cfg.Username,
		Password:    cfg.Password,
		SelectDB:    db,
		ClientName:  cfg.Name,
		Dialer:      net.Dialer{Timeout: dialTimeout, KeepAlive: time.Second},
		DialCtxFn: func(ctx context.Context, addr string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			l.mu.Lock()
			built := l.built
			l.mu.Unlock()
			if !built {
				return nil, outcome.ErrNotSent
			}
			conn, err := cfg.dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			return l.add(conn), nil
		},
		ClientSetInfo:     rueidis.DisableClientSetInfo,
		ConnWriteTimeout:  2 * time.Second,
		PipelineMultiplex: -1, // one connection
		ForceSingleClient: true,
		DisableRetry:      true, // what is sent again is decided here
		DisableCache:      true,
		AlwaysRESP2:       true, // replies as REST clients know them
	}
	if kind == caching {
		opt.AlwaysRESP2, opt.DisableCache = false, false
		opt.NewCacheStoreFn = func(rueidis.CacheStoreOption) rueidis.CacheStore {
			values := cache.New(cfg.CacheBytes)
			l.cache.Store(values)
			return values
		}
	}
	if kind == probing {
		opt.ReadBufferEachConn, opt.WriteBufferEachConn, opt.RingScaleEachConn = 4<<10, 4<<10, 8
	} else {
		opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
		opt.AlwaysPipelining = true // a reader at all times: it sees the end of a connection when it comes
	}
	// With ForceSingleClient the client is there even though it has not
	// connected; each use tries again.
	l.Client, _ = rueidis.NewClient(opt)
	l.mu.Lock()
	l.built = true
	l.mu.Unlock()
	return l
}

func (l *link) add(conn net.Conn) *wire {
	w := &wire{Conn: conn, link: l, ended: make(chan struct{})}
	w.meter = meter.Meter{Ledger: l.answers, Each: l.each, Own: l.each, Keep: l.kept, Seen: &l.cuts}
	l.mu.Lock()
	l.wires[w] = struct{}{}
	l.mu.Unlock()
	return w
}

// cut closes the connections of the link; the next use makes new ones.
func (l *link) cut() {
	l.mu.Lock()
	wires := make([]*wire, 0, len(l.wires))
	for w := range l.wires {
		wires = append(wires, w)
	}
	l.mu.Unlock()
	for _, w := range wires {
		w.Close()
	}
}

// only is the one connection of a link that has one; nil when it has none.
func (l *link) only() *wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.wires {
		return w
	}
	return nil
}

// hear learns that what was asked then has been answered.
func (l *link) hear(asked time.Time) { advance(&l.heard, asked) }

// silence is how long ago it was asked last what has been answered.
func (l *link) silence(now time.Time) time.Duration {
	return now.Sub(birth) - time.Duration(l.heard.Load())
}

// close ends the link. It cuts first: rueidis would wait for answers.
func (l *link) close() {
	l.cut()
	l.Close()
}

// wire is a connection that knows whether anything was sent on it, and sends
// nothing once its reading side has ended: what is refused here certainly did
// not happen.
type wire struct {
	net.Conn
	link  *link
	meter meter.Meter
	once  sync.Once
	ended chan struct{} // closed when reading failed or the wire was closed
	left  atomic.Bool   // the other end closed it, before this one did

	writing sync.Mutex // held through each Write
	sent    int64      // bytes handed to the kernel
}

func (w *wire) Read(p []byte) (int, error) {
	var n int
	var err error
	if w.meter.Ledger == nil {
		n, err = w.Conn.Read(p)
	} else {
		n, err = w.meter.Read(w.Conn, p)
	}
	if err != nil {
		w.end(!timedOut(err))
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	select {
	case <-w.ended:
		return 0, outcome.ErrNotSent
	default:
	}
	n, err := w.Conn.Write(p)
	w.sent += int64(n)
	return n, err
}

// written is how many bytes were sent so far.
func (w *wire) written() int64 {
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.sent
}

// seal closes the wire and answers how many bytes were sent on it for good:
// whoever still holds something to send cannot any more.
func (w *wire) seal() int64 {
	w.Close()
	return w.written()
}

func (w *wire) Close() error {
	w.end(false)
	return unwrapped(w.Conn).Close()
}

func (w *wire) end(left bool) {
	w.once.Do(func() {
		w.left.Store(left)
		close(w.ended)
		if w.meter.Ledger != nil {
			w.meter.Abandon()
		}
		w.link.mu.Lock()
		delete(w.link.wires, w)
		w.link.mu.Unlock()
	})
}
