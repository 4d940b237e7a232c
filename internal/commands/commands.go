// Package commands decides which of Redis' commands the clients of a web node may use: which are
// free, which have to be allowed by name, and which nobody may use. The web node, the validation of
// the stack file and the rights of the nodes' Redis users all follow this one rule.
//
// Judge and Named return the rule for a command (commands.go). RefusedWords looks at its arguments
// (words.go), and RefusedScript at the setting for scripts (scripts.go). NodeRights and the
// functions beside it write the same rule as rights of Redis users (rights.go).
//
// The package is pure: it knows names, and asks no Redis.
package commands

import (
	"slices"
	"strings"
)

// Rule is whether clients may use a command.
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

// Command is what Redis reports about one of its commands (COMMAND).
type Command struct {
	Name      string // in lower case; a subcommand is "config|set"
	Container bool   // it only stands for its subcommands
	// Dangerous is true for the categories @dangerous and @admin. Blocking is true if the command
	// may wait for data. Stateful is true if it changes its connection.
	Dangerous, Blocking, Stateful bool
}

// The reasons why a command is never allowed, or has to be allowed by name.
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

// always are the commands that are never allowed, whether in a stack or to a node that runs by
// itself. The name of a container stands for all of its subcommands.
var always = reasons(map[string]string{
	ofConnection: "asking auth client discard exec hello multi psubscribe psync punsubscribe quit readonly readwrite replconf reset " +
		"script|debug select ssubscribe subscribe sunsubscribe sync unsubscribe unwatch watch",
	ofMaster:   "failover replicaof slaveof",
	ofDatabase: "migrate move swapdb",
})

// inStacks are the commands that are never allowed in a stack. A node that runs by itself, with its
// owner's Redis, can allow the dangerous ones among them.
var inStacks = reasons(map[string]string{
	ofUsers:   "acl",
	ofCluster: "cluster",
	apart:     "config debug module save shutdown",
	ofSlowlog: "commandlog",
	internal:  "memory|purge pfdebug pfselftest restore-asking",
})

// Dangerous are the commands that have to be allowed because Redis calls them dangerous (category
// @dangerous). Each is named, because a Redis that does not know a command refuses the users' file
// and does not start. MONITOR is the stream /monitor.
var Dangerous = []string{
	"bgrewriteaof", "bgsave", "config|get", "config|resetstat", "flushall", "flushdb", "keys",
	"latency|doctor", "latency|graph", "latency|histogram", "latency|history", "latency|latest", "latency|reset",
	"module|list", "monitor", "restore", "slowlog|get", "slowlog|len", "slowlog|reset",
}

// Blocking are the commands that have to be allowed because they may wait.
var Blocking = []string{
	"blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin", "wait", "waitaof", "xread", "xreadgroup",
}

// Shared are the commands that have to be allowed because they change or end what all clients run:
// a function that is loaded anew changes what the FCALL of others does.
var Shared = []string{
	"function|delete", "function|flush", "function|kill", "function|load", "function|restore", "script|flush", "script|kill",
}

// Vectors are the commands of vector sets. They have to be allowed because they need a server that
// has them: Redis puts them into no category, and a server that does not know a command refuses the
// users' file.
var Vectors = []string{
	"vadd", "vcard", "vdim", "vemb", "vgetattr", "vinfo", "vismember", "vlinks", "vrandmember", "vrem", "vsetattr", "vsim",
}

// Granted are free, although the categories that a stack's web nodes may use leave them out, mostly
// as dangerous. A client that may read the data may also learn what these commands tell.
var Granted = []string{
	"info",     // numbers about the server, which clients ask for
	"lastsave", // the time of the last snapshot
	"latency|help", "memory|doctor", "memory|help", "memory|malloc-stats", "memory|stats",
	"object|help", "pubsub|help",
	"role", // which node is the master is not secret to a client
	"slowlog|help",
	"sort", "sort_ro", // dangerous for their O(N log N), but no worse than SUNION of large sets
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

// Judge returns the rule for a command, and the reason. inStack is true for a node of a stack.
func Judge(c Command, inStack bool) (Rule, string) {
	rule, why := Named(c.Name, c.Container)
	switch {
	case c.Name == "monitor" && c.Stateful: // it is a stream, not a command
		return Never, ofConnection
	case !inStack && slices.Contains(Vectors, c.Name):
		return Free, ""
	case rule == Never && !inStack && Refused(c.Name) == "":
		rule, why = Free, "" // the node's own Redis decides, except about what it calls dangerous
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

// Named returns the rule that a name alone gives in a stack, and the reason. Commands that are not
// listed here are free, or never allowed if Redis calls them dangerous.
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

// Refused returns why nobody may use a command of this name, even at a node by itself that allows
// it, or "".
func Refused(name string) string { return reasonIn(always, name) }

// RefusedProgram returns why a user's own program may not use a command of this name in a stack,
// whatever is allowed, or "". The program has connections of its own, so commands that change a
// connection are free, except those of replication.
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

// reasonIn returns the reason for a name or for its container.
func reasonIn(names map[string]string, name string) string {
	if why := names[name]; why != "" {
		return why
	}
	return names[family(name)]
}

// family returns the container of a subcommand, or the command itself.
func family(name string) string {
	container, _, _ := strings.Cut(name, "|")
	return container
}
