package commands

import "strings"

// SentinelChannel is the channel on which the Sentinels tell each other which node is the master
// (manual, "High availability with Redis Sentinel"). A client that can write there can move the
// master.
const SentinelChannel = "__sentinel__:hello"

// The reasons why a command is refused for its arguments.
const (
	otherDatabase = "its option DB leads out of the database, and clients have this one alone: leave it out"
	ofSentinels   = "the channel " + SentinelChannel + " is the Sentinels' own"
)

// HasRefusedWords reports whether RefusedWords looks at the arguments of a command of this name.
func HasRefusedWords(name string) bool {
	switch name {
	case "copy", "publish", "spublish", "subscribe", "ssubscribe":
		return true
	}
	return false
}

// RefusedWords returns why nobody may use a command with these arguments, or "". words is the whole
// command.
func RefusedWords(name string, words []string) string {
	switch name {
	case "copy":
		// COPY source destination [DB number] [REPLACE], with the options in any order.
		for _, option := range words[min(3, len(words)):] {
			if strings.EqualFold(option, "db") {
				return otherDatabase
			}
		}
	case "publish", "spublish":
		if len(words) > 1 && words[1] == SentinelChannel {
			return ofSentinels
		}
	case "subscribe", "ssubscribe":
		for _, channel := range words[1:] {
			if channel == SentinelChannel {
				return ofSentinels
			}
		}
	}
	return ""
}
