package conn

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// How a raw connection notices that its server hangs: the server is asked for a sign of life
// every PingInterval, and given up when nothing has come for rawSilence.
const (
	PingInterval = time.Second
	rawSilence   = 8 * time.Second        // longer than a script may keep Redis silent (busy-reply-threshold)
	DialPause    = 100 * time.Millisecond // between two tries to connect
)

// Raw is a connection that speaks RESP3 without the client library, for what Redis pushes
// (subscriptions, tracking, MONITOR). One goroutine may read while another one writes.
type Raw struct {
	conn net.Conn
	r    *bufio.Reader
}

// DialRaw connects to an address and logs in.
func DialRaw(ctx context.Context, o Options, addr string) (*Raw, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	conn, err := o.Connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &Raw{conn: conn, r: bufio.NewReaderSize(conn, 32<<10)}
	hello := []string{"HELLO", "3"}
	if o.Password != "" || o.Username != "" {
		hello = append(hello, "AUTH", o.user(), o.Password)
	}
	if o.Name != "" {
		hello = append(hello, "SETNAME", o.Name)
	}
	stop := context.AfterFunc(ctx, c.Close)
	defer stop()
	if err := c.Send(hello); err != nil {
		c.Close()
		return nil, err
	}
	answer, err := c.Read()
	if err == nil && answer.Kind == '-' {
		err = outcome.RedisError(answer.Text)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("log in at %s: %w", addr, err)
	}
	return c, nil
}

// LocalAddr returns the address of this end.
func (c *Raw) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// Close closes the connection, and so ends Read and Send. It may be called several times.
func (c *Raw) Close() { _ = unwrapped(c.conn).Close() }

// Send sends commands.
func (c *Raw) Send(cmds ...[]string) error {
	if len(cmds) == 0 {
		return nil
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(rawSilence))
	var b []byte
	for _, cmd := range cmds {
		b = resp.AppendCommand(b, cmd)
	}
	_, err := c.conn.Write(b)
	return err
}

// Read reads one message. It fails if none comes for rawSilence.
func (c *Raw) Read() (resp.Frame, error) {
	if c.r.Buffered() == 0 {
		_ = c.conn.SetReadDeadline(time.Now().Add(rawSilence))
	}
	return resp.ReadFrame(c.r)
}
