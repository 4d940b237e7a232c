package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// How a raw connection notices that its server hangs: it is asked for a sign
// of life every pingInterval, and given up when nothing came for rawSilence.
const (
	pingInterval = time.Second
	rawSilence   = 8 * time.Second        // longer than a script may keep Redis silent (busy-reply-threshold)
	dialPause    = 100 * time.Millisecond // between two tries to connect
)

// rawConn is a connection that speaks RESP3 without the client library: for
// what pushes without being asked (subscriptions, tracking, MONITOR). One
// goroutine may read while another writes.
type rawConn struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
}

// frame is one message from the server (manual, "Redis serialization protocol
// specification").
type frame struct {
	kind  byte // the protocol's: '+', '-', ':', '$', '*', '>', …
	null  bool
	text  string // of strings, errors, numbers
	items []frame
}

// final says that a refused login is about who we are, which another try does
// not change. That there are too many clients, for one, is not.
func (e redisError) final() bool {
	code, _, _ := strings.Cut(string(e), " ")
	return code == "WRONGPASS" || code == "NOAUTH" || code == "NOPERM"
}

// dialRaw connects and logs in.
func dialRaw(ctx context.Context, cfg Config, addr string) (*rawConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	conn, err := cfg.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &rawConn{conn: conn, r: bufio.NewReaderSize(conn, 32<<10), w: bufio.NewWriterSize(conn, 16<<10)}
	hello := []string{"HELLO", "3"}
	if cfg.Password != "" || cfg.Username != "" {
		hello = append(hello, "AUTH", cfg.user(), cfg.Password)
	}
	if cfg.Name != "" {
		hello = append(hello, "SETNAME", cfg.Name)
	}
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	if err := c.send(hello); err != nil {
		c.close()
		return nil, err
	}
	answer, err := c.read()
	if err == nil && answer.kind == '-' {
		err = redisError(answer.text)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("log in at %s: %w", addr, err)
	}
	return c, nil
}

// close frees who reads and who writes. It may be called several times.
func (c *rawConn) close() { _ = unwrapped(c.conn).Close() }

// send writes commands out.
func (c *rawConn) send(cmds ...[]string) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(rawSilence))
	for _, cmd := range cmds {
		fmt.Fprintf(c.w, "*%d\r\n", len(cmd))
		for _, word := range cmd {
			fmt.Fprintf(c.w, "$%d\r\n%s\r\n", len(word), word)
		}
	}
	return c.w.Flush()
}

var errProtocol = errors.New("the server does not speak Redis' protocol")

// maxFrame bounds what a length may say: Redis' own limit of a string
// (proto-max-bulk-len) and, far above what is sent here, of an array.
const maxFrame = 512 << 20

// read reads one message. Nothing for rawSilence is an error.
func (c *rawConn) read() (frame, error) {
	if c.r.Buffered() == 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(rawSilence))
	}
	return c.readFrame(0)
}

func (c *rawConn) readFrame(depth int) (frame, error) {
	line, err := c.readLine()
	if err != nil {
		return frame{}, err
	}
	if len(line) == 0 || depth > 16 {
		return frame{}, errProtocol
	}
	f := frame{kind: line[0]}
	line = line[1:]
	switch f.kind {
	case '$', '=', '!':
		n, err := length(line)
		if err != nil {
			return frame{}, err
		}
		if n < 0 {
			f.null = true
			return f, nil
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, data); err != nil {
			return frame{}, err
		}
		f.text = string(data[:n])
		if f.kind == '!' {
			f.kind = '-'
		}
	case '*', '>', '~', '%', '|':
		n, err := length(line)
		if err != nil {
			return frame{}, err
		}
		if n < 0 {
			f.null = true
			return f, nil
		}
		if f.kind == '%' || f.kind == '|' {
			n *= 2
		}
		f.items = make([]frame, 0, min(n, 1024))
		for range n {
			item, err := c.readFrame(depth + 1)
			if err != nil {
				return frame{}, err
			}
			f.items = append(f.items, item)
		}
	case '_':
		f.null = true
	case '+', '-', ':', ',', '#', '(':
		f.text = string(line)
	default:
		return frame{}, errProtocol
	}
	return f, nil
}

// readLine is one line without its end; MONITOR's are as long as a command.
func (c *rawConn) readLine() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		whole := append([]byte(nil), line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = c.r.ReadSlice('\n')
			whole = append(whole, line...)
			if len(whole) > maxFrame {
				return nil, errProtocol
			}
		}
		line = whole
	}
	if err != nil {
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, errProtocol
	}
	return line[:len(line)-2], nil
}

func length(text []byte) (int, error) {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < -1 || n > maxFrame {
		return 0, errProtocol
	}
	return n, nil
}

// pause waits and answers true, or false when the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
