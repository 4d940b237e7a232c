package commands

import (
	"fmt"
	"strings"
)

// channelsOfClients are all channels but the Sentinels' own, as patterns of a Redis
// user (manual, "ACL", pub/sub channels): no pattern there excludes one. They are,
// for each place in the name, what ends before it and what differs there.
var channelsOfClients = func() string {
	var all []string
	for i, c := range SentinelChannel {
		if i > 0 {
			all = append(all, "&"+SentinelChannel[:i])
		}
		all = append(all, fmt.Sprintf("&%s[^%c]*", SentinelChannel[:i], c))
	}
	return strings.Join(append(all, "&"+SentinelChannel+"?*"), " ")
}()

// NodeRights are what the Redis user of a stack's web nodes may do, as Redis' users'
// file has it: an application's data commands, and of the dangerous ones those that
// are allowed. It may listen to any pattern, for Redis compares one only with whole
// patterns: what the Sentinels say to each other, the web node keeps to itself.
func NodeRights(allow []string) string {
	return rights("~*", channelsOfClients,
		"-@all +@read +@write +@connection +@transaction +@scripting +@pubsub -@admin -@dangerous -move",
		granted(Granted), "+time +wait", granted(allow), "(&* -@all +psubscribe)")
}

// ScriptRights are what the Redis user may do that runs the scripts of clients who may
// write: what a client may do by commands, and no more. The database is the one that
// clients have, by its number. A rule cannot tell one COPY from another by its option
// DB, so a script may not use COPY at all. The rights hold for all commands of a
// transaction with a script in it.
func ScriptRights(database int, allow []string) string {
	return rights("~*", channelsOfClients,
		"-@all +@read +@write -@admin -@dangerous -copy -move",
		granted(scriptNames), granted(Granted), "+ping +echo +time +command +publish +spublish +pubsub +function +script -function|delete -function|flush -function|kill -function|load -function|restore -script|debug -script|flush -script|kill",
		granted(allow), fmt.Sprintf("+select|%d", database))
}

// ReadScriptRights are what the Redis user may do that runs the scripts of clients who
// may only read: see ScriptRights.
func ReadScriptRights(database int) string {
	return rights("~*",
		"-@all +@read -@admin -@dangerous -scan +sort_ro +ping +echo +time",
		granted(scriptNames), fmt.Sprintf("+select|%d", database))
}

// ProgramRights are what the Redis user of an application's own program may do: the
// data commands, in the databases that are named by their numbers, and what is
// allowed beside them. No COPY, for the reason that ScriptRights have. Redis compares a
// pattern that a client subscribes to only with whole patterns, so these are named,
// too: see SafePattern.
func ProgramRights(databases []int, patterns, allow []string) string {
	var selects, listens []string
	for _, d := range databases {
		selects = append(selects, fmt.Sprintf("+select|%d", d))
	}
	for _, p := range patterns {
		listens = append(listens, "&"+p)
	}

	return rights("~*", channelsOfClients, strings.Join(listens, " "),
		"-@all +@read +@write +@connection +@transaction +@scripting +@pubsub -@admin -@dangerous -copy -move -select -script|debug",
		denied(Shared), granted(Granted), "+time +wait", granted(allow), strings.Join(selects, " "))
}

// SafePattern reports whether a pattern of channels (manual, PSUBSCRIBE) certainly leaves
// the Sentinels' channel out, by how it begins: with it also all patterns and channels
// that it matches are others.
func SafePattern(pattern string) bool {
	begins := pattern
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		begins = pattern[:i]
	}
	return !strings.HasPrefix(SentinelChannel, begins)
}

func rights(parts ...string) string {
	var all []string
	for _, part := range parts {
		all = append(all, strings.Fields(part)...)
	}
	return strings.Join(all, " ")
}

// denied take rights to commands away, by their names.
func denied(names []string) string { return "-" + strings.Join(names, " -") }

// granted are rights to commands by their names.
func granted(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "+" + strings.Join(names, " +")
}
