package commands

import "strings"

// SentinelChannel is where the Sentinels tell each other who the master is (manual,
// "High availability with Redis Sentinel"). Who writes there can move the master.
const SentinelChannel = "__sentinel__:hello"

// Why a command is refused for its arguments.
const (
	otherDatabase = "its option DB leads out of the database, and clients have this one alone: leave it out"
	ofSentinels   = "the channel " + SentinelChannel + " is the Sentinels' own"
)

// HasRefusedWords reports whether RefusedWords looks at the arguments of a command
// of this name.
func HasRefusedWords(name string) bool {
	switch name {
	case "copy", "publish", "spublish", "subscribe", "ssubscribe":
		return true
	}
	return false
}

// RefusedWords returns why nobody may use a command with these arguments. words are
// the whole command. The result is empty for all others.
func RefusedWords(name string, words []string) string {
	switch name {
	case "copy":
		// COPY source destination [DB number] [REPLACE], in any order.
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
