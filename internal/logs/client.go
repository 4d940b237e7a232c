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
)

// Client is a connection to a stack's log writer. It is for one goroutine.
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

// Close ends the connection. A writer that has none, and no node, ends.
func (c *Client) Close() { c.conn.Close() }

// Ping asks whether the writer works.
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
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// tell asks the log writer once.
func tell(state, words string, limit time.Duration) error {
	c, err := Dial(state, limit)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ask(words, limit)
}

// HandOver closes a pipe that a node was started with, once the log writer
// reads it: what the node says before is in the pipe as long as somebody has it
// open, and the node may have ended by then. It gives up with the context.
func HandOver(ctx context.Context, state, node string, f *os.File) {
	defer f.Close()
	for tell(state, askOpen+" "+node, syncLimit) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// syncLimit is how long the last words of a node are waited for.
const syncLimit = 300 * time.Millisecond

// Sync waits until what a node has said so far is in its log, but not longer
// than syncLimit: a writer that does not run has nothing to add.
func Sync(state, node string) { _ = tell(state, askSync+" "+node, syncLimit) }
