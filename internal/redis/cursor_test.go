package redis

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/rewrite"
)

// fillForScans makes 1,000 keys and a hash, a set and a sorted set of as many
// elements.
const fillForScans = `for i = 1, 1000 do
  local n = tostring(i)
  redis.call('SET', 'key-' .. n, n)
  redis.call('HSET', 'h', 'field-' .. n, n)
  redis.call('SADD', 's', 'member-' .. n)
  redis.call('ZADD', 'z', i, 'member-' .. n)
end`

// scanLines begin the four iterations; a cursor takes the place of %.
var scanLines = []string{"SCAN % MATCH key-* COUNT 50", "HSCAN h % COUNT 50", "SSCAN s % COUNT 50", "ZSCAN z % COUNT 50"}

// scanning is the command of an iteration at a cursor.
func scanning(line, cursor string) Command {
	return strings.Fields(strings.Replace(line, "%", cursor, 1))
}

// scanPage carries one step of an iteration out.
func scanPage(t *testing.T, c *Client, r *Request) (next string, found []string) {
	t.Helper()
	if err := c.Do(t.Context(), r); err != nil {
		t.Fatalf("%v: %v", r.Commands, err)
	}
	last := r.Results[len(r.Results)-1]
	if last.Err != nil {
		t.Fatalf("%v: %v", r.Commands, last.Err)
	}
	cursor, items := last.Reply.At(0), last.Reply.At(1)
	for i := range items.Len() {
		e := items.At(i)
		found = append(found, strings.Clone(e.Text()))
	}
	return strings.Clone(cursor.Text()), found
}

func TestEveryClientGoesOnWithACursorOfTheSameProcess(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	clients := []*Client{open(t, cluster, nil), open(t, cluster, nil)}
	do(t, clients[0], &Request{Commands: []Command{{"EVAL", fillForScans, "0"}}})
	// Each way by which a command reaches Redis, an iteration goes on by any of them.
	ways := []func(Command) *Request{
		func(cmd Command) *Request { return &Request{Commands: []Command{cmd}} },
		func(cmd Command) *Request { return &Request{Commands: []Command{{"SET", "x", "1"}, cmd}} },
		func(cmd Command) *Request { return &Request{Commands: []Command{{"SET", "x", "1"}, cmd}, Atomic: true} },
		func(cmd Command) *Request {
			return &Request{Commands: []Command{{"SET", "x", "1"}, cmd}, Atomic: true, IdempotencyKey: "k"}
		},
		func(cmd Command) *Request {
			return &Request{Commands: []Command{{"EVAL", "return 1", "0"}, cmd}, IdempotencyKey: "k"}
		},
		func(cmd Command) *Request {
			return &Request{Commands: []Command{cmd}, Read: ReadReplica, MaxLag: time.Hour}
		},
	}
	for _, line := range scanLines {
		seen, cursor := map[string]bool{}, "0"
		for n := 0; n == 0 || cursor != "0"; n++ {
			next, found := scanPage(t, clients[n%2], ways[n%len(ways)](scanning(line, cursor)))
			again, same := scanPage(t, clients[n/2%2], ways[n/2%len(ways)](scanning(line, cursor)))
			if next != again || !slices.Equal(found, same) {
				t.Fatalf("%s: %s and %s follow %s", line, next, again, cursor)
			}
			for _, e := range found {
				seen[e] = true
			}
			if number, err := strconv.ParseUint(next, 10, 64); err != nil || number >= 1<<53 {
				t.Fatalf("%s: the cursor %s is no number that is exact everywhere", line, next)
			}
			cursor = next
		}
		want := 1000
		if line[0] == 'Z' || line[0] == 'H' {
			want = 2000 // with scores and values, which are not the same as any name
		}
		if len(seen) != want {
			t.Errorf("%s: %d of %d", line, len(seen), want)
		}
	}
}

