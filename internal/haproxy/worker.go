package haproxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Worker returns a client of one worker of an HAProxy in master-worker mode, through the socket of
// its master (-S). It also reaches a worker that only finishes its requests after a reload, which
// no other socket does (management guide, section 9.4).
func Worker(masterSocket string, pid int) *Client {
	c := NewClient(masterSocket)
	c.prefix = fmt.Sprintf("@!%d ", pid)
	return c
}

// CloseSessions closes every session of a frontend, and returns how many it closed.
func (c *Client) CloseSessions(ctx context.Context, frontend string) (closed int, err error) {
	// One by one, because a worker that is ending refuses "shutdown sessions server".
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
		// The command may find that a session has ended by itself, which is fine.
		if _, err := c.do(ctx, strings.Join(some, ";")); err != nil {
			return closed, err
		}
		closed += len(some)
	}
	return closed, nil
}

// atOnce is how many commands to close a session are sent in one line. Each has at most 35
// characters, and a line must fit into HAProxy's buffer (16,384).
const atOnce = 100
