// Package servers knows the server programs that a stack is made of: how they report their
// versions, which versions are supported, which were tested, and whose data each can read. It is
// pure.
//
// Parse and OfInfo recognise a Server. TooOld, Untested and CannotRead judge it.
package servers

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The names of the servers.
const (
	HAProxy    = "HAProxy"
	Redis      = "Redis"
	Valkey     = "Valkey"
	Keepalived = "keepalived"
)

// Server is a server program of one version.
type Server struct {
	Name    string // one of the names above
	Version string // such as 8.0.2
}

func (s Server) String() string { return s.Name + " " + s.Version }

// words matches what a server program prints when it is asked for its version.
var words = regexp.MustCompile(`(?m)^(HA-?Proxy version |Redis server v=|Valkey server v=|Keepalived v)(\d+\.\d[0-9A-Za-z.+~-]*)`)

// Parse finds the server in what a program prints about its version, and reports whether it found
// one.
func Parse(text string) (Server, bool) {
	m := words.FindStringSubmatch(text)
	if m == nil {
		return Server{}, false
	}
	name, _, _ := strings.Cut(m[1], " ")
	switch name {
	case "HA-Proxy":
		name = HAProxy
	case "Keepalived":
		name = Keepalived
	}
	return Server{name, m[2]}, true
}

// Named parses a name and a version in the form of String.
func Named(text string) (Server, bool) {
	name, version, ok := strings.Cut(strings.TrimSpace(text), " ")
	s := Server{name, version}
	return s, ok && known[name].oldest != number{} && s.number() != number{}
}

// OfInfo returns the server of an INFO of Redis or Valkey, and reports whether INFO names one.
// Valkey reports a version of Redis as well.
func OfInfo(info map[string]string) (Server, bool) {
	s := Server{Redis, info["redis_version"]}
	if v := info["valkey_version"]; v != "" {
		s = Server{Valkey, v}
	}
	return s, s.number() != number{}
}

// number is the part of a version that matters here.
type number struct{ major, minor int }

func (n number) String() string { return fmt.Sprintf("%d.%d", n.major, n.minor) }

func (n number) less(o number) bool {
	return n.major < o.major || n.major == o.major && n.minor < o.minor
}

func (s Server) number() number {
	parts := strings.FieldsFunc(s.Version, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return number{}
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return number{major, minor}
}

// known are the oldest supported version of each server, and the versions with which this version
// of Holdfast was tested.
var known = map[string]struct {
	oldest number
	tested []number
}{
	// The -S of its master, and what the runtime socket reports about servers.
	HAProxy: {number{2, 4}, []number{{2, 6}, {3, 0}}},
	// SENTINEL DEBUG and the multi-part append-only file came with 7.0.
	Redis: {number{7, 0}, []number{{7, 0}, {8, 0}}},
	// The first version, which is Redis 7.2 under another name.
	Valkey: {number{7, 2}, []number{{8, 1}}},
	// track_file outside of VRRP came with 2.1.
	Keepalived: {number{2, 1}, []number{{2, 2}, {2, 3}}},
}

// TooOld returns the oldest supported version if this one is older, or "".
func (s Server) TooOld() string {
	if oldest := known[s.Name].oldest; s.number().less(oldest) {
		return oldest.String()
	}
	return ""
}

// Untested returns the tested versions if this one is not among them, or "".
func (s Server) Untested() string {
	all := known[s.Name].tested
	if slices.Contains(all, s.number()) || len(all) == 0 {
		return ""
	}
	var names []string
	for _, n := range all {
		names = append(names, n.String())
	}
	return strings.Join(names, " and ")
}

// Resends reports whether a HAProxy sends a request to another server when a command ends the
// session at the server that has it ("shutdown sessions server"). 2.6 does; 3.0 closes the client's
// connection instead, without an answer.
func (s Server) Resends() bool { return s.number().less(number{2, 7}) }

// HasVectors reports whether the server has vector sets.
func (s Server) HasVectors() bool { return s.Name == Redis && !s.number().less(number{8, 0}) }

// Redis writes its data in a numbered format (rdb.h, RDB_VERSION), and reads formats up to its own.
// Valkey continued from the format of Redis 7.2, number 11, and has numbers of its own from version
// 9.0 on. It refuses the numbers that Redis has used since.
const (
	lastCommon  = 11
	firstValkey = 80
)

// format returns the number of the data format that a Redis or Valkey writes.
func (s Server) format() int {
	n := s.number()
	switch {
	case s.Name == Valkey && n.less(number{9, 0}):
		return lastCommon
	case s.Name == Valkey:
		return firstValkey
	case n.less(number{7, 2}):
		return 10
	case n.less(number{7, 4}):
		return lastCommon
	}
	return 12
}

// CannotRead returns why a Redis or Valkey cannot load the data that another server has written, or
// "". An older version of the same server counts as unable, because the newer one may have written
// commands that it does not know.
func (s Server) CannotRead(of Server) string {
	switch {
	case s.Name == of.Name && s.number().less(of.number()):
		return fmt.Sprintf("%v is older than %v, and cannot read all that %[2]v has written", s, of)
	case s.Name == of.Name:
		return ""
	case s.Name == Valkey && of.format() > lastCommon:
		return fmt.Sprintf("%v cannot read the data of %v: it reads that of Redis up to 7.2", s, of)
	case s.Name == Redis && of.format() > lastCommon:
		return fmt.Sprintf("%v cannot read the data of %v: it reads that of Valkey up to 8", s, of)
	case s.format() < of.format():
		return fmt.Sprintf("%v cannot read the data of %v, whose format is a newer one", s, of)
	}
	return ""
}
