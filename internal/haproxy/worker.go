package haproxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Worker is a client of one worker of an HAProxy in master-worker mode, through the
// socket of its master (-S): also of a worker that only ends what it has in hand since a
// reload, and that no other socket leads to (management guide, section 9.4).
func Worker(masterSocket string, pid int) *Client {
	c := NewClient(masterSocket)
	c.prefix = fmt.Sprintf("@!%d ", pid)
	return c
}

// CloseSessions closes every session of a frontend, and returns how many there were.
func (c *Client) CloseSessions(ctx context.Context, frontend string) (closed int, err error) {
	// "shutdown sessions server" is refused by a worker that ends.
	sessions, err := c.do(ctx, "show sess")
	if err != nil {
		return 0, err
	}
	var shutdown []string
	for line := range strings.Lines(sessions) {
		if id, about, _ := strings.Cut(line, ":"); slices.Contains(strings.Fields(about), "fe="+frontend) {
			shutdown = append(shutdown, "shutdown session "+id)
		}
	}
	for some := range slices.Chunk(shutdown, atOnce) {
		// One that has ended meanwhile is as good.
		if _, err := c.do(ctx, strings.Join(some, ";")); err != nil {
			return closed, err
		}
		closed += len(some)
	}
	return closed, nil
}

// atOnce is how many commands to close a session fit into one line with room to spare: one
// has at most 35 characters, and a line as many as HAProxy's buffer has (16,384).
const atOnce = 100
