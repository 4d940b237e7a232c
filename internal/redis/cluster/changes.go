package cluster

import (
	"context"
	"time"

	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/pubsub"
)

// Listen hears of the changes of keys at every master, as Client.Changes does. It tells Missed for
// each master that it begins to listen to, also for those that join later.
func (c *Cluster) Listen(ctx context.Context, hear func(pubsub.Change)) error {
	l := pubsub.NewSubscriber(true)
	hubs := map[*pubsub.Broker]bool{}
	defer func() {
		for h := range hubs {
			h.Leave(l, pubsub.EveryKey)
		}
	}()
	patience := time.NewTimer(c.cfg.Hold)
	defer patience.Stop()
	for {
		t, moved := c.now()
		if t != nil {
			now := map[*pubsub.Broker]bool{}
			for _, s := range t.shards {
				if now[s.changes] = true; !hubs[s.changes] {
					s.changes.Join(l, pubsub.EveryKey)
				}
			}
			for h := range hubs {
				if !now[h] {
					h.Leave(l, pubsub.EveryKey) // before it ends
				}
			}
			hubs = now
		}
		select {
		case <-l.More:
			batch, confirmed, err := l.Take()
			for _, m := range batch {
				hear(m.AsChange())
			}
			if err != nil {
				return err
			}
			if confirmed {
				patience.Stop()
			}
		case <-moved:
		case <-patience.C:
			return &outcome.Error{Kind: outcome.NotExecuted, Cause: outcome.ErrNoMaster}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
