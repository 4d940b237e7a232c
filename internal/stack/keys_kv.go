package stack

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/commands"
	"holdfast/internal/yamltree"
)

// The keys below kv, which are the settings of Holdfast's own web node.

// Bounds of one request.
const (
	maxBody     Bytes = 512 << 20 // the largest value that Redis takes (proto-max-bulk-len)
	leastAnswer Bytes = 1 << 20
	maxPipeline       = 1_000_000
)

var kvKeys = []key[KVApp]{
	textKey("reads", readsRule, func(k *KVApp) *string { return &k.Reads },
		"Where a request is read from that does not say so itself: master; replica, which may be max-lag old; cached, from the node's memory, which Redis invalidates."),
	durationKey("max-lag", time.Millisecond, func(k *KVApp) *time.Duration { return &k.MaxLag },
		"How old a replica's answer may be."),
	textKey("writes", writesRule, func(k *KVApp) *string { return &k.Writes },
		"When a write is answered that does not say so itself: in-sync, when every in-sync replica has it; async, when the master has it, and it may be lost with the master."),
	durationKey("hold", 100*time.Millisecond, func(k *KVApp) *time.Duration { return &k.Hold },
		"How long a request waits for a Redis master, in a failover."),
	durationKey("remember", time.Second, func(k *KVApp) *time.Duration { return &k.Remember },
		"How long a write with an Idempotency-Key is remembered, so that its repetition does not write again. Default: 30s, or 25s and hold."),
	textsKey("allow", allowRule, false, func(k *KVApp) *[]string { return &k.Allow },
		"Dangerous and blocking commands that clients may use all the same, such as keys, flushdb, \"config|get\" or blpop; @dangerous and @blocking: all of them that can be allowed; @vectors: those of vector sets, which take Redis 8.0 or newer."),
	textKey("scripts", scriptsRule, func(k *KVApp) *string { return &k.Scripts },
		"Which scripts and functions clients may run: off, none; read, those that Redis keeps from writing (EVAL_RO, EVALSHA_RO, FCALL_RO); on, all. Each may do what its client may do by commands."),
	sectionKey("limits", kvLimitKeys, func(k *KVApp) *KVLimits { return &k.Limits },
		"What one web node takes on."),
	textsKey("cors", originRule, false, func(k *KVApp) *[]string { return &k.CORS },
		"Origins whose web pages may ask, such as https://www.example.com; \"*\": every one."),
	fractionKey("access-log", func(k *KVApp) *float64 { return &k.AccessLog },
		"The part of the requests that the nodes log, a line each: 0 none, 0.01 one of a hundred, 1 all."),
	textKey("trace", traceRule, func(k *KVApp) *string { return &k.Trace },
		"Where traces go: the URL of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318; none: nowhere."),
	boolKey("admin", func(k *KVApp) *bool { return &k.Admin },
		"Whether each node has a port on loopback for its metrics (/metrics) and profiles (/debug/pprof)."),
	sectionsKey("tokens", tokenKeys, func(k *KVApp) *[]Token { return &k.Tokens },
		"Who may use it: clients send one of these tokens as a bearer. None: everybody who reaches it."),
	textKey("tokens-file", fileRule, func(k *KVApp) *string { return &k.TokensFile },
		"A file with the tokens instead, in the form of \"tokens\"; relative to this file."),
}

var kvLimitKeys = []key[KVLimits]{
	sizeKey("body", 1<<10, maxBody, func(l *KVLimits) *Bytes { return &l.Body },
		"The largest body of a request."),
	sizeKey("answer", leastAnswer, maxBody, func(l *KVLimits) *Bytes { return &l.Answer },
		"The longest answer to a request: the bytes of its strings, and 64 for each element of an array. One node holds six such at once, four of them for one client."),
	sizeKey("key", 1, maxBody, func(l *KVLimits) *Bytes { return &l.Key },
		"The longest name of a key."),
	numberKey("pipeline", 1, maxPipeline, func(l *KVLimits) *int { return &l.Pipeline },
		"How many commands one request may have."),
	numberKey("connections", 1, maxCount, func(l *KVLimits) *int { return &l.Connections },
		"How many connections one node has at once."),
	numberKey("streams", 1, maxCount, func(l *KVLimits) *int { return &l.Streams },
		"How many streams and long polls one node has at once; further ones get 429. Default: so many that those of all kv nodes take half of the entry's connections, and of one node half of its own."),
	numberKey("streams-per-client", 0, maxCount, func(l *KVLimits) *int { return &l.StreamsPerClient },
		"How many of them one token has, or without tokens one client address. 0: no fixed number; a client has at most as many as are free."),
}

