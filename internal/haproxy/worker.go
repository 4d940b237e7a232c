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
	for line := range strings.Lines(sessions) {
		id, about, _ := strings.Cut(line, ":")
		if !slices.Contains(strings.Fields(about), "fe="+frontend) {
			continue
		}
		// One that has ended meanwhile is as good.
		if _, err := c.do(ctx, "shutdown session "+id); err != nil {
			return closed, err
		}
		closed++
	}
	return closed, nil
}
