package pubsub

import (
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/resp"
)

// Change tells that a key may have changed.
type Change struct {
	Key string
	// Missed: some changes were not heard (a failover, FLUSHALL, a subscriber that was too
	// slow), so any key may have changed. Key is empty then.
	Missed bool
}

// The kinds of messages about changes.
const (
	invalidated = "invalidate"
	missed      = "missed"
)

// EveryKey is the topic of changes: Redis tells of each key that was written,
// expired or evicted, in any database (manual, "Client-side caching in Redis",
// broadcasting mode).
var EveryKey = []Topic{{Kind: tracking}}

// AsChange returns the change that a message of EveryKey tells of.
func (m Message) AsChange() Change { return Change{Key: m.Channel, Missed: m.Kind == missed} }

// invalidate hands out keys that changed. No list at all stands for FLUSHALL and FLUSHDB.
func (h *Broker) invalidate(keys resp.Frame) {
	n := EveryKey[0]
	if keys.Null {
		h.publish(n, Message{Kind: missed})
		return
	}
	for _, key := range keys.Items {
		if !command.Reserved(key.Text) {
			h.publish(n, Message{Kind: invalidated, Channel: key.Text})
		}
	}
}
