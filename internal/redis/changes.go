package redis

import "context"

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
		return &Error{Invalid, errNotInCluster("changes of keys")}
	}
	return c.listen(ctx, c.changes, newListener(true), everyKey, func(m Message) {
		hear(Change{Key: m.Channel, Missed: m.Kind == missed})
	})
}

// invalidate hands out keys that changed; none at all stands for FLUSHALL and
// FLUSHDB.
func (h *hub) invalidate(keys frame) {
	n := everyKey[0]
	if keys.null {
		h.publish(n, Message{Kind: missed})
		return
	}
	for _, key := range keys.items {
		if !reserved(key.text) {
			h.publish(n, Message{Kind: invalidated, Channel: key.text})
		}
	}
}
