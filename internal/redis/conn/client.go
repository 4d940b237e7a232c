// Package conn makes connections to Redis nodes and Sentinels: a client of the library whose
// connections can be cut at once and know what they have sent (Client, Tracked), connections
// of our own protocol code (Raw), and those that their caller polls (Options.DialProcess).
// Which node they lead to, and what is sent, its callers decide.
package conn

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/moment"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/socket"
)

// dialTimeout bounds how long it takes to make a connection and to log in.
const dialTimeout = 500 * time.Millisecond

// Client is a client of the library for one address. Its connections can be cut at once,
// which ends all waiting for a server that hangs. It connects when it is first used.
type Client struct {
	rueidis.Client
	Address string
	mu      sync.Mutex
	// built is false while the client is made: the library dials then, and a constructor of
	// ours starts nothing.
	built bool
	wires map[*Tracked]struct{}
	// Of the meters of its connections. answers is nil if they have none. Cuts is how often
	// something was dropped.
	answers *meter.Ledger
	Each    meter.Allowance
	Kept    bool
	Cuts    atomic.Int64
	heard   atomic.Int64 // the moment of which Hear told
}

// Kind is how a Client is used.
type Kind int

const (
	Probing    Kind = iota // one short question now and then
	Pipelining             // everything at once
	Caching                // reads, with a cache that Redis invalidates
)

// Dial makes a connection to an address (host:port).
type Dial func(ctx context.Context, address string) (net.Conn, error)

// Options are how connections to a server are made.
type Options struct {
	Dial               Dial        // nil: by TCP from here
	TLS                *tls.Config // nil: in plain
	Username, Password string      // without a name it is the default user
	DB                 int
	Name               string // of the connections, in CLIENT LIST
	// Ledger has the room for long answers, and MaxAnswer is how long one may be. nil: what
	// is asked has short answers.
	Ledger    *meter.Ledger
	MaxAnswer int
	// NewCache makes the store of values of a caching connection.
	NewCache func() rueidis.CacheStore
}

// user returns the name by which Redis knows us.
func (o Options) user() string { return cmp.Or(o.Username, "default") }

// plain makes a connection to an address within dialTimeout, without TLS.
func (o Options) plain(ctx context.Context, addr string) (net.Conn, error) {
	if o.Dial != nil {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return o.Dial(ctx, addr)
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: time.Second}
	return d.DialContext(ctx, "tcp", addr)
}