var tokenKeys = []key[Token]{
	textKey("name", tokenNameRule, func(t *Token) *string { return &t.Name },
		"Tells the tokens apart in logs and metrics."),
	textKey("hash", hashRule, func(t *Token) *string { return &t.Hash },
		"The token's SHA-256, 64 hexadecimal digits, as \"holdfast token new\" prints it."),
	textKey("mode", tokenModeRule, func(t *Token) *string { return &t.Mode },
		"read-write or read-only. Default: read-write."),
	textsKey("prefixes", prefixRule, false, func(t *Token) *[]string { return &t.Prefixes },
		"Beginnings of the keys and channels that it may use. Default: all."),
	textsKey("commands", tokenCommandRule, false, func(t *Token) *[]string { return &t.Commands },
		"Commands (get, \"config|get\") and classes (@read) that it may use, a minus before those that it may not. Default: all that mode allows."),
}

var (
	readsRule   = oneOf("master", "replica", "cached")
	writesRule  = oneOf("in-sync", "async")
	scriptsRule = oneOf("off", "read", "on")
	allowRule   = rule{
		what:   `a command, such as keys or "config|get"`,
		values: allowable,
		check:  checkAllow,
	}
	// Origins are joined with commas in an environment variable.
	originRule = rule{
		what:    `an origin such as https://www.example.com, or "*"`,
		pattern: regexp.MustCompile(`^(\*|[a-z][a-z0-9+.-]*://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?)$`),
	}
	traceRule = rule{
		what:    "a URL such as http://127.0.0.1:4318, or none",
		pattern: regexp.MustCompile(`^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/%-]*)?$`),
		none:    true,
	}
	tokenNameRule = rule{
		what:    "a name of 1 to 64 letters, digits and \"._@:/-\", such as shop",
		pattern: regexp.MustCompile(`^[A-Za-z0-9._@:/-]{1,64}$`),
		loose:   true,
	}
	// The message must not quote the value, which may be the token itself.
	hashRule = rule{
		what:    "64 hexadecimal digits, as \"holdfast token hash\" prints them",
		pattern: regexp.MustCompile(`^[0-9a-fA-F]{64}$`),
		loose:   true,
		check: func(s string) string {
			if !regexp.MustCompile(`^[0-9a-fA-F]{64}$`).MatchString(s) {
				return `it is not a SHA-256: write the 64 hexadecimal digits that "holdfast token hash" prints, and not the token itself`
			}
			return ""
		},
	}
	tokenModeRule = oneOf("read-write", "read-only")
	prefixRule    = rule{
		what:  `the beginning of keys, such as "shop:"`,
		loose: true,
		check: func(s string) string { return checkPrintable(s, `the beginning of keys, such as "shop:"`) },
	}
	tokenCommandRule = rule{
		what:    `a command or a class, such as get, "config|get", @read or -flushall`,
		pattern: regexp.MustCompile(`^[+-]?(@[A-Za-z]+|[A-Za-z0-9_.-]+(\|[A-Za-z0-9_-]+)?)$`),
	}
	fileRule = rule{
		what:  "a file, such as tokens.yaml",
		check: func(s string) string { return checkFilePath(s, "a file, such as tokens.yaml") },
	}
)

// allowable is every value that kv.allow may have.
var allowable = slices.Concat([]string{"@dangerous", "@blocking", "@vectors"}, commands.Dangerous, commands.Blocking, commands.Shared, commands.Vectors)

// checkAllow returns why a command cannot be allowed, or "".
func checkAllow(s string) string {
	plain := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s, "+")), " ", "|")
	return checkAllowable(s, plain, allowable)
}

