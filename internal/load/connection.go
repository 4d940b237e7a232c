package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/clock"
)

const (
	// sendPatience is how long a client that cannot send goes on trying: as long as a web node
	// holds a request without a master. dialTimeout is the time for each entry: after that time a
	// lost SYN is sent again (RFC 6298, section 2).
	sendPatience = 5 * time.Second
	dialTimeout  = time.Second
	// The pause after each round over all entries, which doubles each time.
	firstPause, longestPause = 10 * time.Millisecond, 200 * time.Millisecond

	maxAnswer = 16 << 20 // bytes
)

// request is a request to be sent. The connection adds the host.
type request struct {
	method, path string
	host         string // the header Host; empty: the entry's address
	header       []byte // whole lines
	body         []byte
}

// connection is one client's connection to one of the entries. It uses no HTTP library's pool,
// because only then is it certain whether a byte of a request was sent, and that no request is sent
// twice. It is not safe for concurrent use, but its context may end it at any time.
type connection struct {
	entries []string // host:port
	at      int      // index of the entry in use, or to be dialled next
	used    int      // index of the entry that the last request was meant for
	r       *bufio.Reader
	buffer  []byte
	answer  fasthttp.Response // of the last request
	raw     syscall.RawConn   // conn's
	// patience is used instead of sendPatience; reach instead of a dialler.
	patience time.Duration
	tls      *tls.Config // nil: the entries speak plain HTTP
	reach    func(ctx context.Context, address string) (net.Conn, error)

	ctx  context.Context
	free func() bool
	mu   sync.Mutex
	conn net.Conn
}

// newConnection returns a connection that dials when it is first used. The caller closes it.
func newConnection(ctx context.Context, entries []string, first int) *connection {
	c := &connection{entries: entries, at: first % len(entries), r: bufio.NewReaderSize(nil, 8<<10), ctx: ctx, patience: sendPatience}
	c.free = context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.conn != nil {
			_ = c.conn.SetDeadline(time.Unix(1, 0)) // a connection that takes no deadline is broken already
		}
	})
	return c
}

func (c *connection) close() {
	c.free()
	c.drop()
}

// drop closes the connection. The next request dials again.
func (c *connection) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close() // nothing is to be flushed
		c.conn = nil
	}
}

// setDeadline sets the deadline of what follows, unless the context has ended.
func (c *connection) setDeadline(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ctx.Err(); err != nil {
		return err
	}
	return c.conn.SetDeadline(deadline)
}

// exchange sends a request and reads its answer until the deadline. A request that was certainly
// not sent is sent again, to the next entry, for up to sendPatience; one that may have been sent is
// not. sent is when the first byte was about to be sent; zero: no byte was.
func (c *connection) exchange(q *request, deadline time.Time) (sent time.Time, err error) {
	patience := time.Now().Add(c.patience)
	if deadline.Before(patience) {
		patience = deadline
	}
	pauses := clock.Backoff{Min: firstPause, Max: longestPause}
	for failures := 1; ; failures++ {
		sent, err = c.tryOnce(q, patience, deadline)
		if err == nil || !sent.IsZero() {
			return sent, err
		}
		c.useNextEntry()
		if failures%len(c.entries) != 0 {
			if c.ctx.Err() != nil || time.Now().After(patience) {
				return sent, err
			}
			continue
		}
		if pause := pauses.Next(); time.Now().Add(pause).After(patience) || !clock.Sleep(c.ctx, pause) {
			return sent, err
		}
	}
}

// useNextEntry makes the next request dial the entry after this one.
func (c *connection) useNextEntry() {
	c.drop()
	c.at = (c.at + 1) % len(c.entries)
}

// tryOnce tries it once.
func (c *connection) tryOnce(q *request, dialUntil, deadline time.Time) (sent time.Time, err error) {
	c.used = c.at

	if c.conn != nil && !c.idle() {
		c.drop() // the server closed it after the last answer: no failure, and nothing was sent
	}
	if c.conn == nil {
		if err := c.dial(dialUntil); err != nil {
			return time.Time{}, err
		}
	}

	if err := c.setDeadline(deadline); err != nil {
		return time.Time{}, err
	}

	host := q.host
	if host == "" {
		host = c.entries[c.at]
	}
	c.buffer = q.append(c.buffer[:0], host)

	sent = time.Now()
	n, err := c.conn.Write(c.buffer)
	if err != nil {
		c.drop()
		if n == 0 { // TLS: not even one whole record; the server ignores a part of one
			sent = time.Time{}
		}
		return sent, err
	}

	c.answer.Reset()
	c.answer.SkipBody = q.method == http.MethodHead
	if err := c.answer.ReadLimitBody(c.r, maxAnswer); err != nil {
		if time.Now().Before(deadline) {
			c.drop()
			return sent, &brokenError{err}
		}
		c.useNextEntry() // the server at this entry does not answer
		return sent, errTimeout
	}
	if c.answer.ConnectionClose() {
		c.drop()
	}
	return sent, nil
}

var errTimeout = errors.New("no answer in time")

// brokenError reports that a connection ended before the whole answer arrived.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "connection broken: " + e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

func (c *connection) dial(until time.Time) error {
	if t := time.Now().Add(dialTimeout); t.Before(until) {
		until = t
	}
	ctx, cancel := context.WithDeadline(c.ctx, until)
	defer cancel()
	reach := c.reach
	if reach == nil {
		reach = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	conn, err := reach(ctx, c.entries[c.at])
	if err != nil {
		return err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	if c.tls != nil {
		if conn, err = c.secure(ctx, conn); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.raw = conn, raw
	c.r.Reset(conn)
	return nil
}

// secure starts TLS on a connection. Nothing of a request is sent before the handshake is done.
func (c *connection) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	settings := c.tls
	if settings.ServerName == "" {
		settings = settings.Clone()
		settings.ServerName, _, _ = net.SplitHostPort(c.entries[c.at])
	}
	secure := tls.Client(conn, settings)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the first error is the one to tell
		return nil, err
	}
	return secure, nil
}

// idle reports whether the connection can take a request: it is open, and nothing unasked has
// arrived, such as the 408 of a server that is about to close it. A connection that closes after
// this look shows it when the request is sent.
func (c *connection) idle() bool {
	if c.r.Buffered() > 0 {
		return false
	}
	quiet := false
	err := c.raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
	})
	return err == nil && quiet
}

// append appends the request in the form in which it is sent.
func (q *request) append(b []byte, host string) []byte {
	b = append(b, q.method...)
	b = append(b, ' ')
	b = append(b, q.path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	b = append(b, q.header...)
	if q.method != "GET" {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(q.body)), 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	return append(b, q.body...)
}
