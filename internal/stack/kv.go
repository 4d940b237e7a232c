package stack

import (
	"slices"
	"time"

	"holdfast/internal/commands"
)

// KVApp are the settings of Holdfast's own web node, Redis over HTTP.
type KVApp struct {
	// Reads is where a request is read from that does not say so itself:
	// master, replica or cached.
	Reads string `yaml:"reads"`
	// MaxLag is how old what a replica answers may be.
	MaxLag time.Duration `yaml:"max-lag"`
	// Writes is when a write is answered that does not say so itself: in-sync
	// (every in-sync replica has it) or async (the master has it).
	Writes string `yaml:"writes"`
	// Hold is how long a request waits for a Redis master.
	Hold time.Duration `yaml:"hold"`
	// Remember is how long a write with an idempotency key is remembered, the
	// balancers' own among them; at least RememberMin.
	Remember time.Duration `yaml:"remember"`
	// Allow are dangerous and blocking commands that clients may use all the
	// same: see AllowedCommands.
	Allow []string `yaml:"allow"`
	// Scripts are those that clients may run: off (none), read (those that only
	// read) or on (all).
	Scripts string   `yaml:"scripts"`
	Limits  KVLimits `yaml:"limits"`
	// CORS are the origins whose pages may ask (such as
	// https://www.example.com; "*": all).
	CORS []string `yaml:"cors"`
	// AccessLog is the part of the requests that are logged, 0 to 1.
	AccessLog float64 `yaml:"access-log"`
	// Trace is the URL of an OpenTelemetry collector (OTLP over HTTP); empty:
	// none.
	Trace string `yaml:"trace"`
	// Admin says that each node has a port on loopback for its metrics and
	// profiles.
	Admin bool `yaml:"admin"`
	// Tokens say who may use the node; TokensFile is a file that says it,
	// relative to the stack file. One of both at most; neither: everybody who
	// reaches it.
	Tokens     []Token `yaml:"tokens"`
	TokensFile string  `yaml:"tokens-file"`
}

// HasTokens reports whether only who has a token may use the node.
func (k KVApp) HasTokens() bool { return len(k.Tokens) > 0 || k.TokensFile != "" }

// KVLimits bound what one web node takes on.
type KVLimits struct {
	Body Bytes `yaml:"body"` // of a request
	// Answer bounds the answer to a request, in bytes of its strings and 64 for each
	// element of an array.
	Answer Bytes `yaml:"answer"`
	Key    Bytes `yaml:"key"`
	// Pipeline is how many commands one request may have.
	Pipeline int `yaml:"pipeline"`
	// Connections at once, to one node.
	Connections int `yaml:"connections"`
	// Streams are how many streams and long polls a node has at once, and
	// StreamsPerClient how many of them one token, or without tokens one client
	// address; 0: as many as are free.
	Streams          int `yaml:"streams"`
	StreamsPerClient int `yaml:"streams-per-client"`
}

// Token is what one client shows, as its hash, and what it may do.
type Token struct {
	Name string `yaml:"name"`
	// Hash is the token's SHA-256 in hexadecimal digits.
	Hash string `yaml:"hash"`
	// Mode is read-write or read-only.
	Mode string `yaml:"mode"`
	// Prefixes begin the keys that it may use; none: all.
	Prefixes []string `yaml:"prefixes"`
	// Commands it may use: names, @classes, a minus before those that it may
	// not; none: all that Mode allows.
	Commands []string `yaml:"commands"`
}

// How long a balancer and a node may take over one write together, but for the
// hold: a node turns down what a balancer got more than 20 s ago (maxAge in
// package web), and the hosts' clocks may differ by some seconds. A second try
// must still find the record of the first.
const attempts = 25 * time.Second

// RememberMin is the least that Remember may be.
func (k KVApp) RememberMin() time.Duration { return attempts + k.Hold }

// newKV is a web node with every default.
func newKV() *KVApp {
	return &KVApp{
		Reads: "master", MaxLag: time.Second, Writes: "in-sync", Scripts: "on",
		Hold: 5 * time.Second, Remember: 30 * time.Second,
		Limits: KVLimits{Body: 10 << 20, Answer: 64 << 20, Key: 64 << 10, Pipeline: 10_000, Connections: 16_384, Streams: entryConnections / 2},
		Admin:  true,
	}
}

// maxQueuedHold is the longest hold with which requests may wait in a balancer
// by default. A request waits there for as long and 5 s; the node turns down what
// a balancer got more than 20 s ago (see attempts).
const maxQueuedHold = 10 * time.Second

// kvConnections is how many requests a web node gets at once by default,
// measured with 2,000 and 8,000 clients behind two balancers: a limit at all
// is what counts, for HAProxy opens a connection to the node for every request
// that it has. It is no less than the number of those who share it.
//
// There is no limit where requests without a special header may last, or need
// no master: such a request must not wait behind others that are held for one.
// Nor is there one where requests are held for longer than they may wait.
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

// kvStreams is how many streams and long polls a web node has by default. A
// stream keeps a connection of a balancer, so the streams of all nodes together
// leave half of the entry's connections to others, at every balancer.
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

// DerivedStreams reports whether the streams of a web node's application are as many
// as follow from the rest of the stack: then the number of nodes changes them.
func (s Stack) DerivedStreams(app string) bool {
	kv := s.Apps[app].KV
	return kv != nil && kv.Limits.Streams == s.kvStreams(*kv)
}

// fillKV gives the values of a web node that depend on others.
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

// AllowedCommands are the commands that Allow stands for, sorted: of Redis'
// categories, @dangerous and @blocking, all that may be allowed, and of @vectors all.
func (k KVApp) AllowedCommands() []string { return allowedCommands(k.Allow) }

// allowedCommands are the commands that a list of allowed ones names, in order.
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

// AllowsVectors reports whether an application may use vector sets.
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

// GrantedCommands are those of AllowedCommands that do not merely wait: Redis itself
// has to be told to let them through, or who runs a script of a client has.
func (k KVApp) GrantedCommands() []string {
	return slices.DeleteFunc(k.AllowedCommands(), func(c string) bool { return slices.Contains(commands.Blocking, c) })
}

// DangerousCommands are those of AllowedCommands that Redis itself has to be
// told to let through.
func (k KVApp) DangerousCommands() []string {
	return slices.DeleteFunc(k.AllowedCommands(), func(c string) bool {
		return !slices.Contains(commands.Dangerous, c) && !slices.Contains(commands.Vectors, c)
	})
}
