package stack

import (
	"slices"
	"time"

	"holdfast/internal/commands"
	"holdfast/internal/kvdefault"
)

// KVApp are the settings of Holdfast's own web node, Redis over HTTP.
type KVApp struct {
	// Reads is where a read goes whose request does not choose by itself: master, replica or
	// cached.
	Reads string `yaml:"reads"`
	// MaxLag is how old the data in a replica's answer may be.
	MaxLag time.Duration `yaml:"max-lag"`
	// Writes is when a write is acknowledged whose request does not choose by itself: in-sync
	// (every in-sync replica has it) or async (the master has it).
	Writes string `yaml:"writes"`
	// Hold is how long a request waits for a Redis master.
	Hold time.Duration `yaml:"hold"`
	// Remember is how long a write with an idempotency key is remembered, including the keys that
	// balancers add. It is at least RememberMin.
	Remember time.Duration `yaml:"remember"`
	// Allow are dangerous and blocking commands that clients may use nevertheless. See
	// AllowedCommands.
	Allow []string `yaml:"allow"`
	// Scripts is which scripts clients may run: off (none), read (those that only read) or on
	// (all).
	Scripts string   `yaml:"scripts"`
	Limits  KVLimits `yaml:"limits"`
	// CORS are the origins whose pages may send requests (such as https://www.example.com; "*":
	// all).
	CORS []string `yaml:"cors"`
	// AccessLog is the fraction of the requests that are logged, from 0 to 1.
	AccessLog float64 `yaml:"access-log"`
	// Trace is the URL of an OpenTelemetry collector (OTLP over HTTP); empty: no tracing.
	Trace string `yaml:"trace"`
	// Admin is true where each node has a port on loopback for its metrics and profiles.
	Admin bool `yaml:"admin"`
	// Tokens are the clients that may use the node; TokensFile is a file that lists them, relative
	// to the stack file. A stack has at most one of the two. Without either, everybody who can
	// reach the node may use it.
	Tokens     []Token `yaml:"tokens"`
	TokensFile string  `yaml:"tokens-file"`
}

// HasTokens reports whether only clients with a token may use the node.
func (k KVApp) HasTokens() bool { return len(k.Tokens) > 0 || k.TokensFile != "" }

// KVLimits limit what one web node accepts.
type KVLimits struct {
	Body Bytes `yaml:"body"` // of a request
	// Answer limits the answer to a request, in bytes: those of its strings, and 64 for each
	// element of an array.
	Answer Bytes `yaml:"answer"`
	Key    Bytes `yaml:"key"`
	// Pipeline is how many commands one request may have.
	Pipeline int `yaml:"pipeline"`
	// Connections is how many connections one node has at once.
	Connections int `yaml:"connections"`
	// Streams is how many streams and long polls a node has at once. StreamsPerClient is how many
	// of them one token may have, or, without tokens, one client address; 0: as many as are free.
	Streams          int `yaml:"streams"`
	StreamsPerClient int `yaml:"streams-per-client"`
}

// Token is one client's token and what the client may do.
type Token struct {
	Name string `yaml:"name"`
	// Hash is the token's SHA-256 in hexadecimal digits.
	Hash string `yaml:"hash"`
	// Mode is read-write or read-only.
	Mode string `yaml:"mode"`
	// Prefixes are the beginnings of the keys that it may use; empty: all keys.
	Prefixes []string `yaml:"prefixes"`
	// Commands are the commands that it may use: names, @classes, and with a minus those that it
	// may not; empty: all that Mode allows.
	Commands []string `yaml:"commands"`
}

// attempts is the longest time between the two tries of one write, without the hold: a node turns
// down a request that a balancer got more than 20 s ago (maxAge in package web), and the hosts'
// clocks may differ by some seconds. The second try must still find the record of the first.
const attempts = 25 * time.Second

// RememberMin returns the least value of Remember.
func (k KVApp) RememberMin() time.Duration { return attempts + k.Hold }

// newKV returns a web node with every default.
func newKV() *KVApp {
	return &KVApp{
		Reads: kvdefault.Reads, MaxLag: kvdefault.MaxLag, Writes: kvdefault.Writes, Scripts: "on",
		Hold: kvdefault.Hold, Remember: kvdefault.Remember,
		Limits: KVLimits{
			Body: kvdefault.MaxBody, Answer: kvdefault.MaxAnswer, Key: kvdefault.MaxKey,
			Pipeline: kvdefault.MaxPipeline, Connections: kvdefault.Connections, Streams: entryConnections / 2,
		},
		Admin: true,
	}
}

