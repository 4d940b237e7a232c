package attack

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/clock"
)

// Config describes the service that the clients attack.
type Config struct {
	// Entry is the service's base URL, such as http://127.0.0.1:6301.
	Entry   string
	Token   string // bearer token; empty: no token
	Headers map[string]string
	// TLS is for an entry with https://.
	TLS *tls.Config
	// Elsewhere makes the clients use a source address that no other client of this machine uses.
	// It has an effect only if the entry is on IPv4 loopback.
	Elsewhere bool
}

// Client sends each request on a connection of its own. It is safe for concurrent use.
type Client struct {
	address string
	lines   string // header lines that every request has
	dialer  net.Dialer
	tls     *tls.Config // nil: the entry speaks plain HTTP
}

// NewClient returns a client. It connects for each request.
func NewClient(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.Entry)
	if err != nil {
		return nil, fmt.Errorf("the entry %q is no URL: %w", cfg.Entry, err)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[u.Scheme]
	}
	c := &Client{address: net.JoinHostPort(u.Hostname(), cmp.Or(port, "80")), dialer: net.Dialer{Timeout: dialTimeout}}
	if u.Scheme == "https" {
		if cfg.TLS == nil {
			return nil, fmt.Errorf("the entry %q speaks TLS, and its certificate is not known", cfg.Entry)
		}
		c.tls = cfg.TLS.Clone()
		c.tls.ServerName = cmp.Or(c.tls.ServerName, u.Hostname())
	}
	c.lines = "Host: " + c.address + "\r\n"
	if cfg.Token != "" {
		c.lines += "Authorization: Bearer " + cfg.Token + "\r\n"
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Headers)) {
		c.lines += name + ": " + cfg.Headers[name] + "\r\n"
	}
	if ip := net.ParseIP(u.Hostname()); cfg.Elsewhere && ip != nil && ip.IsLoopback() && ip.To4() != nil {
		from := &net.TCPAddr{IP: elsewhere}
		if l, err := net.ListenTCP("tcp", from); err == nil { // not every system has all of 127.0.0.0/8
			l.Close()
			c.dialer.LocalAddr = from
		}
	}
	return c, nil
}

// elsewhere is the source address for Config.Elsewhere.
var elsewhere = net.IPv4(127, 66, 6, 6)

const (
	dialTimeout = 2 * time.Second
	// kept is how many bytes of an answer a client keeps.
	kept = 64 << 10
	// sip is how many bytes a slow reader reads at a time.
	sip = 16 << 10
)

// Request is what a client sends, and how it reads the answer.
type Request struct {
	Path string
	// Body makes the request a POST; nil: a GET.
	Body []byte
	// Header has further header lines, each ending with "\r\n".
	Header string
	// Raw, if not nil, is sent as it is instead of all of the above.
	Raw []byte
	// Rate is how many bytes per second of the answer are read; 0: no limit.
	Rate int
	// Leave closes the connection after that many bytes of the answer; 0: never; negative: before
	// the answer is read.
	Leave int64
}

// Answer is the result of a request.
type Answer struct {
	Status int   // 0: no answer came
	Bytes  int64 // of the body, as far as it was read
	Body   []byte
	// Err is why there is no whole answer, or nil.
	Err error
}

// OK reports whether the request was carried out.
func (a Answer) OK() bool { return a.Err == nil && a.Status >= 200 && a.Status < 300 }

// String formats the answer briefly, for an error.
func (a Answer) String() string {
	if a.Status == 0 {
		return fmt.Sprintf("no answer (%v)", a.Err)
	}
	return fmt.Sprintf("%d: %s", a.Status, a.Body[:min(len(a.Body), 200)])
}

// Do sends a request and reads its answer. The end of ctx ends both.
func (c *Client) Do(ctx context.Context, q Request) (a Answer) {
	defer func() {
		if a.Err != nil && ctx.Err() != nil { // ctx closed the connection
			a.Err = context.Cause(ctx)
		}
	}()
	buffer := 0
	if q.Rate > 0 {
		buffer = sip
	}
	conn, err := c.dial(ctx, buffer)
	if err != nil {
		return Answer{Err: err}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// The service may refuse the request before all of it is sent; that answer counts.
	_, sent := conn.Write(c.bytes(q))
	if q.Leave < 0 {
		return Answer{Err: errors.Join(sent, errLeft)}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return Answer{Err: errors.Join(sent, err)}
	}
	a.Status = resp.StatusCode
	a.Bytes, a.Body, a.Err = readBody(ctx, resp.Body, q)
	return a
}

// dial connects, with a receive buffer of that many bytes; 0: the system's default.
func (c *Client) dial(ctx context.Context, buffer int) (net.Conn, error) {
	conn, err := c.dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && buffer > 0 {
		if err := tcp.SetReadBuffer(buffer); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if c.tls == nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secure := tls.Client(conn, c.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// errLeft is the error if the client left before the end of the answer.
var errLeft = errors.New("the client left")

// bytes returns the request in the form in which it is sent.
func (c *Client) bytes(q Request) []byte {
	if q.Raw != nil {
		return q.Raw
	}
	method, length := http.MethodGet, ""
	if q.Body != nil {
		method, length = http.MethodPost, "Content-Length: "+strconv.Itoa(len(q.Body))+"\r\n"
	}
	head := method + " " + q.Path + " HTTP/1.1\r\n" + c.lines + q.Header + length + "Connection: close\r\n\r\n"
	return append([]byte(head), q.Body...)
}

// Head returns the beginning of a request, without the empty line that ends its header. A caller
// can thus send half a request.
func (c *Client) Head(method, path string) string {
	return method + " " + path + " HTTP/1.1\r\n" + c.lines
}

// readBody reads the body of an answer as the request describes.
func readBody(ctx context.Context, body io.Reader, q Request) (n int64, start []byte, err error) {
	chunk := make([]byte, sip)
	for {
		m, err := body.Read(chunk)
		n += int64(m)
		start = append(start, chunk[:min(m, kept-len(start))]...)
		switch {
		case errors.Is(err, io.EOF):
			return n, start, nil
		case err != nil:
			return n, start, err
		case q.Leave > 0 && n >= q.Leave:
			return n, start, errLeft
		}
		if q.Rate > 0 && !clock.Sleep(ctx, time.Duration(m)*time.Second/time.Duration(q.Rate)) {
			return n, start, context.Cause(ctx)
		}
	}
}

// Command returns the body of a request for one command.
func Command(args ...string) []byte {
	b := []byte{'['}
	for i, arg := range args {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, arg)
	}
	return append(b, ']')
}

// Pipeline returns the body of a request for the same command n times.
func Pipeline(n int, args ...string) []byte {
	one := string(Command(args...))
	return []byte("[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]")
}

// appendJSON appends a JSON string. The clients' own strings are ASCII.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
