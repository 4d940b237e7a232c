package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"holdfast/internal/clock"
)

// Client is a connection to a stack's log writer. It is not safe for concurrent use.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
}

// Dial connects to the log writer of the stack with that state directory.
func Dial(state string, limit time.Duration) (*Client, error) {
	conn, err := net.DialTimeout("unix", socket(state), limit)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, in: bufio.NewReader(conn)}, nil
}

// Close closes the connection. A writer without connections and nodes ends by itself.
func (c *Client) Close() { c.conn.Close() }

// Ping returns an error if the writer does not work.
func (c *Client) Ping(limit time.Duration) error { return c.ask(askPing, limit) }

func (c *Client) ask(words string, limit time.Duration) error {
	if err := c.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.conn, words); err != nil {
		return err
	}
	said, err := c.in.ReadString('\n')
	if err != nil {
		return err
	}
	if said = strings.TrimSuffix(said, "\n"); said != answer {
		return errors.New("the log writer: " + said)
	}
	return nil
}

// Await waits until the log writer works, or the context ends.
func Await(ctx context.Context, state string) error {
	for {
		err := tell(state, askPing, syncLimit)
		if err == nil {
			return nil
		}
		if !clock.Sleep(ctx, 5*time.Millisecond) {
			return err
		}
	}
}

// tell sends the log writer one request, on a new connection.
func tell(state, words string, limit time.Duration) error {
	c, err := Dial(state, limit)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ask(words, limit)
}

// HandOver closes a pipe with which a node was started, once the log writer reads it. Until then
// somebody has to keep the pipe open: the node may have ended already, and its output would be lost
// with the last open end. HandOver gives up when the context ends.
func HandOver(ctx context.Context, state, node string, f *os.File) {
	defer f.Close()
	for tell(state, askOpen+" "+node, syncLimit) != nil {
		if !clock.Sleep(ctx, 20*time.Millisecond) {
			return
		}
	}
}

// syncLimit is how long to wait for the last output of a node.
const syncLimit = 300 * time.Millisecond

// Sync waits until everything that a node has written so far is in its log, for at most syncLimit:
// a writer that does not run stores nothing.
func Sync(state, node string) { _ = tell(state, askSync+" "+node, syncLimit) }
