package redis

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// Config says where Redis is and what a write has to reach. Zero values take
// the defaults that stand beside them.
type Config struct {
	// Sentinels are host:port of every Sentinel. Without any, Address is a
	// single Redis.
	Sentinels  []string
	MasterName string // the Sentinels' name for the master
	Address    string // host:port of a single Redis

	// Username and Password are the same at the nodes and the Sentinels.
	Username, Password string
	DB                 int
	Name               string // of the connections, in CLIENT LIST

	// MinAcks is how many replicas must have a write before it is
	// acknowledged, however few are in sync.
	MinAcks int
	// AckTimeout is how long an in-sync replica may take to confirm a write
	// before it is no longer held for in sync. Default 150 ms.
	AckTimeout time.Duration
	// Hold is how long an operation waits for a master that takes it.
	// Default 5 s.
	Hold time.Duration
	// MaxHeld bounds the operations that wait at once. Default 10,000.
	MaxHeld int
	// IdempotencyTTL is how long a write with an idempotency key is
	// remembered. It has to be longer than all attempts of one write take,
	// those of a balancer included. Default 30 s, or six times Hold if that is
	// more.
	IdempotencyTTL time.Duration
	// Logger hears of every change of the master. Default: nobody.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.AckTimeout == 0 {
		c.AckTimeout = 150 * time.Millisecond
	}
	if c.Hold == 0 {
		c.Hold = 5 * time.Second
	}
	if c.MaxHeld == 0 {
		c.MaxHeld = 10000
	}
	if c.IdempotencyTTL == 0 {
		c.IdempotencyTTL = max(30*time.Second, 6*c.Hold)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// readTimeout bounds one try of a read. A read is repeated.
const readTimeout = 500 * time.Millisecond

// Client reads from and writes to the master, whichever node that is. All its
// methods may be called at any time by anybody; they need Run to be running.
type Client struct {
	cfg     Config
	monitor *monitor
	writer  *writer
	held    atomic.Int64 // reads that wait for a master

	mu     sync.Mutex
	reader *link // to the master last read from
	ended  bool
	// closing are the ends of readers of former masters; Run waits for them.
	closing sync.WaitGroup
}

// New makes a client. It connects when Run runs.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	switch {
	case len(cfg.Sentinels) > 0 && cfg.MasterName == "":
		return nil, errors.New("redis: Sentinels are given, but not the name of the master that they watch")
	case len(cfg.Sentinels) == 0 && cfg.Address == "":
		return nil, errors.New("redis: neither Sentinels nor an address is given")
	case cfg.MinAcks < 0:
		return nil, errors.New("redis: the number of replicas that must confirm a write is negative")
	}
	m := newMonitor(cfg)
	return &Client{cfg: cfg, monitor: m, writer: newWriter(cfg, m)}, nil
}

// Run finds the master, follows it and carries writes out until the context
// ends and everything is wound up. End it when no operation is under way any
// more: those that are then fail.
func (c *Client) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { c.monitor.run(ctx) })
	parts.Go(func() { c.writer.run(ctx) })
	parts.Go(func() { c.cutReader(ctx) })
	parts.Wait()
	c.mu.Lock()
	c.ended = true
	if c.reader != nil {
		c.closing.Go(c.reader.close)
		c.reader = nil
	}
	c.mu.Unlock()
	c.closing.Wait()
}

// cutReader frees reads that wait for a node as soon as it is no longer the
// master.
func (c *Client) cutReader(ctx context.Context) {
	for {
		s, changed := c.monitor.now()
		c.mu.Lock()
		if c.reader != nil && c.reader.addr != s.master {
			c.reader.cut()
		}
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Get reads a key from the master. It answers false when there is none. The
// error, if any, is an *Error; a read is never Unknown.
func (c *Client) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if reserved(key) {
		return nil, false, &Error{Invalid, errReservedKey}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	var cause error = errNoMaster
	waiting := false
	defer func() {
		if waiting {
			c.held.Add(-1)
		}
	}()
	hold := func() bool {
		if !waiting {
			if c.held.Add(1) > int64(c.cfg.MaxHeld) {
				c.held.Add(-1)
				return false
			}
			waiting = true
		}
		return true
	}
	for {
		s, _ := c.monitor.now()
		if s.master == "" {
			if !hold() {
				return nil, false, &Error{Overloaded, errTooManyHeld}
			}
			var err error
			if s, err = c.monitor.wait(ctx); err != nil {
				return nil, false, &Error{NotExecuted, cause}
			}
		}
		l, err := c.readerOf(s.master)
		if err != nil {
			return nil, false, &Error{NotExecuted, err}
		}
		try, cancel := context.WithTimeout(ctx, readTimeout)
		value, err := l.Do(try, l.B().Get().Key(key).Build()).AsBytes()
		cancel()
		switch {
		case err == nil:
			return value, true, nil
		case rueidis.IsRedisNil(err):
			return nil, false, nil
		case fateOf(err, true) == refused:
			return nil, false, &Error{Refused, err}
		case ctx.Err() != nil:
			return nil, false, &Error{NotExecuted, err}
		}
		cause = err
		c.monitor.look()
		if !hold() {
			return nil, false, &Error{Overloaded, errTooManyHeld}
		}
		select {
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// readerOf is the link for reads from that master.
func (c *Client) readerOf(master string) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, errClosed
	}
	if c.reader == nil || c.reader.addr != master {
		if c.reader != nil {
			c.closing.Go(c.reader.close)
		}
		c.reader = newLink(c.cfg, master, pipelining)
	}
	return c.reader, nil
}

// Set stores a value under a key. It answers nil when every in-sync replica
// has the write, and MinAcks of them at least. With an idempotency key the
// write happens once however often it is sent within IdempotencyTTL (same
// idempotency key, key and value), and is sent again, also to a new master,
// when its answer is lost; without, it is sent again only when it certainly
// did not happen. The error, if any, is an *Error.
func (c *Client) Set(ctx context.Context, key string, value []byte, idempotencyKey string) error {
	if reserved(key) {
		return &Error{Invalid, errReservedKey}
	}
	return c.writer.do(ctx, newSet(key, value, idempotencyKey, c.cfg.IdempotencyTTL))
}

// Status is what the client knows of Redis at a moment.
type Status struct {
	// Master is host:port; empty: there is none now, and Why says so.
	Master string    `json:"master"`
	Why    string    `json:"why"`
	Since  time.Time `json:"since"`
	// Found says that there was a master at some time.
	Found bool `json:"-"`
	// Heard is when any node or Sentinel last answered.
	Heard time.Time `json:"heard"`
	// Replicas are online at the master; InSync of them must have a write
	// before it is acknowledged.
	Replicas int `json:"replicas"`
	InSync   int `json:"inSync"`
	// Held are the operations that wait.
	Held int `json:"held"`
}

// Status says what the client knows now; it asks nobody.
func (c *Client) Status() Status {
	s, _ := c.monitor.now()
	return Status{
		Master: s.master, Why: s.why, Since: s.since, Found: s.found, Heard: s.heard,
		Replicas: len(s.node().replicas), InSync: int(c.writer.inSync.Load()),
		Held: int(c.held.Load()) + c.writer.waiting(),
	}
}

// Master is the current master's host:port; empty when there is none.
func (c *Client) Master() string {
	s, _ := c.monitor.now()
	return s.master
}

func reserved(key string) bool { return strings.HasPrefix(key, reservedPrefix) }

func join(host, port string) string { return net.JoinHostPort(host, port) }

func joinPort(host string, port int64) string { return join(host, strconv.FormatInt(port, 10)) }

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}