// Connect makes a connection to an address, and shakes hands if it is by TLS.
func (o Options) Connect(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := o.plain(ctx, addr)
	if err != nil {
		return nil, err
	}
	conn = socket.NonBlocking(conn)
	if o.TLS == nil {
		return conn, nil
	}
	settings := o.TLS
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

// unwrapped returns the connection below TLS. Closing that one never waits, while the other
// takes leave of a server that may hang.
func unwrapped(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

// New returns a client of a server. It connects when it is first used.
func New(o Options, addr string, kind Kind) *Client {
	l := &Client{Address: addr, wires: map[*Tracked]struct{}{}}
	if kind != Probing { // what is asked there has short answers
		l.answers, l.Each = o.Ledger, meter.Allowance{Budget: int64(o.MaxAnswer)}
	}
	l.Hear(time.Now()) // there is nothing older
	db := o.DB
	if kind == Probing {
		db = 0 // ROLE needs none, and a Sentinel has none
	}
	opt := rueidis.ClientOption{
		InitAddress: []string{addr},
		Username:    o.Username,
		Password:    o.Password,
		SelectDB:    db,
		ClientName:  o.Name,
		Dialer:      net.Dialer{Timeout: dialTimeout, KeepAlive: time.Second},
		DialCtxFn: func(ctx context.Context, addr string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			l.mu.Lock()
			built := l.built
			l.mu.Unlock()
			if !built {
				return nil, outcome.ErrNotSent
			}
			conn, err := o.Connect(ctx, addr)
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
	if kind == Caching {
		opt.AlwaysRESP2, opt.DisableCache = false, false
		opt.NewCacheStoreFn = func(rueidis.CacheStoreOption) rueidis.CacheStore { return o.NewCache() }
	}
	if kind == Probing {
		opt.ReadBufferEachConn, opt.WriteBufferEachConn, opt.RingScaleEachConn = 4<<10, 4<<10, 8
	} else {
		opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
		opt.AlwaysPipelining = true // a reader at all times: it sees the end of a connection when it comes
	}
	// With ForceSingleClient there is a client even though it has not connected. Each use
	// tries again.
	l.Client, _ = rueidis.NewClient(opt)
	l.mu.Lock()
	l.built = true
	l.mu.Unlock()
	return l
}

func (l *Client) add(conn net.Conn) *Tracked {
	w := &Tracked{Conn: conn, client: l, Ended: make(chan struct{})}
	w.Meter = meter.Meter{Ledger: l.answers, Each: l.Each, Own: l.Each, Keep: l.Kept, Seen: &l.Cuts}
	l.mu.Lock()
	l.wires[w] = struct{}{}
	l.mu.Unlock()
	return w
}

// Cut closes the connections of the client. The next use makes new ones.
func (l *Client) Cut() {
	l.mu.Lock()
	wires := make([]*Tracked, 0, len(l.wires))
	for w := range l.wires {
		wires = append(wires, w)
	}
	l.mu.Unlock()
	for _, w := range wires {
		w.Close()
	}
}

// Only returns the one connection that there is; nil if there is none.
func (l *Client) Only() *Tracked {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.wires {
		return w
	}
	return nil
}

// Hear notes that what was asked then has been answered.
func (l *Client) Hear(asked time.Time) { moment.Advance(&l.heard, asked) }

// Silence returns how long ago the last question was asked that has been answered.
func (l *Client) Silence(now time.Time) time.Duration {
	return moment.Since(now, l.heard.Load())
}

// Stop ends the client. It cuts first: the library would wait for answers.
func (l *Client) Stop() {
	l.Cut()
	l.Close()
}

// Tracked is a connection that counts what was sent on it, and sends nothing once its reading
// side has ended. What it refuses to send certainly did not happen.
type Tracked struct {
	net.Conn
	client *Client
	Meter  meter.Meter
	once   sync.Once
	Ended  chan struct{} // closed when reading failed or the connection was closed
	Left   atomic.Bool   // the other end closed it, before this one did

	writing sync.Mutex // held through each Write
	sent    int64      // bytes handed to the kernel
}

func (w *Tracked) Read(p []byte) (int, error) {
	var n int
	var err error
	if w.Meter.Ledger == nil {
		n, err = w.Conn.Read(p)
	} else {
		n, err = w.Meter.Read(w.Conn, p)
	}
	if err != nil {
		w.end(!timedOut(err))
	}
	return n, err
}

func (w *Tracked) Write(p []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	select {
	case <-w.Ended:
		return 0, outcome.ErrNotSent
	default:
	}
	n, err := w.Conn.Write(p)
	w.sent += int64(n)
	return n, err
}

// Written returns how many bytes were sent so far.
func (w *Tracked) Written() int64 {
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.sent
}

// Seal closes the connection and returns how many bytes were sent on it. Nothing more is sent
// after it.
func (w *Tracked) Seal() int64 {
	w.Close()
	return w.Written()
}

func (w *Tracked) Close() error {
	w.end(false)
	return unwrapped(w.Conn).Close()
}

func (w *Tracked) end(left bool) {
	w.once.Do(func() {
		w.Left.Store(left)
		close(w.Ended)
		if w.Meter.Ledger != nil {
			w.Meter.Abandon()
		}
		w.client.mu.Lock()
		delete(w.client.wires, w)
		w.client.mu.Unlock()
	})
}

// timedOut reports whether a connection ended because the other end sent nothing more.
func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