// A cursor that no process gave, or another one did.
func TestACursorOfAnotherProcessIsAnError(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: []Command{{"EVAL", fillForScans, "0"}}})
	cursors := map[string]string{}
	for _, line := range scanLines {
		cursors[line], _ = scanPage(t, client, &Request{Commands: []Command{scanning(line, "0")}})
	}
	kept := &Request{Commands: []Command{{"SET", "x", "1"}, scanning(scanLines[0], "0")}, Atomic: true, IdempotencyKey: "kept"}
	keptCursor, _ := scanPage(t, client, kept)
	gone := func(name string, r *Request, at int) {
		t.Helper()
		if err := client.Do(t.Context(), r); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if err := r.Results[at].Err; !errors.Is(err, rewrite.ErrCursorGone) || KindOf(err) != Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, cursor := range []string{"1", "17", "4096", "123456789012", "18446744073709551615"} {
		gone("made up: "+cursor, &Request{Commands: []Command{scanning(scanLines[0], cursor)}}, 0)
	}
	before := client.Master()
	cluster.Node(before).Kill()
	redistest.Eventually(t, 20*time.Second, "there is another master", func() bool { m := client.Master(); return m != "" && m != before })
	for _, line := range scanLines {
		cmd := scanning(line, cursors[line])
		gone(line, &Request{Commands: []Command{cmd}, Async: true}, 0)
		gone(line+" to the end", &Request{Commands: []Command{scanning(strings.Replace(line, "COUNT 50", "COUNT 10000", 1), cursors[line])}}, 0)
		gone(line+" from a replica", &Request{Commands: []Command{cmd}, Read: ReadReplica, MaxLag: time.Hour}, 0)
		got := &Request{Commands: []Command{{"ECHO", "before"}, cmd, {"ECHO", "behind"}}}
		gone(line+" in a pipeline", got, 1)
		if word(&got.Results[0].Reply) != "before" || word(&got.Results[2].Reply) != "behind" {
			t.Errorf("%s: the others of the pipeline: %v", line, got.Results)
		}
		got.Atomic = true
		gone(line+" in a transaction", got, 1)
		if word(&got.Results[0].Reply) != "before" || word(&got.Results[2].Reply) != "behind" {
			t.Errorf("%s: the others of the transaction: %v", line, got.Results)
		}
	}
	// A repetition has the cursor of the process that gave it, and no other's.
	again := *kept
	again.Results = nil
	if cursor, _ := scanPage(t, client, &again); cursor != keptCursor {
		t.Errorf("the repetition has the cursor %s, the first answer %s", cursor, keptCursor)
	}
	gone("of the repetition", &Request{Commands: []Command{scanning(scanLines[0], keptCursor)}, Async: true}, 0)
}

func TestRedisHasItsWordsForWhatIsNoCursor(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	do(t, client, &Request{Commands: commands("SET k v", "HSET h f v")})
	for line, want := range map[string]string{
		"SCAN": "!ERR wrong number of arguments for 'scan' command", "SCAN x": "!ERR invalid cursor", "SCAN -": "!ERR invalid cursor",
		"SCAN 18446744073709551616": "!ERR invalid cursor", "HSCAN k 0": "!WRONGTYPE Operation against a key holding the wrong kind of value",
		"SCAN 0 NOSUCH 1": "!ERR syntax error", "SCAN -0 TYPE string": "[0 [k]]", "SSCAN none 0": "[0 []]",
		// With a number that is no cursor, too; and a small hash comes whole whatever the cursor is.
		"SCAN 7 NOSUCH 1": "!ERR syntax error", "HSCAN k -1": "!WRONGTYPE Operation against a key holding the wrong kind of value",
		"HSCAN h 7": "[0 [f v]]", "SCAN 7": "!" + rewrite.ErrCursorGone.Error(), "SCAN -1": "!" + rewrite.ErrCursorGone.Error(),
	} {
		if got := do(t, client, &Request{Commands: commands(line)}); got[0] != want {
			t.Errorf("%s: %s, want %s", line, got[0], want)
		}
	}
}

