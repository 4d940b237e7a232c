package redis

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/redis/redistest"
)

// asScripts has scripts run as users of their own, as in a stack.
func asScripts(c *Config) {
	c.MinAcks = 0
	c.ScriptUser = &Login{Username: redistest.ScriptUser, Password: redistest.Password}
	c.ReadScriptUser = &Login{Username: redistest.ReadScriptUser, Password: redistest.Password}
}

// ways are those in which a command gets to Redis: alone or among others, by itself
// or in a transaction, with and without a record.
func ways(cmd Command) map[string]*Request {
	all := map[string]*Request{}
	for _, key := range []string{"", "once " + strings.Join(cmd, " ")} {
		all["alone "+key] = &Request{Commands: []Command{cmd}, IdempotencyKey: key}
		all["in a pipeline "+key] = &Request{Commands: []Command{{"SET", "other", "1"}, cmd, {"GET", "other"}}, IdempotencyKey: key}
		all["in a transaction "+key] = &Request{Commands: []Command{{"SET", "other", "1"}, cmd, {"GET", "other"}}, Atomic: true, IdempotencyKey: key}
	}
	return all
}

func TestAScriptDoesNoMoreThanItsClientMay(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	node := cluster.Nodes[0]
	client := open(t, cluster, asScripts)
	node.Do("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('tried', function(keys, args) local r = redis.pcall(unpack(args)) return type(r) == 'table' and r.err or 'done' end)\n"+
		"redis.register_function{function_name='tried_ro', callback=function(keys, args) local r = redis.pcall(unpack(args)) return type(r) == 'table' and r.err or 'done' end, flags={'no-writes'}}")
	node.Do("SET", "k", "v")
	const tried = "local r = redis.pcall(unpack(ARGV)) return type(r) == 'table' and r.err or 'done'"
	const may, not = true, false
	for _, c := range []struct {
		words         string
		writes, reads bool
	}{
		{"GET k", may, may}, {"STRLEN k", may, may}, {"SELECT 0", may, may}, {"SORT_RO l", may, may}, {"DBSIZE", may, may}, {"TIME", may, may}, {"XREAD STREAMS x 0", may, may},
		{"SET k v", may, not}, {"PUBLISH news x", may, not}, {"SORT l STORE l2", may, not}, {"SCAN 0", may, not}, {"INFO", may, not}, {"ROLE", not, not},
		{"SELECT 15", not, not}, {"SELECT 1", not, not}, {"COPY k k2 DB 15", not, not}, {"COPY k k2", not, not}, {"MOVE k 15", not, not}, {"SWAPDB 0 15", not, not},
		{"MIGRATE 127.0.0.1 1 k 15 10", not, not}, {"FLUSHDB", not, not}, {"FLUSHALL", not, not}, {"KEYS *", not, not}, {"RESTORE k2 0 x", not, not},
		{"PUBLISH __sentinel__:hello x", not, not}, {"SPUBLISH __sentinel__:hello x", not, not}, {"CONFIG GET *", not, not}, {"ACL WHOAMI", not, not},
		{"SHUTDOWN NOSAVE", not, not}, {"DEBUG SLEEP 0", not, not}, {"CLIENT LIST", not, not}, {"REPLICAOF NO ONE", not, not}, {"FUNCTION FLUSH", not, not}, {"SCRIPT FLUSH", not, not},
		{"WAIT 0 0", not, not}, {"AUTH web of-no-worth", not, not}, {"SLOWLOG GET", not, not}, {"MODULE LIST", not, not}, {"BGSAVE", not, not}, {"LATENCY RESET", not, not},
	} {
		words := strings.Fields(c.words)
		for _, read := range []bool{false, true} {
			scripts := map[string]Command{
				"EVAL": append(Command{"EVAL", tried, "0"}, words...), "eval_ro": append(Command{"eval_ro", tried, "0"}, words...),
				"FCALL": append(Command{"FCALL", "tried", "0"}, words...), "Fcall_ro": append(Command{"Fcall_ro", "tried_ro", "0"}, words...),
			}
			for name, cmd := range scripts {
				for way, r := range ways(cmd) {
					r.ReadScripts, r.Owner = read, fmt.Sprint(read)
					want := c.writes
					if read {
						want = c.reads
					}
					if strings.HasSuffix(strings.ToLower(name), "_ro") && !c.reads && c.writes && !strings.Contains("SCAN INFO", words[0]) {
						want = not // Redis keeps it from writing
					}
					got := do(t, client, r)
					if at := len(got) / 2; (got[at] == "done") != want {
						t.Errorf("%s of %s by one who only reads (%v), %s: %q", name, c.words, read, way, got)
					}
				}
			}
		}
	}
	// What is not a script is carried out as ever, before and behind one.
	for _, idempotencyKey := range []string{"", "k"} {
		got := do(t, client, &Request{IdempotencyKey: idempotencyKey, Commands: commands("SET a 1", "EVAL return(7) 0", "COPY a b", "EVAL_RO return(8) 0", "RANDOMKEY", "DBSIZE")})
		if len(got) != 6 || got[0] != "OK" || got[1] != "7" || got[2] != "1" || got[3] != "8" {
			t.Errorf("a pipeline with scripts: %q", got)
		}
		node.Do("DEL", "b")
	}
	if n := node.Do("EVAL", "redis.call('SELECT', 15) for _, k in ipairs(redis.call('KEYS', '*')) do if string.sub(k, 2, 9) ~= 'holdfast' then return k end end return 'none'", "0"); n != "none" {
		t.Errorf("in the database of the records: %q", n)
	}
	if log := node.Do("CLIENT", "LIST"); strings.Contains(log, "user="+redistest.ScriptUser+" ") || strings.Contains(log, "user="+redistest.ReadScriptUser+" ") {
		t.Errorf("a connection stayed somebody else's: %s", log)
	}
}

func TestARepetitionOfAScriptGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, asScripts)
	for i, r := range []*Request{
		{Commands: commands("EVAL return(redis.call('INCR','n0')) 0")},
		{Commands: commands("SET s 1", "EVAL return(redis.call('INCR','n1')) 0", "INCR m1")},
		{Commands: commands("INCR m2", "EVAL return(redis.call('INCR','n2')) 0", "SCAN 0 COUNT 1"), Atomic: true},
		{Commands: commands("INCR m3", "EVAL return(redis.call('INCR','n3')) 0", "EVAL return('x') 0", "INCR m3"), Atomic: true},
	} {
		r.IdempotencyKey = fmt.Sprint("key", i)
		first := fmt.Sprint(do(t, client, r))
		for range 2 {
			if again := fmt.Sprint(do(t, client, r)); again != first {
				t.Errorf("%q: %s, then %s", r.Commands, first, again)
			}
		}
	}
}

func TestAKeyIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, asScripts)
	app := open(t, cluster, func(c *Config) { asScripts(c); c.App = "a" })
	of := open(t, cluster, func(c *Config) { asScripts(c); c.App = "of" })
	for _, form := range []struct {
		cmds   []Command
		atomic bool
	}{{commands("INCR n"), false}, {commands("INCR n", "INCR n"), false}, {commands("INCR n", "INCR n"), true}, {commands("EVAL return(redis.call('INCR','n')) 0"), false}} {
		said := map[string]string{}
		for _, who := range []struct {
			client *Client
			app    string
			owner  string
		}{
			{client, "", ""}, {client, "", "a"}, {client, "", "b"}, {client, "", "of"}, {app, "a", ""}, {app, "a", "a"}, {app, "a", "of"}, {of, "of", ""}, {of, "of", "a"},
			{client, "", "a"}, {client, "", ""}, {client, "", "b"}, {app, "a", "a"}, {app, "a", ""}, {of, "of", "a"},
		} {
			name := who.app + "/" + who.owner
			got := fmt.Sprint(do(t, who.client, &Request{Commands: form.cmds, Atomic: form.atomic, IdempotencyKey: "k", Owner: who.owner}))
			for other, theirs := range said {
				if (other == name) != (theirs == got) {
					t.Errorf("%q: %q gets %s, %q got %s", form.cmds, name, got, other, theirs)
				}
			}
			said[name] = got
		}
	}
}

// Where scripts cannot run as their user, they do not run at all.
func TestWithoutTheirUserScriptsAreNotCarriedOut(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 0, 0)
	node := cluster.Nodes[0]
	node.Do("ACL", "DELUSER", redistest.ScriptUser)
	client := open(t, cluster, func(c *Config) { asScripts(c); c.Hold /= 10 })
	for way, r := range ways(Command{"EVAL", "return redis.call('SELECT', 15)", "0"}) {
		if err := client.Do(t.Context(), r); err == nil && r.Results[len(r.Results)/2].Err == nil {
			t.Errorf("%s: it was carried out", way)
		} else if err != nil && (KindOf(err) != NotExecuted || !strings.Contains(err.Error(), redistest.ScriptUser)) {
			t.Errorf("%s: %v", way, err)
		}
	}
	do(t, client, &Request{Commands: commands("LRANGE l 0 -1")}) // others' are carried out
	node.Do("ACL", "SETUSER", redistest.ScriptUser, "on", ">"+redistest.Password, "+eval")
	if got := do(t, client, &Request{Commands: commands("EVAL return(7) 0")}); got[0] != "7" {
		t.Errorf("with its user: %q", got)
	}
}
