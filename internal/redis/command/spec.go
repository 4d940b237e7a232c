// Package command is what is known of Redis' commands: what Redis says of them itself
// (COMMAND), where their keys are, which of them are brief, and by what the lengths of their
// answers are remembered. Who asks Redis, and which commands clients may use, does not live
// here.
package command

import (
	"slices"
	"strings"

	"github.com/redis/rueidis"
)

// Spec is what Redis says of one of its commands (COMMAND).
type Spec struct {
	Name string // lower case; of a subcommand "config|set"
	// Arity is how many words the command has, with its name; negative: at least that many.
	// A subcommand's counts the container's name, too.
	Arity int
	// Write: it may change data, or is not to be sent twice. So is every command that is
	// not known.
	Write bool
	// ReadOnly: it reads data and changes none.
	ReadOnly bool
	// Fast: it only reads, and takes a time that hardly grows with the data.
	Fast bool
	// Blocking: it may wait for data; see BlockingFor. Dangerous and Admin: it is of the
	// category @dangerous, or @admin.
	Blocking, Dangerous, Admin bool
	// NoScript: it cannot run inside a script.
	NoScript bool
	// Stateful: it changes the connection it comes on (SELECT, MULTI, …), or
	// ends it, or turns it into a stream, so it means nothing here.
	Stateful bool
	// Replicated: its answer follows from the data, which a replica has as well. Other
	// answers are about the process that is asked (SCAN's cursor, INFO, PUBSUB, …).
	Replicated bool
	// AnyKey: it reads or changes keys that it does not name (KEYS, FLUSHALL,
	// a script).
	AnyKey bool
	// Categories are the ACL categories it is in, without the @, such as
	// "string" or "scripting".
	Categories []string

	Grows      bool // it may take memory: Redis refuses it when that is full
	Module     bool // a module's, not Redis' own
	Old        bool // it is of a Redis before 7.0
	Counted    bool // its time follows from its words: see Few
	AnswerKind AnswerKind
	KeySpecs   []KeySpec
	subs       map[string]*Spec // of a container such as CONFIG
}

// harmless has the commands that change nothing, among those that Redis reports as neither
// reading nor writing: it does not report which of these it replicates (server.c,
// addReplyFlagsForCommand). The commands in this list may be sent twice; all others of that
// kind count as writes.
var harmless = SetOf(
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

// unreplicated has the commands, among those that Redis calls read-only, whose answers are
// not about replicated data or that change what is not replicated. Commands that Redis does
// not call read-only (INFO, PUBSUB, SCRIPT EXISTS, …) read no data at all.
var unreplicated = SetOf(
	"scan", "hscan", "sscan", "zscan", // a cursor is a place in the table of one process
	"eval_ro", "evalsha_ro", "fcall_ro", // which scripts there are, and what a script asks for (SCAN, INFO)
	"object|encoding", "object|freq", "object|idletime", "object|refcount", "memory|usage", // how a process keeps a value
	"randomkey",                       // it is asked for again where it is a key of ours
	"touch",                           // when a process used it last
	"xinfo|consumers", "xinfo|stream", // when a consumer was last there; the nodes of the stream's tree
	"vinfo", "vlinks", // the graph of a vector set (Redis 8)
)

// statefulNames has the commands that belong to a connection, as far as their categories and
// flags do not tell it (see Spec.stateful).
var statefulNames = SetOf(
	"select", "asking", "readonly", "readwrite", // how the connection sees the data
	"monitor", "sync", "psync", "replconf", // turn it into a stream
	"client|reply", "client|caching", "client|tracking", "client|setname", "client|setinfo",
	"client|no-evict", "client|no-touch", "client|capa", "client|import-source", "script|debug", // set something of it
)

// BlockingFor reports whether this very command may wait for data. XREAD and XREADGROUP do
// so only with the option BLOCK.
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

// Takes reports whether the command may have so many arguments.
func (s *Spec) Takes(cmd Command) bool {
	return len(cmd) == s.Arity || s.Arity < 0 && len(cmd) >= -s.Arity
}

// Container reports whether the command stands for its subcommands, as CONFIG does.
func (s *Spec) Container() bool { return s.subs != nil }

// In reports whether the command is in an ACL category.
func (s *Spec) In(category string) bool { return slices.Contains(s.Categories, category) }

// Table is all that Redis says of its commands.
type Table struct {
	Master string // the node that said it
	specs  map[string]*Spec
}

// Lookup returns a command, or the subcommand of a container; nil if it is not known. It
// allocates nothing for names of the usual length.
func (t *Table) Lookup(cmd Command) *Spec {
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

// NewTable reads the reply of a server to COMMAND.
func NewTable(master string, entries []rueidis.RedisMessage) *Table {
	t := &Table{Master: master, specs: make(map[string]*Spec, 2*len(entries))}
	for _, entry := range entries {
		if s := parseSpec(entry); s != nil {
			t.specs[s.Name], t.specs[strings.ToUpper(s.Name)] = s, s // the two ways that clients write it: see find
		}
	}
	return t
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
	s.Grows = has("denyoom")
	s.Module = has("module")
	s.Counted = counted[s.Name]
	s.AnswerKind = answerKinds[s.Name]
	s.Old = len(f) <= 8 // it tells of no key specifications
	s.Stateful = s.stateful(flags)
	s.KeySpecs = parseKeys(f, flags)
	s.AnyKey = s.In("keyspace") && len(s.KeySpecs) == 0 || slices.ContainsFunc([]string{"eval", "fcall"}, func(script string) bool {
		return strings.HasPrefix(s.Name, script)
	})
	// A module's command without a key may be about anything, such as a cursor.
	s.Replicated = s.ReadOnly && !unreplicated[s.Name] && !(s.Module && len(s.KeySpecs) == 0)
	s.Fast = s.ReadOnly && CursorAt(s.Name) == 0 && s.In("fast") && !s.Blocking && !s.Stateful && !s.AnyKey && !s.Module
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

// Command is one Redis command: its name, then its arguments.
type Command []string