// checkAllowable returns why s is not among the allowable commands, or "". plain is s as the name
// of the command should be written.
func checkAllowable(s, plain string, allowable []string) string {
	switch {
	case slices.Contains(allowable, s):
		return ""
	case slices.Contains(allowable, plain):
		return fmt.Sprintf("%s is written %q", yamltree.Quoted(s), plain)
	case plain == "config":
		return `config as a whole would let a client take the stack apart: write "config|get"`
	}
	for _, k := range allowable {
		if strings.HasPrefix(k, plain+"|") {
			return fmt.Sprintf("%s is a family of commands: name each, such as %q", yamltree.Quoted(s), k)
		}
	}
	if rule, why := commands.Named(plain, false); rule == commands.Never {
		return fmt.Sprintf("%s cannot be allowed: %s; remove it", yamltree.Quoted(s), why)
	}
	if slices.Contains(commands.Granted, plain) {
		return fmt.Sprintf("%s needs no allowing: clients may use it anyway; remove it", yamltree.Quoted(s))
	}
	if near := didYouMean(plain, allowable); near != "" {
		return yamltree.Quoted(s) + " is no command that needs to be allowed" + near
	}
	return fmt.Sprintf("%s is no command that needs to be allowed: what neither blocks nor is dangerous nor about everybody, clients may use anyway; remove it", yamltree.Quoted(s))
}

// boolKey returns the key of a value that is true or false.
func boolKey[T any](name string, at func(*T) *bool, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			if n.Shape != yamltree.Boolean {
				r.reportType(p, n, "true or false")
				return
			}
			*at(t) = n.Text == "true" || n.Text == "True" || n.Text == "TRUE"
		},
		show:   func(t *T) any { return *at(t) },
		schema: func() schema { return schema{"type": "boolean"} },
	}
}

var fraction = regexp.MustCompile(`^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$`)

// fractionKey returns the key of a number from 0 to 1.
func fractionKey[T any](name string, at func(*T) *float64, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			if n.Shape != yamltree.Number || !fraction.MatchString(n.Text) {
				r.reportType(p, n, "a number from 0 to 1, of four decimals at most, such as 0.01")
				return
			}
			*at(t), _ = strconv.ParseFloat(n.Text, 64)
		},
		show:   func(t *T) any { return *at(t) },
		schema: func() schema { return schema{"type": "number", "minimum": 0, "maximum": 1} },
	}
}

// sizeKey returns the key of a size from low to high.
func sizeKey[T any](name string, low, high Bytes, at func(*T) *Bytes, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			v, ok := r.readSize(p, n, "a size such as 64kb or 10mb")
			if !ok {
				return
			}
			if v < low || v > high {
				r.ReportOnce(n.Pos, "%s is %s: write %s to %s", p, n.Text, low.Text(), high.Text())
				return
			}
			*at(t) = v
		},
		show: func(t *T) any {
			if *at(t)%(1<<10) != 0 {
				return int(*at(t))
			}
			return at(t).Text()
		},
		schema: func() schema { return sizeSchema(int(low)) },
	}
}

func sizeSchema(low int) schema {
	return schema{"anyOf": []any{
		schema{"type": "integer", "minimum": low},
		schema{"type": "string", "pattern": `^[0-9]+([bB]|[kK][bB]|[mM][bB]|[gG][bB])?$`},
	}}
}

// kvKey is a section that may be empty (kv: {}). No value at all, and true, mean the same.
func kvKey() key[App] {
	return key[App]{
		name:  "kv",
		doc:   "Holdfast's own web node, Redis over HTTP; {}: with every default.",
		kinds: []Kind{KV},
		read: func(r *reader, p path, n *yamltree.Node, a *App) {
			a.KV = newKV()
			if n.Shape == yamltree.Boolean {
				if n.Text == "false" {
					r.reportType(p, n, "kv: {}, or remove the key")
				}
				return
			}
			if n.Shape != yamltree.Section && n.Shape != yamltree.Empty {
				r.reportType(p, n, "kv: {}")
				return
			}
			readKeys(r, p, n, kvKeys, a.KV)
		},
		show: func(a *App) any {
			if a.KV == nil {
				return nil
			}
			return showKeys(kvKeys, a.KV)
		},
		schema: func() schema {
			s := sectionSchema(kvKeys)
			s["anyOf"] = []any{schema{"type": []any{"object", "null"}}, schema{"const": true}}
			s["type"] = []any{"object", "null", "boolean"}
			addDefaults(s, showKeys(kvKeys, newKV()))
			return s
		},
	}
}
