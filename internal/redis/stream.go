package redis

import (
	"context"
	"errors"
	"strings"
	"time"

	rules "holdfast/internal/commands" // commands is a helper of the tests here
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/moment"
	"holdfast/internal/redis/outcome"
)

// Message is what a subscriber hears.
type Message struct {
	// Kind is subscribe or psubscribe for the confirmation of a subscription,
	// message or pmessage for a message.
	Kind string
	// Pattern is the pattern that matched, or is subscribed to; of psubscribe
	// and pmessage.
	Pattern string
	// Channel is where it was published, or what is subscribed to; none of
	// psubscribe.
	Channel string
	Payload string
	// Count is how many subscriptions the subscriber has; of confirmations.
	Count int64
}

var errSlow = errors.New("the subscriber is too slow: too much waits for it")

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
	topics := make([]topicName, len(names))
	for i, name := range names {
		topics[i] = topicName{channel, name}
		if !patterns {
			continue
		}
		topics[i].kind = pattern
		if cost.Hardness(name) > cost.MaxElementSteps {
			return &Error{Kind: Invalid, Cause: errHardPattern}
		}
	}
	if patterns {
		c.patterns.Add(int64(len(names)))
		defer c.patterns.Add(-int64(len(names)))
	}
	return c.listen(ctx, c.published, newListener(false), topics, hear)
}

// listen hands a listener what a hub has for it.
func (c *Client) listen(ctx context.Context, h *hub, l *listener, topics []topicName, hear func(Message)) error {
	h.join(l, topics)
	defer h.leave(l, topics)
	patience := time.NewTimer(c.cfg.Hold)
	defer patience.Stop()
	for {
		select {
		case <-l.more:
			batch, confirmed, err := l.take()
			for _, m := range batch {
				hear(m)
			}
			if err != nil {
				return err
			}
			if confirmed {
				patience.Stop()
			}
		case <-patience.C:
			return &Error{Kind: NotExecuted, Cause: outcome.ErrNoMaster}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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
	patience, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	wait := patience // until it listens for the first time
	cause := outcome.ErrNoMaster
	for ctx.Err() == nil {
		s, err := c.monitor.Wait(wait)
		if err == nil {
			var listened bool
			listened, err = c.monitorOnce(ctx, wait, s.Master, hear)
			if listened {
				wait = ctx
			}
			var refusal outcome.RedisError
			if errors.As(err, &refusal) && refusal.LoginRefused() {
				return &Error{Kind: Refused, Cause: refusal}
			}
			cause = err
		}
		if !moment.Sleep(wait, conn.DialPause) && ctx.Err() == nil {
			return &Error{Kind: NotExecuted, Cause: cause}
		}
	}
	return ctx.Err()
}

// monitorOnce follows one master until it is none any more or the connection
// ends. wait bounds the way there; it is ctx when it listened before. It
// answers whether it listened.
func (c *Client) monitorOnce(ctx, wait context.Context, master string, hear func(string)) (bool, error) {
	raw, err := conn.DialRaw(wait, c.cfg.options(), master)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	pinger := make(chan struct{})
	// The one writer. It ends with the connection, and ends it.
	go func() {
		defer close(pinger)
		defer raw.Close()
		tick := time.NewTicker(conn.PingInterval)
		defer tick.Stop()
		for err := raw.Send([]string{"MONITOR"}); err == nil; err = raw.Send([]string{"PING"}) {
			for waiting := true; waiting; {
				s, changed := c.monitor.Now()
				if s.Master != master {
					return
				}
				select {
				case <-tick.C:
					waiting = false
				case <-changed:
				case <-watch.Done():
					return
				}
			}
		}
	}()
	defer func() { stop(); <-pinger }()
	listened := false
	// Redis tells of our own signs of life too, and of what we do with our keys:
	// the answers of others are among that.
	ours := " " + raw.LocalAddr().String() + "] \"PING\""
	for {
		f, err := raw.Read()
		switch {
		case err != nil:
			return listened, err
		case f.Kind == '-':
			return listened, outcome.RedisError(f.Text)
		case f.Text == "PONG", strings.Contains(f.Text, ours), strings.Contains(f.Text, quotedReserved):
		case !listened: // OK
			if listened = true; wait != ctx {
				hear(f.Text)
			}
		default:
			hear(f.Text)
		}
	}
}

// quotedReserved is how MONITOR shows that a word begins as our own keys do.
var quotedReserved = `"` + strings.ReplaceAll(reservedPrefix, "\x00", `\x00`)

// hiddenMessage reports whether no subscriber is to hear a message: those of the
// Sentinels, and notifications about keys of ours (manual, "Keyspace
// notifications").
func hiddenMessage(channel, payload string) bool {
	if !strings.HasPrefix(channel, "__") {
		return false
	}
	return channel == rules.SentinelChannel || strings.HasPrefix(channel, "__key") &&
		(strings.Contains(channel, "__:"+reservedPrefix) || reserved(payload))
}

// errMoved ends a connection to a node that is no longer the master.
var errMoved = errors.New("the node is no longer the master")

// command is what asks a server for a topic, or takes leave of it.
func (n topicName) command(on bool) []string {
	switch {
	case n.kind == tracking && on:
		return []string{"CLIENT", "TRACKING", "ON", "BCAST"}
	case n.kind == tracking:
		return []string{"CLIENT", "TRACKING", "OFF"}
	case n.kind == pattern && on:
		return []string{"PSUBSCRIBE", n.name}
	case n.kind == pattern:
		return []string{"PUNSUBSCRIBE", n.name}
	case on:
		return []string{"SUBSCRIBE", n.name}
	}
	return []string{"UNSUBSCRIBE", n.name}
}
