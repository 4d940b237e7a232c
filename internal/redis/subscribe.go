package redis

import (
	"context"
	"errors"
	"time"

	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/pubsub"
)

// Subscribe hears of messages to channels (SUBSCRIBE) or, with patterns, to
// what they match (PSUBSCRIBE), until the context ends, also across a
// failover: what is published while there is no master is not heard. hear is
// called by one goroutine, the caller's; who is so slow that 4 MB or 10,000
// messages wait for it is dropped. All subscribers share one connection.
//
// The error is the context's, or an *Error: Refused in Redis' words, Overloaded
// for a slow subscriber, NotExecuted when nothing could be subscribed to within
// Config.Hold.
func (c *Client) Subscribe(ctx context.Context, patterns bool, names []string, hear func(Message)) error {
	if len(names) == 0 {
		return &Error{Kind: Invalid, Cause: errors.New("a subscription needs a name")}
	}
	topics := make([]pubsub.Topic, len(names))
	for i, name := range names {
		topics[i] = pubsub.Topic{Kind: pubsub.Channel, Name: name}
		if !patterns {
			continue
		}
		topics[i].Kind = pubsub.Pattern
		if cost.Hardness(name) > cost.MaxElementSteps {
			return &Error{Kind: Invalid, Cause: cost.ErrHardPattern}
		}
	}
	if patterns {
		c.patterns.Add(int64(len(names)))
		defer c.patterns.Add(-int64(len(names)))
	}
	return c.published.Deliver(ctx, c.cfg.Hold, pubsub.NewSubscriber(false), topics, hear)
}

// Monitor hears every command that the master carries out (MONITOR), as Redis
// words it and without the leading plus sign, until the context ends, also
// across a failover: what happens in between is not heard. hear is called by
// one goroutine, the caller's; Redis drops who is too slow, and we come back.
// Its first call, with "OK", says that it listens. The error is the context's,
// or an *Error: Refused in Redis' words, NotExecuted when there was no master
// within Config.Hold.
func (c *Client) Monitor(ctx context.Context, hear func(line string)) error {
	if c.cluster != nil {
		return &Error{Kind: Invalid, Cause: errNotInCluster("MONITOR")}
	}
	return pubsub.HearCommands(ctx, c.cfg.Hold, c.cfg.options(), c.monitor, hear)
}

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
	return c.changes.Deliver(ctx, c.cfg.Hold, pubsub.NewSubscriber(true), pubsub.EveryKey, func(m Message) { hear(m.AsChange()) })
}

// changesInCluster hears of the changes at every master. It says Missed for
// each that it comes to listen to, also those that join later.
func (c *Client) changesInCluster(ctx context.Context, hear func(Change)) error {
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
		t, moved := c.cluster.now()
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
			return &Error{Kind: NotExecuted, Cause: outcome.ErrNoMaster}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
