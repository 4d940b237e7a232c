package pubsub

import (
	"errors"
	"strings"

	"holdfast/internal/commands"
	"holdfast/internal/redis/command"
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

// hiddenMessage reports whether no subscriber is to hear a message: those of the
// Sentinels, and notifications about keys of ours (manual, "Keyspace
// notifications").
func hiddenMessage(channel, payload string) bool {
	if !strings.HasPrefix(channel, "__") {
		return false
	}
	return channel == commands.SentinelChannel || strings.HasPrefix(channel, "__key") &&
		(strings.Contains(channel, "__:"+command.ReservedPrefix) || command.Reserved(payload))
}

// errMoved ends a connection to a node that is no longer the master.
var errMoved = errors.New("the node is no longer the master")

// command returns the command that begins to listen to a topic, or ends it.
func (n Topic) command(on bool) []string {
	switch {
	case n.Kind == tracking && on:
		return []string{"CLIENT", "TRACKING", "ON", "BCAST"}
	case n.Kind == tracking:
		return []string{"CLIENT", "TRACKING", "OFF"}
	case n.Kind == Pattern && on:
		return []string{"PSUBSCRIBE", n.Name}
	case n.Kind == Pattern:
		return []string{"PUNSUBSCRIBE", n.Name}
	case on:
		return []string{"SUBSCRIBE", n.Name}
	}
	return []string{"UNSUBSCRIBE", n.Name}
}
