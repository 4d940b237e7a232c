package redis

import (
	"context"
	"errors"

	"holdfast/internal/redis/cluster"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/pubsub"
)

// Subscribe calls hear with messages to channels (SUBSCRIBE) or, with patterns, to the channels
// that they match (PSUBSCRIBE), until the context ends, also across a failover. What is published
// while there is no master is missed. hear is called by the caller's goroutine. A subscriber is
// dropped if it is so slow that 4 MB or 10,000 messages wait for it. All subscribers share one
// connection.
//
// The error is the context's, or an *Error: Refused in Redis' words, Overloaded for a slow
// subscriber, NotExecuted if nothing could be subscribed to within Config.Hold.
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
		c.maker.Patterns.Add(int64(len(names)))
		defer c.maker.Patterns.Add(-int64(len(names)))
	}
	return c.published.Deliver(ctx, c.cfg.Hold, pubsub.NewSubscriber(false), topics, hear)
}

// Monitor calls hear with every command that the master carries out (MONITOR), as Redis words it
// and without the leading plus sign, until the context ends, also across a failover. What happens in
// between is missed. hear is called by the caller's goroutine. If it is too slow, Redis drops the
// connection, and Monitor connects again. The first call, with "OK", tells that Monitor listens. The
// error is the context's, or an *Error: Refused in Redis' words, NotExecuted if there was no master
// within Config.Hold.
func (c *Client) Monitor(ctx context.Context, hear func(line string)) error {
	if c.cluster != nil {
		return &Error{Kind: Invalid, Cause: cluster.ErrNotInCluster("MONITOR")}
	}
	return pubsub.HearCommands(ctx, c.cfg.Hold, c.cfg.Options(), c.monitor, hear)
}

// Changes calls hear with every change of a key, by any client, until the context ends, also across
// a failover. hear is called by the caller's goroutine. The first call, with Missed, tells that
// Changes listens; so does one at every new connection. Holdfast's own keys are left out. All
// callers share one connection.
//
// The master tells of a change as soon as it has made it, before the replicas have it. So a failover
// may undo a change, which is told as Missed.
//
// The error is the context's, or an *Error: Refused in Redis' words, NotExecuted if no master could
// be asked within Config.Hold.
func (c *Client) Changes(ctx context.Context, hear func(Change)) error {
	if c.cluster != nil {
		return c.cluster.Listen(ctx, hear)
	}
	return c.changes.Deliver(ctx, c.cfg.Hold, pubsub.NewSubscriber(true), pubsub.EveryKey, func(m Message) { hear(m.AsChange()) })
}
