package redis

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/once"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/scripts"
)

func shaOf(source string) string {
	sum := sha1.Sum([]byte(source))
	return hex.EncodeToString(sum[:])
}

const noScript = "!NOSCRIPT No matching script."

// Whichever process brought a script, and whichever asks for it.
func TestScriptsOutliveAFailover(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	one, two := open(t, cluster, nil), open(t, cluster, nil)
	const loaded, evaluated = "return redis.call('INCR', KEYS[1])", "return {KEYS[1], ARGV[1]}"
	a, b := shaOf(loaded), shaOf(evaluated)
	if got := do(t, one, &Request{Commands: []Command{{"SCRIPT", "LOAD", loaded}}})[0]; got != a {
		t.Fatal(got)
	}
	do(t, one, &Request{Commands: []Command{{"EVAL", evaluated, "1", "k", "v"}}})
	for round := range 2 {
		before := one.Master()
		cluster.Node(before).Kill()
		redistest.Eventually(t, 20*time.Second, "there is another master", func() bool { m := two.Master(); return m != "" && m != before })
		if round == 0 {
			// The first to ask does so in a way in which NOSCRIPT would come too late.
			r := &Request{Commands: commands("SET x 1", "EVALSHA "+a+" 1 n", "EVALSHA "+b+" 1 k v"), Atomic: true}
			if got := strings.Join(do(t, two, r), " "); got != "OK 1 [k v]" {
				t.Errorf("in a transaction: %s", got)
			}
			for i, r := range []*Request{
				{Commands: commands("EVALSHA " + strings.ToUpper(a) + " 1 n")},
				{Commands: commands("EVALSHA "+a+" 1 n", "SET x 1"), IdempotencyKey: "once"},
				{Commands: commands("EVALSHA "+a+" 1 n", "SET x 1"), IdempotencyKey: "twice", Atomic: true},
			} {
				if got := do(t, one, r)[0]; got != strconv.Itoa(i+2) {
					t.Errorf("%v with the key %q: %s", r.Commands, r.IdempotencyKey, got)
				}
			}
			do(t, one, &Request{Commands: commands("SET done 1")})
			break // two of three nodes are left: a write needs both
		}
	}
	if got := strings.Join(do(t, two, &Request{Commands: commands("EVALSHA_RO "+b+" 1 k v", "SCRIPT EXISTS "+a+" "+b+" "+shaOf("nobody's"), "EVALSHA "+shaOf("nobody's")+" 0")}), " "); got != "[k v] [1 1 0] "+noScript {
		t.Errorf("read: %s", got)
	}
}

