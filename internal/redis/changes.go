package redis

import (
	"context"
	"time"

	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// Change says that a key may have changed.
type Change struct {
	Key string
	// Missed: some changes were not heard (a failover, FLUSHALL, a listener
	// that was too slow): any key may have changed. Key is empty then.
	Missed bool
}

// The kinds of messages that a listener to changes gets.
const (
	invalidated = "invalidate"
	missed      = "missed"
)

// everyKey is the topic of changes: Redis tells of each key that was written,
// expired or evicted, in any database (manual, "Client-side caching in Redis",
// broadcasting mode).
var everyKey = []topicName{{kind: tracking}}

// Changes hears of every change of a key, whoever made it, until the context
// ends, also across a failover. hear is called by one goroutine, the caller's.
// Its first call, with Missed, says that it listens; so it does again at every
// new connection. Holdfast's own keys are left out. All who listen share one
// connection.
//
// The master tells of a change as soon as it made it, which is before the
// replicas have it: a change may be undone by a failover, which is told as
// Missed.
//
// The error is the context's, or an *Error: Refused in Redis' words,
// NotExecuted when nobody could be asked within Config.Hold.
func (c *Client) Changes(ctx context.Context, hear func(Change)) error {
	if c.cluster != nil {
		return c.changesInCluster(ctx, hear)
	}
	return c.listen(ctx, c.changes, newListener(true), everyKey, func(m Message) { hear(m.change()) })
}

func (m Message) change() Change { return Change{Key: m.Channel, Missed: m.Kind == missed} }

// changesInCluster hears of the changes at every master. It says Missed for
// each that it comes to listen to, also those that join later.
func (c *Client) changesInCluster(ctx context.Context, hear func(Change)) error {
	l := newListener(true)
	hubs := map[*hub]bool{}
	defer func() {
		for h := range hubs {
			h.leave(l, everyKey)
		}
	}()
	patience := time.NewTimer(c.cfg.Hold)
	defer patience.Stop()
	for {
		t, moved := c.cluster.now()
		if t != nil {
			now := map[*hub]bool{}
			for _, s := range t.shards {
				if now[s.changes] = true; !hubs[s.changes] {
					s.changes.join(l, everyKey)
				}
			}
			for h := range hubs {
				if !now[h] {
					h.leave(l, everyKey) // before it ends
				}
			}
			hubs = now
		}
		select {
		case <-l.more:
			batch, confirmed, err := l.take()
			for _, m := range batch {
				hear(m.change())
			}
			if err != nil {
				return err
			}
			if confirmed {
				patience.Stop()
			}
		case <-moved:
		case <-patience.C:
			return &Error{Kind: NotExecuted, Cause: outcome.ErrNoMaster}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// invalidate hands out keys that changed; none at all stands for FLUSHALL and
// FLUSHDB.
func (h *hub) invalidate(keys resp.Frame) {
	n := everyKey[0]
	if keys.Null {
		h.publish(n, Message{Kind: missed})
		return
	}
	for _, key := range keys.Items {
		if !reserved(key.Text) {
			h.publish(n, Message{Kind: invalidated, Channel: key.Text})
		}
	}
}
