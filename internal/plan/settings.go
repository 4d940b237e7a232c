package plan

import (
	"maps"
	"slices"
	"strings"
)

// Settings are changes that a redis node or a Sentinel takes while it runs, so that its new files
// take effect without a restart.
type Settings struct {
	// Config is for CONFIG SET, and at a Sentinel for SENTINEL SET.
	Config []Setting `json:"config,omitempty"`
	// Users are the users whose rights are set with ACL SETUSER. Reading the whole file (ACL LOAD)
	// would not do: Redis 7.0 then closes the connections of every user.
	Users []UserRights `json:"users,omitempty"`
	// Gone are the users to remove (ACL DELUSER). Their connections are closed.
	Gone []string `json:"gone,omitempty"`
}

// Setting is one directive of Redis with its value, which may be empty.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// UserRights is a line of an ACL file.
type UserRights struct {
	Name string `json:"name"`
	// Rules contain the hash of the password.
	Rules []string `json:"-"`
}

// settable are the directives of base.conf that CONFIG SET takes (Redis 7.0, config.c: those
// without IMMUTABLE_CONFIG). sentinelSettable are the directives of a Sentinel that SENTINEL SET
// takes.
var (
	settable = []string{
		"appendfsync", "save", "shutdown-timeout", "maxmemory", "maxmemory-policy", "proto-max-bulk-len", "client-output-buffer-limit",
		"busy-reply-threshold", "min-replicas-to-write", "min-replicas-max-lag", "repl-ping-replica-period", "repl-timeout", "repl-backlog-size",
	}
	sentinelSettable = []string{"down-after-milliseconds", "failover-timeout", "parallel-syncs"}
)

// settings returns the settings that bring a running process in line with its new files. all is
// false where the process needs a restart instead.
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
		if _, there := is[name]; !there { // only a restart knows the default value
			return Settings{}, false
		}
	}
	s.Users, s.Gone = userChanges(old["users.acl"], now["users.acl"])
	return s, true
}

// directives returns the values of a configuration by directive. The values of a directive that
// occurs several times are joined, as CONFIG SET takes them. The name of a Sentinel's master is
// left out.
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

// userChanges returns the users whose lines are new or different, and those whose lines are gone.
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

// KeepUsers returns the ACL file now, with the lines of those users that only the file old has
// added.
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

// users returns the rules of an ACL file by user.
func users(content string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(content) {
		if words := strings.Fields(line); len(words) > 2 && words[0] == "user" {
			all[words[1]] = strings.Join(words[2:], " ")
		}
	}
	return all
}