// Redis loses its scripts with its process, which a flush beside us stands for here.
func TestWhatIsKeptOfScripts(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	node := cluster.Nodes[0]
	another := func() *Client { return open(t, cluster, func(c *Config) { c.MinAcks = 0 }) }
	client := another()
	ask := func(c *Client, line string) string { return do(t, c, &Request{Commands: commands(line)})[0] }
	// restart makes of the process one that has just started.
	restart := func() *Client {
		node.Do("SCRIPT", "FLUSH")
		return another()
	}
	if got := ask(client, "EVAL return(1) 0"); got != "1" {
		t.Fatal(got)
	}
	broken := do(t, client, &Request{Commands: []Command{{"SCRIPT", "LOAD", "return ("}, {"EVAL", "return (", "0"}, {"EVAL", "return 2"}}})
	for i, got := range broken {
		if !strings.HasPrefix(got, "!ERR ") {
			t.Errorf("what is no script, %d: %s", i, got)
		}
	}
	client = restart()
	if got := ask(client, "EVALSHA "+shaOf("return(1)")+" 0"); got != "1" {
		t.Errorf("EVAL's after a restart: %s", got)
	}
	if got := ask(client, "EVALSHA "+shaOf("return (")+" 0"); got != noScript {
		t.Errorf("what is no script by its hash: %s", got)
	}

	// Flushed is flushed, wherever, for everybody, and for the next process.
	other := another()
	ask(client, "SCRIPT LOAD return(3)")
	ask(other, "SCRIPT FLUSH")
	for _, c := range []*Client{client, other, restart()} {
		for _, source := range []string{"return(1)", "return(3)"} {
			if got := ask(c, "EVALSHA "+shaOf(source)+" 0"); got != noScript {
				t.Errorf("%s after SCRIPT FLUSH: %s", source, got)
			}
		}
	}
	if got := do(t, client, &Request{Commands: commands("SCRIPT LOAD return(4)", "SCRIPT FLUSH", "SCRIPT LOAD return(5)", "EVALSHA "+shaOf("return(5)")+" 0")}); got[3] != "5" {
		t.Errorf("loaded after a flush: %v", got)
	}
	client = restart()
	if four, five := ask(client, "EVALSHA "+shaOf("return(4)")+" 0"), ask(client, "EVALSHA "+shaOf("return(5)")+" 0"); four != noScript || five != "5" {
		t.Errorf("loaded before a flush, and after: %s, %s", four, five)
	}

	// A repetition of a flush flushes nothing.
	for range 2 {
		do(t, client, &Request{Commands: commands("SCRIPT FLUSH"), IdempotencyKey: "once"})
		ask(client, "SCRIPT LOAD return(5)")
	}
	do(t, client, &Request{Commands: commands("SCRIPT FLUSH"), IdempotencyKey: "once"})
	client = restart()
	if got := ask(client, "EVALSHA "+shaOf("return(5)")+" 0"); got != "5" {
		t.Errorf("after the repetition of a flush: %s", got)
	}

	// Those that EVAL brought make room, and not those of SCRIPT LOAD.
	var evals []Command
	for i := range scripts.MaxKept + 200 {
		evals = append(evals, Command{"EVAL", fmt.Sprintf("return %d", 1000000+i), "0"})
	}
	do(t, client, &Request{Commands: evals[:600]})
	do(t, client, &Request{Commands: evals[600:]})
	large := "return #'" + strings.Repeat("x", scripts.MaxKeptText-100) + "'"
	for i := range 5 {
		do(t, client, &Request{Commands: []Command{{"EVAL", large + strconv.Itoa(i), "0"}, {"EVAL", large + strings.Repeat(" ", 200), "0"}}})
	}
	kept := func(words ...string) int {
		n, _ := strconv.Atoi(node.Do(append([]string{"EVAL", "redis.call('SELECT', 15) return redis.call(unpack(ARGV))", "0"}, words...)...))
		return n
	}
	if n, bytes := kept("HLEN", once.Prefix+"scripts")-1, kept("HGET", once.Prefix+"scripts", "bytes"); n != scripts.MaxKept || n != kept("ZCARD", once.Prefix+"scripts-used") || bytes > scripts.MaxKeptBytes || bytes < 5*(scripts.MaxKeptText-100) {
		t.Errorf("%d scripts with %d bytes are kept", n, bytes)
	}
	client = restart()
	if five, first, last := ask(client, "EVALSHA "+shaOf("return(5)")+" 0"), ask(client, "EVALSHA "+shaOf(evals[0][1])+" 0"), ask(client, "EVALSHA "+shaOf(evals[len(evals)-1][1])+" 0"); five != "5" || first != noScript || last != "1001199" {
		t.Errorf("of SCRIPT LOAD: %s, the first of EVAL: %s, the last: %s", five, first, last)
	}
	if n := node.Do("DBSIZE"); n != "0" {
		t.Errorf("%s keys are among the data", n)
	}
	inOne := open(t, cluster, func(c *Config) { c.MinAcks, c.RecordDB = 0, -1 })
	if got := do(t, inOne, &Request{Commands: commands("SCRIPT LOAD return(6)", "SET k v", "DBSIZE", "dbsize x")}); got[2] != "1" || !strings.HasPrefix(got[3], "!ERR wrong number") {
		t.Errorf("where records and data share a database: %q", got)
	}
}

func TestScriptsOutliveAFailoverInACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	client := openCluster(t, cluster, nil)
	redistest.Eventually(t, 10*time.Second, "every shard has a replica", func() bool { return client.Status().Replicas == 1 })
	key := keysAt(cluster.Nodes[0], 1)[0]
	sha := do(t, client, &Request{Commands: commands("SCRIPT LOAD return(7)")})[0]
	do(t, client, &Request{Commands: commands("EVAL return(8) 1 "+key, "SET "+key+" x")})
	cluster.Nodes[0].Kill()
	redistest.Eventually(t, 20*time.Second, "the shard has another master", func() bool {
		m := client.Status().Master
		return m != "" && !strings.Contains(m, cluster.Nodes[0].Addr)
	})
	other := openCluster(t, cluster, func(c *Config) { c.Cluster = []string{cluster.Nodes[1].Addr} })
	if got := do(t, other, &Request{Commands: commands("EVALSHA_RO "+sha+" 1 "+key, "EVALSHA_RO "+shaOf("return(8)")+" 1 "+key)}); got[0] != "7" || got[1] != "8" {
		t.Errorf("by their hashes: %q", got)
	}
}
