package stack

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/commands"
	"holdfast/internal/yamltree"
)

// The keys below redis of an application: what a user's own program may do in the stack's Redis.

// lastDatabase is the highest number of a database that programs may use. Redis has 16 databases,
// and the last one holds the web nodes' own records.
const lastDatabase = 14

var programRedisKeys = []key[RedisAccess]{
	textsKey("allow", programAllowRule, false, func(a *RedisAccess) *[]string { return &a.Allow },
		"Dangerous commands, and those that change everybody's scripts and functions, that the program may use all the same, such as keys, flushdb, \"config|get\" or \"function|load\"; @dangerous: all dangerous ones that can be allowed; @vectors: those of vector sets, which take Redis 8.0 or newer."),
	textsKey("patterns", patternRule, false, func(a *RedisAccess) *[]string { return &a.Patterns },
		"Patterns of channels that the program may subscribe to (PSUBSCRIBE), exactly as it writes them, such as \"news.*\". Channels by their names (SUBSCRIBE) need no entry."),
	numbersKey("databases", 1, lastDatabase, "databases such as [1, 2]", func(a *RedisAccess) *[]int { return &a.Databases },
		"Databases that the program may select (SELECT) beside 0. All programs that name one share it."),
}

var (
	programAllowRule = rule{
		what:   `a command, such as keys or "config|get"`,
		values: programAllowable,
		check:  checkProgramAllow,
	}
	patternRule = rule{
		what:    `a pattern of channels, such as "news.*"`,
		pattern: regexp.MustCompile(`^[^\x00-\x20\x7f]+$`),
		check:   checkPattern,
	}
)

// programAllowable is every value that allow may have for a program. Blocking commands need no
// permission there, because the program's connections are its own.
var programAllowable = slices.Concat([]string{"@dangerous", "@vectors"}, commands.Dangerous, commands.Shared, commands.Vectors)

// checkProgramAllow returns why a command cannot be allowed to a program, or "".
func checkProgramAllow(s string) string {
	plain := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s, "+")), " ", "|")
	switch plain {
	case "select":
		return "which databases the program may select stands under databases, such as databases: [1]"
	case "psubscribe":
		return `which patterns the program may subscribe to stands under patterns, such as patterns: ["news.*"]`
	}
	ofAllowable := func(name string) bool { return name == plain || strings.HasPrefix(name, plain+"|") }
	if slices.ContainsFunc(programAllowable, ofAllowable) {
		return checkAllowable(s, plain, programAllowable)
	}
	if why := commands.RefusedProgram(plain); why != "" {
		return fmt.Sprintf("%s cannot be allowed: %s; remove it", yamltree.Quoted(s), why)
	}
	if rule, _ := commands.Named(plain, false); rule != commands.Free || plain == "@blocking" {
		return fmt.Sprintf("%s needs no allowing: a program has connections of its own, and may use and block them; remove it", yamltree.Quoted(s))
	}
	return checkAllowable(s, plain, programAllowable)
}

// checkPattern returns why a program may not subscribe to a pattern, or "".
func checkPattern(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return yamltree.Quoted(s) + " has a space or a control character, which Redis' users' file cannot have"
	}
	if !commands.SafePattern(s) {
		return fmt.Sprintf("%s may match the Sentinels' channel (%s): begin it as the program's channels begin, such as \"news.*\"", yamltree.Quoted(s), commands.SentinelChannel)
	}
	return ""
}

var appTimeoutKeys = []key[AppTimeouts]{
	optionalDuration("server", func(t *AppTimeouts) *time.Duration { return &t.Server },
		"How long a node of the application may be silent. Default: timeouts.server."),
	optionalDuration("tunnel", func(t *AppTimeouts) *time.Duration { return &t.Tunnel },
		"How long its WebSockets, streams of events and connections of tcp entries may be silent. Default: timeouts.tunnel."),
}

// optionalDuration returns the key of a time that Show leaves out where it is not set.
func optionalDuration[T any](name string, at func(*T) *time.Duration, doc string) key[T] {
	k := durationKey(name, time.Millisecond, at, doc)
	show := k.show
	k.show = func(t *T) any {
		if *at(t) == 0 {
			return nil
		}
		return show(t)
	}
	return k
}

// appTimeoutsKey is a section that Show leaves out where it is empty.
func appTimeoutsKey() key[App] {
	k := sectionKey("timeouts", appTimeoutKeys, func(a *App) *AppTimeouts { return &a.Timeouts },
		"HAProxy's time-outs for this application alone.").only(Command, Servers, Image)
	show := k.show
	k.show = func(a *App) any {
		if shown := show(a).(mapping); len(shown) > 0 {
			return shown
		}
		return nil
	}
	return k
}

// programRedisKey is a section that Show leaves out where it is empty.
func programRedisKey() key[App] {
	k := sectionKey("redis", programRedisKeys, func(a *App) *RedisAccess { return &a.Redis },
		"What the program may do at the stack's Redis beyond every program's data commands in database 0. It is there as a Redis user of its own, app-NAME, whose password REDIS_URL has.").only(Command, Image)
	show := k.show
	k.show = func(a *App) any {
		if shown := show(a).(mapping); len(shown) > 0 {
			return shown
		}
		return nil
	}
	return k
}