// maxQueuedHold is the longest hold for which requests wait in a balancer by default. There a
// request waits for the hold and 5 s, and a node turns down a request that a balancer got more than
// 20 s ago (see attempts).
const maxQueuedHold = 10 * time.Second

// kvConnections returns how many requests a web node gets at once by default; 0: no limit. It is at
// least the number of counters that share the limit.
//
// The number was measured with 2,000 and 8,000 clients behind two balancers. What matters is that
// there is a limit at all: without one HAProxy opens a connection to the node for every request
// that it has.
//
// There is no limit where usual requests may last long or need no master: such a request must not
// wait behind others that wait for a master. There is none either where the hold is longer than
// requests may wait in a balancer.
func kvConnections(k KVApp, shares int) int {
	if k.Hold > maxQueuedHold {
		return 0
	}
	lasting := slices.ContainsFunc(k.AllowedCommands(), func(c string) bool { return slices.Contains(commands.Blocking, c) })
	if lasting || k.Reads != "master" {
		return 0
	}
	return max(64, shares)
}

// kvStreams returns how many streams and long polls a web node has by default. A stream keeps a
// connection of a balancer. So the streams of all nodes together leave half of the entry's
// connections free at every balancer.
func (s Stack) kvStreams(k KVApp) int {
	nodes := 0
	for _, a := range s.Apps {
		if a.KV != nil {
			nodes += a.Nodes
		}
	}
	entry := s.Balancers * s.Entry.Limits.Connections / 2 / max(1, nodes)
	return max(1, min(entry, k.Limits.Connections/2))
}

// DerivedStreams reports whether the number of streams of an application has its default, which
// follows from the rest of the stack and changes with the number of nodes.
func (s Stack) DerivedStreams(app string) bool {
	kv := s.Apps[app].KV
	return kv != nil && kv.Limits.Streams == s.kvStreams(*kv)
}

// fillKV sets the values of a web node that depend on others.
func fillKV(k *KVApp, has func(path) bool) {
	if !has("remember") {
		k.Remember = max(k.Remember, k.RememberMin())
	}
	for i := range k.Tokens {
		if k.Tokens[i].Mode == "" {
			k.Tokens[i].Mode = "read-write"
		}
	}
}

// AllowedCommands returns the commands that Allow stands for, sorted. @dangerous and @blocking
// stand for those commands of Redis' categories that may be allowed, and @vectors for all vector
// commands.
func (k KVApp) AllowedCommands() []string { return allowedCommands(k.Allow) }

// allowedCommands returns the commands that a list of allowed ones stands for, sorted.
func allowedCommands(allow []string) []string {
	var all []string
	for _, a := range allow {
		switch a {
		case "@dangerous":
			all = append(all, commands.Dangerous...)
		case "@blocking":
			all = append(all, commands.Blocking...)
		case "@vectors":
			all = append(all, commands.Vectors...)
		default:
			all = append(all, a)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// AllowsVectors reports whether any application may use vector sets.
func (s Stack) AllowsVectors() bool {
	for _, app := range s.Apps {
		allowed := allowedCommands(app.Redis.Allow)
		if app.KV != nil {
			allowed = app.KV.AllowedCommands()
		}
		if slices.ContainsFunc(allowed, func(c string) bool { return slices.Contains(commands.Vectors, c) }) {
			return true
		}
	}
	return false
}

// GrantedCommands returns the AllowedCommands that are not merely blocking. Either Redis itself has
// to let these through, or the Redis user that runs clients' scripts.
func (k KVApp) GrantedCommands() []string {
	return slices.DeleteFunc(k.AllowedCommands(), func(c string) bool { return slices.Contains(commands.Blocking, c) })
}

// DangerousCommands returns the AllowedCommands that Redis itself has to let through.
func (k KVApp) DangerousCommands() []string {
	return slices.DeleteFunc(k.AllowedCommands(), func(c string) bool {
		return !slices.Contains(commands.Dangerous, c) && !slices.Contains(commands.Vectors, c)
	})
}
