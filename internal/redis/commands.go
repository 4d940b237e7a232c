package redis

import (
	"context"
	"fmt"
	"holdfast/internal/redis/outcome"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// Spec is what Redis says of one of its commands (COMMAND).
type Spec struct {
	Name string // lower case; of a subcommand "config|set"
	// Arity is how many words the command has, its name included; negative:
	// at least that many. A subcommand's counts the container's name too.
	Arity int
	// Write: it may change data, or is not to be sent twice. Everything that
	// is not known does.
	Write bool
	// ReadOnly: it reads data and changes none.
	ReadOnly bool
	// Swift: it only reads, and takes a time that hardly grows with the data.
	Swift bool
	// Blocking: it may wait for data; see BlockingFor. Dangerous: it is of the
	// category @dangerous. Admin: of the category @admin.
	Blocking, Dangerous, Admin bool
	// NoScript: it cannot run inside a script.
	NoScript bool
	// Stateful: it changes the connection it comes on (SELECT, MULTI, …), or
	// ends it, or turns it into a stream, so it means nothing here.
	Stateful bool
	// Replicated: what it answers is in the data, which a replica has as well. What
	// does not is of the process that is asked (SCAN's cursor, INFO, PUBSUB, …).
	Replicated bool
	// AnyKey: it reads or changes keys that it does not name (KEYS, FLUSHALL,
	// a script).
	AnyKey bool
	// Categories are the ACL categories it is in, without the @, such as
	// "string" or "scripting".
	Categories []string

	grows   bool // it may take memory: Redis refuses it when that is full
	module  bool // a module's, not Redis' own
	old     bool // it is of a Redis before 7.0
	counted bool // see the list of that name
	answers answerKind
	keys    []keySpec
	subs    map[string]*Spec // of a container such as CONFIG
}

// Redis says of most commands that they read or write, and hides which of the
// others replicate (server.c, addReplyFlagsForCommand). These only answer,
// and may be sent twice; whoever is in neither list is held for a write.
var harmless = setOf(
	"ping", "echo", "time", "wait", "waitaof", "role", "info", "lastsave", "command",
	"acl|cat", "acl|dryrun", "acl|genpass", "acl|getuser", "acl|list", "acl|users", "acl|whoami",
	"client|getname", "client|getredir", "client|id", "client|info", "client|list", "client|trackinginfo",
	"cluster|countkeysinslot", "cluster|getkeysinslot", "cluster|info", "cluster|keyslot", "cluster|links",
	"cluster|myid", "cluster|myshardid", "cluster|nodes", "cluster|replicas", "cluster|shards", "cluster|slaves", "cluster|slots",
	"command|count", "command|docs", "command|getkeys", "command|getkeysandflags", "command|info", "command|list",
	"cluster|slot-stats", "script|show", // Valkey
	"config|get", "function|dump", "function|list", "function|stats",
	"latency|doctor", "latency|graph", "latency|histogram", "latency|history", "latency|latest",
	"memory|doctor", "memory|malloc-stats", "memory|stats", "module|list",
	"pubsub|channels", "pubsub|numpat", "pubsub|numsub", "pubsub|shardchannels", "pubsub|shardnumsub",
	"script|exists", "slowlog|get", "slowlog|len",
)

// Of the commands that Redis calls read-only, these answer what is not
// replicated, or change it. Those that Redis does not call so (INFO, PUBSUB, SCRIPT
// EXISTS, …) read no data at all.
var unreplicated = setOf(
	"scan", "hscan", "sscan", "zscan", // a cursor is a place in the table of one process
	"eval_ro", "evalsha_ro", "fcall_ro", // which scripts there are, and what a script asks for (SCAN, INFO)
	"object|encoding", "object|freq", "object|idletime", "object|refcount", "memory|usage", // how a process keeps a value
	"randomkey",                       // it is asked for again where it is a key of ours
	"touch",                           // when a process used it last
	"xinfo|consumers", "xinfo|stream", // when a consumer was last there; the nodes of the stream's tree
	"vinfo", "vlinks", // the graph of a vector set (Redis 8)
)

// The categories and flags tell most of what belongs to the connection (see
// stateful); these are not told apart by them.
var statefulNames = setOf(
	"select", "asking", "readonly", "readwrite", // how the connection sees the data
	"monitor", "sync", "psync", "replconf", // turn it into a stream
	"client|reply", "client|caching", "client|tracking", "client|setname", "client|setinfo",
	"client|no-evict", "client|no-touch", "client|capa", "client|import-source", "script|debug", // set something of it
)

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// BlockingFor says whether this very command may wait for data: XREAD and
// XREADGROUP do only when they are told to.
func (s *Spec) BlockingFor(cmd Command) bool {
	if !s.Blocking {
		return false
	}
	options := 1
	switch s.Name {
	case "xread":
	case "xreadgroup":
		options = 4 // after GROUP, a name and a name
	default:
		return true
	}
	for _, word := range cmd[min(options, len(cmd)):] {
		if strings.EqualFold(word, "streams") {
			return false
		}
		if strings.EqualFold(word, "block") {
			return true
		}
	}
	return false
}

// takes reports whether the command has a right number of arguments.
func (s *Spec) takes(cmd Command) bool {
	return len(cmd) == s.Arity || s.Arity < 0 && len(cmd) >= -s.Arity
}

// Container reports whether the command stands for its subcommands, as CONFIG does.
func (s *Spec) Container() bool { return s.subs != nil }

// In says whether the command is in an ACL category.
func (s *Spec) In(category string) bool { return slices.Contains(s.Categories, category) }

// commandTable is all that Redis says of its commands.
type commandTable struct {
	master string // who said it
	specs  map[string]*Spec
}

// lookup finds a command, and the subcommand of a container. It allocates
// nothing for names of the usual length.
func (t *commandTable) lookup(cmd Command) *Spec {
	if len(cmd) == 0 {
		return nil
	}
	s := find(t.specs, cmd[0])
	if s != nil && s.subs != nil && len(cmd) > 1 {
		if sub := find(s.subs, cmd[1]); sub != nil {
			return sub
		}
	}
	return s
}

func find(specs map[string]*Spec, name string) *Spec {
	if s, ok := specs[name]; ok {
		return s
	}
	var lower [40]byte
	if len(name) > len(lower) {
		return specs[strings.ToLower(name)]
	}
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return specs[string(lower[:len(name)])]
}

// commandSource is the table and who may load it.
type commandSource struct {
	table   atomic.Pointer[commandTable]
	loading chan struct{} // holds one while somebody loads
	waiting atomic.Int64  // who waits for it
}

func newCommandSource() commandSource { return commandSource{loading: make(chan struct{}, 1)} }

// Spec is what Redis says of a command; nil when it knows none of that name.
// It waits for Redis to say it when it has not yet, no longer than
// Config.Hold; the error is an *Error.
func (c *Client) Spec(ctx context.Context, cmd Command) (*Spec, error) {
	t := c.commands.table.Load()
	if t != nil {
		// Another master may be another version of Redis.
		if s := t.lookup(cmd); s != nil || t.master == c.Master() {
			return s, nil
		}
	}
	fresh, err := c.loadCommands(ctx, t)
	if err != nil {
		if t != nil {
			return nil, nil // what was said before still holds
		}
		return nil, err
	}
	return fresh.lookup(cmd), nil
}

// loadCommands asks the master, once for all who wait; old is what the caller
// has seen.
func (c *Client) loadCommands(ctx context.Context, old *commandTable) (*commandTable, error) {
	defer c.commands.waiting.Add(-1)
	if c.commands.waiting.Add(1) > int64(c.cfg.MaxHeld) {
		return nil, &Error{Kind: Overloaded, Cause: outcome.ErrTooManyHeld}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	select {
	case c.commands.loading <- struct{}{}:
		defer func() { <-c.commands.loading }()
	case <-ctx.Done():
		return nil, &Error{Kind: NotExecuted, Cause: outcome.ErrNoMaster}
	}
	if t := c.commands.table.Load(); t != nil && t != old {
		return t, nil
	}
	cause := outcome.ErrNoMaster
	for {
		s, err := c.monitor.wait(ctx)
		if err != nil {
			return nil, &Error{Kind: NotExecuted, Cause: cause}
		}
		t, err := askCommands(ctx, c.cfg, s.Master)
		if err == nil {
			c.commands.table.Store(t)
			return t, nil
		}
		if outcome.FateOf(err, false) == outcome.Rejected {
			return nil, &Error{Kind: Refused, Cause: fmt.Errorf("the Redis user %q may not run COMMAND, without which no command can be judged: %w", c.cfg.user(), outcome.RedisError(err.Error()))}
		}
		cause = err
		if !pause(ctx, dialPause) {
			return nil, &Error{Kind: NotExecuted, Cause: cause}
		}
	}
}

// user is whom Redis knows us as.
func (c Config) user() string {
	if c.Username == "" {
		return "default"
	}
	return c.Username
}

// askCommands asks a server for its command table (manual, COMMAND).
func askCommands(ctx context.Context, cfg Config, addr string) (*commandTable, error) {
	l := newLink(cfg, addr, probing)
	defer l.close()
	answer, err := l.Do(ctx, l.B().Arbitrary("COMMAND").Build()).ToArray()
	if err != nil {
		return nil, err
	}
	t := &commandTable{master: addr, specs: make(map[string]*Spec, 2*len(answer))}
	for _, entry := range answer {
		if s := parseSpec(entry); s != nil {
			t.specs[s.Name], t.specs[strings.ToUpper(s.Name)] = s, s // the two ways that clients write it: see find
		}
	}
	return t, nil
}

// parseSpec reads one command's entry: name, arity, flags, first key, last
// key, step, categories, tips, key specifications, subcommands (manual,
// COMMAND; the last three came with Redis 7).
func parseSpec(entry rueidis.RedisMessage) *Spec {
	f, err := entry.ToArray()
	if err != nil || len(f) < 6 {
		return nil
	}
	name, _ := f[0].ToString()
	arity, _ := f[1].AsInt64()
	flags := words(f[2])
	s := &Spec{Name: strings.ToLower(name), Arity: int(arity)}
	if len(f) > 6 {
		for _, category := range words(f[6]) {
			s.Categories = append(s.Categories, strings.TrimPrefix(category, "@"))
		}
	}
	has := func(flag string) bool { return slices.Contains(flags, flag) }
	s.ReadOnly = has("readonly") && !has("write")
	s.Write = !s.ReadOnly && !harmless[s.Name] && !strings.HasSuffix(s.Name, "|help")
	// WAIT has no such flag, and waits all the same.
	s.Blocking = has("blocking") || s.Name == "wait" || s.Name == "waitaof"
	s.Admin = has("admin") || s.In("admin")
	s.Dangerous = s.In("dangerous")
	s.NoScript = has("noscript")
	s.grows = has("denyoom")
	s.module = has("module")
	s.counted = counted[s.Name]
	s.answers = answerKinds[s.Name]
	s.old = len(f) <= 8 // it tells of no key specifications
	s.Stateful = s.stateful(flags)
	s.keys = parseKeys(f, flags)
	s.AnyKey = s.In("keyspace") && len(s.keys) == 0 || slices.ContainsFunc([]string{"eval", "fcall"}, func(script string) bool {
		return strings.HasPrefix(s.Name, script)
	})
	// A module's command without a key may be about anything, such as a cursor.
	s.Replicated = s.ReadOnly && !unreplicated[s.Name] && !(s.module && len(s.keys) == 0)
	s.Swift = s.ReadOnly && cursorAt(s.Name) == 0 && s.In("fast") && !s.Blocking && !s.Stateful && !s.AnyKey && !s.module
	if len(f) > 9 {
		subs, _ := f[9].ToArray()
		for _, entry := range subs {
			if sub := parseSpec(entry); sub != nil {
				if s.subs == nil {
					s.subs = make(map[string]*Spec, len(subs))
				}
				s.subs[strings.TrimPrefix(sub.Name, s.Name+"|")] = sub
			}
		}
	}
	return s
}

// stateful: a transaction's commands, whatever is allowed before AUTH (it
// makes, changes or ends a session), and the subscriptions.
func (s *Spec) stateful(flags []string) bool {
	return statefulNames[s.Name] || s.In("transaction") || slices.Contains(flags, "no_auth") ||
		s.In("pubsub") && strings.HasSuffix(s.Name, "subscribe")
}

// words are the strings of an array or a set.
func words(m rueidis.RedisMessage) []string {
	all, _ := m.AsStrSlice()
	return all
}
