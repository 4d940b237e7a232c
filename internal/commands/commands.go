// Package commands says which of Redis' commands the clients of a web node may
// use: which are free, which have to be allowed by name, and which nobody may
// use. The web node, the stack file's validation and the rights of the node's
// Redis user go by this one rule. Pure: it knows names, and asks no Redis.
package commands

import (
	"slices"
	"strings"
)

// Rule is what holds for a command.
type Rule int

// The rules.
const (
	// Free: clients may use it.
	Free Rule = iota
	// Asks: clients may use it where it is allowed by its name (kv.allow).
	Asks
	// Never: nobody may use it, whatever is allowed.
	Never
)

// Command is what Redis says of one of its commands (COMMAND).
type Command struct {
	Name      string // lower case; of a subcommand "config|set"
	Container bool   // it stands for its subcommands alone
	// Dangerous: of the category @dangerous or @admin. Blocking: it may wait for
	// data. Stateful: it belongs to a connection.
	Dangerous, Blocking, Stateful bool
}

// Why a command is never allowed, or has to be.
const (
	ofConnection = "it belongs to a connection, and requests have none of their own"
	ofMaster     = "who is the master is not a client's decision"
	ofDatabase   = "it leads out of the database, and clients have this one alone"
	ofUsers      = "the users of a stack's Redis are Holdfast's own"
	ofCluster    = "the Redis of a stack is no cluster"
	apart        = "it would let a client take the stack apart"
	internal     = "it is for those who work on Redis itself"
	ofSlowlog    = "SLOWLOG tells the same, on Redis and Valkey alike"
	unknown      = "this version of Holdfast does not know what it does"
	danger       = "it is dangerous to the data or to the server"
	ofEverybody  = "it is about everybody's scripts or functions"
	ofVectors    = "it is about vector sets, which Redis 8.0 and newer have and no other server"
	waiting      = "it may wait for data, and with it the connection"
)

// always are never allowed, neither in a stack nor to a node by itself: by name
// or, where all subcommands are meant, by that of the container.
var always = reasons(map[string]string{
	ofConnection: "asking auth client discard exec hello multi psubscribe psync punsubscribe quit readonly readwrite replconf reset " +
		"script|debug select ssubscribe subscribe sunsubscribe sync unsubscribe unwatch watch",
	ofMaster:   "failover replicaof slaveof",
	ofDatabase: "migrate move swapdb",
})

// inStacks are never allowed in a stack. Whoever runs a node by itself, with a
// Redis of their own, may allow the dangerous ones among them.
var inStacks = reasons(map[string]string{
	ofUsers:   "acl",
	ofCluster: "cluster",
	apart:     "config debug module save shutdown",
	ofSlowlog: "commandlog",
	internal:  "memory|purge pfdebug pfselftest restore-asking",
})

// Dangerous are the commands that have to be allowed because Redis calls them
// dangerous (category @dangerous). They are named one by one, since a Redis that
// does not know a command refuses the users' file and with it to start. MONITOR
// is a stream, /monitor.
var Dangerous = []string{
	"bgrewriteaof", "bgsave", "config|get", "config|resetstat", "flushall", "flushdb", "keys",
	"latency|doctor", "latency|graph", "latency|histogram", "latency|history", "latency|latest", "latency|reset",
	"module|list", "monitor", "restore", "slowlog|get", "slowlog|len", "slowlog|reset",
}

// Blocking are those that have to be allowed because they may wait.
var Blocking = []string{
	"blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin", "wait", "waitaof", "xread", "xreadgroup",
}

// Shared are those that have to be allowed because they change or end what
// everybody runs: who loads a function anew decides what others' FCALL does.
var Shared = []string{
	"function|delete", "function|flush", "function|kill", "function|load", "function|restore", "script|flush", "script|kill",
}

// Vectors are those of vector sets, which have to be allowed because they need a server
// that has them: Redis puts them into no category, and one that does not know a command
// refuses the users' file.
var Vectors = []string{
	"vadd", "vcard", "vdim", "vemb", "vgetattr", "vinfo", "vismember", "vlinks", "vrandmember", "vrem", "vsetattr", "vsim",
}

// Granted are free although the categories that a stack's web nodes have a right
// to leave them out, most as dangerous ones. Whoever may read the data may know
// what they tell.
var Granted = []string{
	"info",     // numbers about the server; clients ask for it
	"lastsave", // the time of the last snapshot
	"latency|help", "memory|doctor", "memory|help", "memory|malloc-stats", "memory|stats",
	"object|help", "pubsub|help",
	"role", // who is master; no secret to a client
	"slowlog|help",
	"sort", "sort_ro", // dangerous for their O(N log N); no worse than SUNION of large sets
	"xgroup|help", "xinfo|help",
}

func reasons(names map[string]string) map[string]string {
	why := map[string]string{}
	for reason, list := range names {
		for name := range strings.FieldsSeq(list) {
			why[name] = reason
		}
	}
	return why
}

// Judge is the rule for a command, and why. inStack: the node is one of a stack.
func Judge(c Command, inStack bool) (Rule, string) {
	rule, why := Named(c.Name, c.Container)
	switch {
	case c.Name == "monitor" && c.Stateful: // it is a stream, not a command
		return Never, ofConnection
	case !inStack && slices.Contains(Vectors, c.Name):
		return Free, ""
	case rule == Never && !inStack && Refused(c.Name) == "":
		rule, why = Free, "" // the node's own Redis has the say, but for what it calls dangerous
	case rule != Free || c.Container || slices.Contains(Granted, c.Name):
		return rule, why
	}
	switch {
	case c.Stateful:
		return Never, ofConnection
	case (c.Dangerous || c.Blocking) && inStack: // the stack file does not know it either
		return Never, unknown
	case c.Dangerous:
		return Asks, danger
	case c.Blocking:
		return Asks, waiting
	}
	return rule, why
}

// Named is the rule in a stack for a name, as far as names tell: what Redis has
// beside these is free or, where Redis calls it dangerous, never allowed.
func Named(name string, container bool) (Rule, string) {
	switch {
	case slices.Contains(Dangerous, name):
		return Asks, danger
	case slices.Contains(Blocking, name):
		return Asks, waiting
	case slices.Contains(Shared, name):
		return Asks, ofEverybody
	case slices.Contains(Vectors, name):
		return Asks, ofVectors
	case container && (name == "config" || name == "module"):
		return Free, "" // some of its subcommands may be allowed
	}
	why := Refused(name)
	if why == "" {
		why = reasonIn(inStacks, name)
	}
	if why != "" {
		return Never, why
	}
	return Free, ""
}

// Refused is why nobody may use a command of this name, also at a node by itself
// that allows it. It is empty for all others.
func Refused(name string) string { return reasonIn(always, name) }

// RefusedProgram is why a program of the user's own may not use a command of this name in
// a stack, whatever is allowed. Its connections are its own: what belongs to one is
// free, but for what makes it a replica's. It is empty for all others.
func RefusedProgram(name string) string {
	switch name {
	case "copy":
		return "with its option DB " + ofDatabase
	case "psync", "replconf", "sync", "script|debug":
		return apart
	}
	if why := Refused(name); why != "" && why != ofConnection {
		return why
	}
	return reasonIn(inStacks, name)
}

// reasonIn is the reason that stands for a name or for its container.
func reasonIn(names map[string]string, name string) string {
	if why := names[name]; why != "" {
		return why
	}
	return names[family(name)]
}

// family is the container of a subcommand, or the command itself.
func family(name string) string {
	container, _, _ := strings.Cut(name, "|")
	return container
}
