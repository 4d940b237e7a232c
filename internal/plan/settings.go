package plan

import (
	"maps"
	"slices"
	"strings"
)

// Settings are what a Redis node or a Sentinel takes while it runs, so that its files
// need no restart to count.
type Settings struct {
	// Config is for CONFIG SET, and at a Sentinel for SENTINEL SET.
	Config []Setting `json:"config,omitempty"`
	// Users are those whose rights are set (ACL SETUSER). They are not read from the
	// file (ACL LOAD): Redis 7.0 ends the connections of every user then.
	Users []UserRights `json:"users,omitempty"`
	// Gone are the users that are removed (ACL DELUSER). They lose their connections.
	Gone []string `json:"gone,omitempty"`
}

// Setting is one directive of Redis with its value, empty for none.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// UserRights is a line of an ACL file.
type UserRights struct {
	Name string `json:"name"`
	// Rules have the hash of the password in them.
	Rules []string `json:"-"`
}

// settable are the directives of base.conf that CONFIG SET takes (Redis 7.0,
// config.c: those without IMMUTABLE_CONFIG), and sentinelSettable those of a Sentinel's
// that SENTINEL SET takes.
var (
	settable = []string{
		"appendfsync", "save", "shutdown-timeout", "maxmemory", "maxmemory-policy", "proto-max-bulk-len", "client-output-buffer-limit",
		"busy-reply-threshold", "min-replicas-to-write", "min-replicas-max-lag", "repl-ping-replica-period", "repl-timeout", "repl-backlog-size",
	}
	sentinelSettable = []string{"down-after-milliseconds", "failover-timeout", "parallel-syncs"}
)

// settings finds what makes the new files count at a process that runs; all is false
// where something needs a restart.
func settings(kind Kind, old, now map[string]string) (s Settings, all bool) {
	allowed := settable
	if kind == Sentinel {
		allowed = sentinelSettable
	}
	was, is := directives(old["base.conf"]), directives(now["base.conf"])
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if before, there := was[name]; there && before == is[name] {
			continue
		}
		if !slices.Contains(allowed, name) {
			return Settings{}, false
		}
		s.Config = append(s.Config, Setting{name, is[name]})
	}
	for name := range was {
		if _, there := is[name]; !there { // what it is without, only a start knows
			return Settings{}, false
		}
	}
	s.Users, s.Gone = userChanges(old["users.acl"], now["users.acl"])
	return s, true
}

// directives are the values of a configuration by name. The lines of one that stands
// several times are joined, as CONFIG SET takes them; the name of a Sentinel's master
// is left out.
func directives(content string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(content) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		name, value := words[0], words[1:]
		if name == "sentinel" && len(words) > 3 {
			name, value = words[1], words[3:]
		}
		text := strings.Join(value, " ")
		if text == `""` {
			text = ""
		}
		if before, there := all[name]; there {
			text = strings.TrimSpace(before + " " + text)
		}
		all[name] = text
	}
	return all
}

// userChanges are the users whose lines are new or differ, and those without one.
func userChanges(old, now string) (changed []UserRights, gone []string) {
	was, is := users(old), users(now)
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if was[name] != is[name] {
			changed = append(changed, UserRights{name, strings.Fields(is[name])})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if _, there := is[name]; !there {
			gone = append(gone, name)
		}
	}
	return changed, gone
}

// KeepUsers is an ACL file with the users that another one has besides, as they are there.
func KeepUsers(now, old string) string {
	is := users(now)
	for line := range strings.Lines(old) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "user" {
			continue
		}
		if _, there := is[words[1]]; !there {
			now = strings.TrimSuffix(now, "\n") + "\n" + strings.TrimSuffix(line, "\n")
		}
	}
	return now
}

// users are the rules of an ACL file by user.
func users(content string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(content) {
		if words := strings.Fields(line); len(words) > 2 && words[0] == "user" {
			all[words[1]] = strings.Join(words[2:], " ")
		}
	}
	return all
}
