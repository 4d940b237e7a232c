package redis

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
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
}

// dialRaw connects and logs in.
func dialRaw(ctx context.Context, cfg Config, addr string) (*rawConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	conn, err := cfg.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &rawConn{conn: conn, r: bufio.NewReaderSize(conn, 32<<10)}
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
	if err == nil && answer.Kind == '-' {
		err = outcome.RedisError(answer.Text)
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
	var b []byte
	for _, cmd := range cmds {
		b = resp.AppendCommand(b, cmd)
	}
	_, err := c.conn.Write(b)
	return err
}

// read reads one message. Nothing for rawSilence is an error.
func (c *rawConn) read() (resp.Frame, error) {
	if c.r.Buffered() == 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(rawSilence))
	}
	return resp.ReadFrame(c.r)
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
