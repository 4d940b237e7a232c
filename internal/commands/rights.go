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

func rights(parts ...string) string {
	var all []string
	for _, part := range parts {
		all = append(all, strings.Fields(part)...)
	}
	return strings.Join(all, " ")
}

// granted are rights to commands by their names.
func granted(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "+" + strings.Join(names, " +")
}