// The master answers what is not in the data, even if a replica is asked for.
func TestReplicasAreAskedForDataAlone(t *testing.T) {
	cluster := redistest.Start(t, 2, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: []Command{{"EVAL", fillForScans, "0"}}})
	sha := do(t, client, &Request{Commands: []Command{{"SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])"}}})[0]
	subscribeTo(t, client, false, "news").hears(t, Message{Kind: "subscribe", Channel: "news", Count: 1})
	ask := func(cmd ...string) *Request {
		return &Request{Commands: []Command{cmd}, Read: ReadReplica, MaxLag: time.Hour}
	}
	redistest.Eventually(t, 10*time.Second, "a replica answers", func() bool {
		r := ask("GET", "key-1")
		return do(t, client, r)[0] == "1" && r.From == ReadReplica
	})
	for line, want := range map[string]string{
		"SCRIPT EXISTS " + sha: "[1]", "EVALSHA_RO " + sha + " 1 key-7": "7", "PUBSUB NUMSUB news": "[news 1]", "PUBSUB CHANNELS n*": "[news]",
		"TOUCH key-1": "1", "ZSCAN none 0": "[0 []]",
	} {
		r := ask(strings.Fields(line)...)
		if got := do(t, client, r)[0]; got != want || r.From != ReadMaster {
			t.Errorf("%s: %s from %s, want %s from the master", line, got, r.Node, want)
		}
	}
	for _, line := range []string{"INFO", "ROLE", "OBJECT FREQ key-1", "OBJECT IDLETIME key-1", "MEMORY USAGE key-1", "EVAL_RO return(1) 0", "TIME", "DBSIZE"} {
		r := ask(strings.Fields(line)...)
		do(t, client, r)
		if (r.From == ReadReplica) != (line == "DBSIZE") {
			t.Errorf("%s was answered by %s", line, r.Node)
		}
	}
}

func TestACursorInAClusterIsOfItsMasterAndOfTheSameMasters(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	client := openCluster(t, cluster, nil)
	for _, n := range cluster.Nodes[:3] {
		redistest.Eventually(t, 10*time.Second, "a write is acknowledged at "+n.Addr, func() bool {
			return client.Status().Replicas == 1 && client.Set(t.Context(), keysAt(n, 1)[0], nil, "") == nil
		})
	}
	key := keysAt(cluster.Nodes[0], 1)[0]
	var sets []Command
	for i := range 600 {
		sets = append(sets, Command{"SET", "other-" + strconv.Itoa(i), ""}, Command{"SADD", key + "{" + key + "}", strconv.Itoa(i) + "x"})
	}
	do(t, client, &Request{Commands: sets})
	inFirst, _ := scanPage(t, client, &Request{Commands: commands("SCAN 0")})
	inSet, _ := scanPage(t, client, &Request{Commands: commands("SSCAN " + key + "{" + key + "} 0")})
	first := func(cursor string) bool { n, _ := strconv.ParseUint(cursor, 10, 64); return n&1023 == 0 }
	inSecond := inFirst
	for first(inSecond) {
		inSecond, _ = scanPage(t, client, &Request{Commands: commands("SCAN " + inSecond + " COUNT 50")})
	}
	gone := func(line string) {
		t.Helper()
		r := &Request{Commands: commands(line)}
		if err := client.Do(t.Context(), r); err != nil || !errors.Is(r.Results[0].Err, rewrite.ErrCursorGone) {
			t.Errorf("%s: %v, %v", line, err, r.Results)
		}
	}
	for _, cursor := range []string{"5", "1024", "1025", "99999999999"} {
		gone("SCAN " + cursor)
	}
	cluster.Nodes[0].Kill()
	redistest.Eventually(t, 20*time.Second, "the shard has another master", func() bool {
		m := client.Status().Master
		return m != "" && !strings.Contains(m, cluster.Nodes[0].Addr)
	})
	scanPage(t, client, &Request{Commands: commands("SCAN " + inSecond)}) // that master has not changed
	gone("SCAN " + inFirst)
	gone("SSCAN " + key + "{" + key + "} " + inSet)
}
