package commands

import (
	"fmt"
	"strings"
)

// channelsOfClients are all channels except the Sentinels' own, as patterns of a Redis user
// (manual, "ACL", pub/sub channels). A pattern cannot exclude a channel. So for each position in
// that channel's name there is a pattern for names that end before it, and one for names that
// differ there.
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

// NodeRights returns the rights of the Redis user of a stack's web nodes, in the form of Redis'
// users' file: the data commands of an application, and the dangerous ones that are allowed.
//
// The user may subscribe to any pattern, because Redis compares patterns only as whole texts. The
// web node itself hides what the Sentinels say to each other.
func NodeRights(allow []string) string {
	return rights("~*", channelsOfClients,
		"-@all +@read +@write +@connection +@transaction +@scripting +@pubsub -@admin -@dangerous -move",
		granted(Granted), "+time +wait", granted(allow), "(&* -@all +psubscribe)")
}

// ScriptRights returns the rights of the Redis user that runs the scripts of clients who may write.
// Such a script may do what the client may do by commands, and no more. database is the number of
// the clients' database. A rule cannot check COPY's option DB, so scripts may not use COPY at all.
//
// The rights apply to all commands of a transaction that contains a script.
func ScriptRights(database int, allow []string) string {
	return rights("~*", channelsOfClients,
		"-@all +@read +@write -@admin -@dangerous -copy -move",
		granted(scriptNames), granted(Granted), "+ping +echo +time +command +publish +spublish +pubsub +function +script -function|delete -function|flush -function|kill -function|load -function|restore -script|debug -script|flush -script|kill",
		granted(allow), fmt.Sprintf("+select|%d", database))
}

// ReadScriptRights returns the rights of the Redis user that runs the scripts of clients who may
// only read. See ScriptRights.
func ReadScriptRights(database int) string {
	return rights("~*",
		"-@all +@read -@admin -@dangerous -scan +sort_ro +ping +echo +time",
		granted(scriptNames), fmt.Sprintf("+select|%d", database))
}

// ProgramRights returns the rights of the Redis user of an application's own program: the data
// commands in the databases with these numbers, and what is allowed in addition. COPY is left out
// for the reason given at ScriptRights. Redis compares a pattern that a client subscribes to only
// as a whole text, so the patterns are listed, too: see SafePattern.
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

// SafePattern reports whether a pattern of channels (manual, PSUBSCRIBE) certainly excludes the
// Sentinels' channel. It looks only at how the pattern begins: if that differs, every channel that
// it matches differs as well.
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

// denied returns rules that take rights to these commands away.
func denied(names []string) string { return "-" + strings.Join(names, " -") }

// granted returns rules that give rights to these commands.
func granted(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "+" + strings.Join(names, " +")
}
