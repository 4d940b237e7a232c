package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/resp"
)

// spell words a reply with its type, so that nothing of it can change unseen.
func spell(r *resp.Reply) string {
	switch r.Type() {
	case resp.Null:
		return "nil"
	case resp.Integer:
		return strconv.FormatInt(r.Int(), 10)
	case resp.Array:
		var all []string
		for i := range r.Len() {
			e := r.At(i)
			all = append(all, spell(&e))
		}
		return "[" + strings.Join(all, " ") + "]"
	case resp.Failure:
		return "!" + r.Text()
	}
	if r.Simple() {
		return "+" + r.Text()
	}
	return strconv.Quote(r.Text())
}

// transact carries a transaction out and spells its outcome: each command's
// answer, or the one error of all.
func transact(t *testing.T, c *Client, idempotencyKey string, cmds []Command) []string {
	t.Helper()
	r := &Request{Commands: cmds, Atomic: true, IdempotencyKey: idempotencyKey}
	if err := c.Do(t.Context(), r); err != nil {
		return []string{fmt.Sprintf("%d: %s", KindOf(err), Words(err))}
	}
	var out []string
	for _, result := range r.Results {
		if result.Err != nil {
			out = append(out, fmt.Sprintf("%d: %s", KindOf(result.Err), Words(result.Err)))
		} else {
			out = append(out, spell(&result.Reply))
		}
	}
	return out
}

// execs is how many transactions a server has carried out by EXEC.
func execs(s *redistest.Server) string {
	for line := range strings.Lines(s.Do("INFO", "commandstats")) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_exec:calls="); ok {
			calls, _, _ := strings.Cut(rest, ",")
			return calls
		}
	}
	return "0"
}

// The two ways that a transaction with a key may take.
const (
	byScript = "by a script"
	byExec   = "by EXEC"

	turnedDown = "not at all"
)

func TestATransactionWithAKeyAnswersAsOneWithout(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("SET warm up")}) // the replica is there
	setup := [][]string{
		{"SET", "text", "value"}, {"SET", "number", "41"}, {"RPUSH", "list", "a", "b", "c"}, {"HSET", "hash", "f", "v", "g", "w"},
		{"ZADD", "zset", "1.5", "m", "2", "n"}, {"XADD", "stream", "1-1", "f", "v"}, {"SET", "far", "1", "PXAT", "9007199254740993"},
		{"SADD", "set", "one"}, {"SET", "big", "9007199254740992"}, {"SET", "small", "-9007199254740992"}, {"GEOADD", "geo", "13.36", "38.11", "p"},
		{"SET", "highest", "9223372036854775807"}, {"PFADD", "hll", "a", "b"},
	}
	binary := "\x00\r\n\xff\xfe$-1\r\n"
	for name, test := range map[string]struct {
		way  string
		cmds []Command
	}{
		"a status, a string, an integer, a null": {byScript, commands("SET k v", "GET k", "INCR number", "GET none", "LPOP none", "SET k w NX", "PING", "PING x", "ECHO +OK")},
		"nulls inside arrays":                    {byScript, commands("MGET none text none2", "HMGET hash f none g none", "SET k v", "ZMSCORE zset m none", "MGET none none")},
		"nulls as all":                           {byScript, commands("GET none", "GET none", "INCR n", "GET none")},
		"empty and null arrays":                  {byScript, commands("LPOP none 2", "ZPOPMIN none", "SPOP none 2", "SET k v", "GEOPOS geo none", "GEOHASH geo none", "LPOP list 0")},
		"nested arrays":                          {byScript, commands("XADD stream 2-1 a b c d", "GEOPOS geo p none", "ZPOPMAX zset 2", "RPOP list 2")},
		"answers of any length":                  {byExec, commands("LRANGE none 0 -1", "SMEMBERS none", "HGETALL none", "XRANGE stream - +", "XREAD STREAMS stream none 0 0", "LMPOP 2 none list LEFT COUNT 2", "ZMPOP 1 none MIN", "XGROUP CREATE stream g 0", "XREADGROUP GROUP g c COUNT 1 STREAMS stream >")},
		"maps and doubles":                       {byScript, commands("ZSCORE zset m", "ZPOPMIN zset", "ZADD zset INCR 1 m", "INCRBYFLOAT number 0.1", "HINCRBYFLOAT hash none 1e17", "ZADD zset INCR NX 1 m")},
		"what an earlier one set":                {byScript, commands("SET a 1", "GET a", "APPEND a 2", "GET a", "GETDEL a", "EXISTS a", "RENAME text other", "GET other")},
		"errors at run time":                     {byScript, commands("SET t 1", "LPUSH t x", "INCR t", "INCR text", "HGET list f", "EXPIRE t x", "RENAME none other", "INCR highest", "SET t 1 XX NX", "XADD stream 1-1 a b", "OBJECT ENCODING none", "GET t")},
		"integers beyond 2^53":                   {byScript, commands("INCR big", "INCRBY big 5", "DECR small", "DECRBY small 7", "HINCRBY hash n 9007199254740993", "INCRBY k 9007199254740991", "INCR k", "DECR highest")},
		"other integers beyond 2^53":             {byExec, commands("INCR n", "PEXPIRETIME far", "BITFIELD b INCRBY i64 0 9007199254740993")},
		"bytes of every kind":                    {byScript, []Command{{"SET", binary, binary}, {"GET", binary}, {"HSET", "hash", binary, ""}, {"HGET", "hash", binary}, {"HMGET", "hash", "", binary}, {"ECHO", ""}}},
		"subcommands and big and small letters":  {byScript, commands("sEt k v", "object encoding k", "Object Encoding list", "xgroup create stream g 0", "XGroup CreateConsumer stream g c", "object freq k", "memory usage none")},
		"others' data types":                     {byScript, commands("PFADD hll c", "PFCOUNT hll", "SETBIT b 7 1", "BITCOUNT b", "SETRANGE s 3 x", "GETRANGE s 0 -1", "LPOS list c", "LPOS list z", "SINTERCARD 2 set none", "ZRANK zset none", "EXPIRE k 5", "TTL list", "TTL none", "TYPE set", "DBSIZE")},
		"reads of all keys":                      {byExec, commands("SET k v", "SCAN 0 MATCH k* COUNT 100", "DBSIZE")},
		"a message":                              {byScript, commands("PUBLISH channel hello", "SET k v")},
		"deeply nested arrays":                   {byExec, commands("SET k v", "COMMAND INFO xautoclaim xgroup sort nosuch", "COMMAND DOCS sort xadd", "LCS text number IDX", "PUBSUB NUMSUB a b")},
		"copied keys":                            {byScript, commands("COPY number other", "EXISTS text other")},
		"many":                                   {byScript, slices.Repeat(commands("INCR n", "GET none"), 300)},
		"more than a script takes":               {byExec, slices.Repeat(commands("INCR n"), once.MaxWhole+1)},
		"too many arguments":                     {byExec, []Command{append(Command{"RPUSH", "long"}, make([]string, once.MaxScriptArgs)...)}},
		"a script":                               {byExec, commands("INCR n", "EVAL return{redis.call('INCR',KEYS[1]),false,'x'} 1 n", "GET n")},
		"one that would wait":                    {byExec, commands("INCR n", "BLPOP none 0", "XREAD BLOCK 0 STREAMS none $")},
		"all keys":                               {byExec, commands("SET k v", "FLUSHALL", "SET k w")},
		"an unknown command":                     {byExec, commands("SET k v", "NOSUCH a")},
		"an unknown subcommand":                  {byExec, commands("SET k v", "OBJECT NOSUCH k")},
		"a wrong number of arguments":            {byExec, commands("SET k v", "INCR", "GET k")},
		"too many of them":                       {byExec, commands("SET k v", "GET k k")},
		"a command that may not be":              {byExec, commands("SET k v", "CONFIG GET maxmemory")},
		"a channel that may not be":              {byExec, commands("SET k v", "PUBLISH __sentinel__:hello x")},
	} {
		prepare := func() {
			master.Do("FLUSHALL")
			for _, cmd := range setup {
				master.Do(cmd...)
			}
		}
		prepare()
		want := transact(t, client, "", test.cmds)
		left := master.Do("DEBUG", "DIGEST")
		prepare()
		before := execs(master)
		if got := transact(t, client, "once", test.cmds); !slices.Equal(got, want) {
			t.Errorf("%s\nwith a key    %q\nwithout a key %q", name, got, want)
		}
		if way := map[bool]string{true: byScript, false: byExec}[execs(master) == before]; way != test.way {
			t.Errorf("%s: carried out %s, want %s", name, way, test.way)
		}
		// The digest takes in all databases: the record goes first.
		master.Do("EVAL", "redis.call('SELECT', 15) return redis.call('FLUSHDB')", "0")
		if got := master.Do("DEBUG", "DIGEST"); got != left {
			t.Errorf("%s: it left other data than without a key", name)
		}
		prepare()
		first := transact(t, client, "again", test.cmds)
		after := master.Do("DEBUG", "DIGEST")
		for range 2 {
			again := transact(t, client, "again", test.cmds)
			if name == "all keys" {
				break // the record went with them
			}
			if !slices.Equal(again, first) {
				t.Errorf("%s\nfirst      %q\nrepetition %q", name, first, again)
			}
		}
		if master.Do("DEBUG", "DIGEST") != after {
			t.Errorf("%s: a repetition changed something", name)
		}
	}
}

// A script's answer has to be short, and whether it is shows only when it is
// made: an answer that is too long is given, and not kept.
func TestAnAnswerThatIsTooLongIsNotKept(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, nil)
	half := strings.Repeat("x", once.MaxKeptBytes/2)
	do(t, client, &Request{Commands: []Command{{"SET", "half", half}, {"SET", "little", half[:once.MaxKeptBytes/2-100]}, {"HSET", "nested", "f", half}}})
	many := func(n int) []Command {
		cmd := Command{"MGET"}
		for range n / 2 {
			cmd = append(cmd, "none")
		}
		return []Command{cmd, cmd, {"INCR", "n"}}
	}
	for name, test := range map[string]struct {
		kept bool
		cmds []Command
	}{
		"bytes that are just kept":    {true, commands("GET half", "GET little", "INCR n")},
		"one byte too many":           {false, commands("GET half", "GET half", "ECHO x", "INCR n")},
		"bytes inside arrays":         {false, commands("MGET half none half", "HMGET nested none f", "INCR n")},
		"elements that are just kept": {true, many(once.MaxKeptElements - 10)},
		"elements too many":           {false, many(once.MaxKeptElements)},
	} {
		counted := resp.Int(master.Do("GET", "n"))
		want := transact(t, client, "", test.cmds[:len(test.cmds)-1])
		before := execs(master)
		got := transact(t, client, name, test.cmds)
		if !slices.Equal(got[:len(got)-1], want) {
			t.Errorf("%s: another answer than without a key", name)
		}
		again := transact(t, client, name, test.cmds)
		if test.kept && !slices.Equal(again, got) {
			t.Errorf("%s: the repetition was answered otherwise", name)
		}
		if gone := []string{fmt.Sprintf("%d: ", Unknown)}; !test.kept && !slices.Equal(again, gone) {
			t.Errorf("%s: the answer was kept", name)
		}
		if execs(master) != before {
			t.Errorf("%s: carried out by EXEC", name)
		}
		if n := resp.Int(master.Do("GET", "n")); n != counted+1 {
			t.Errorf("%s: it happened %d times", name, n-counted)
		}
	}
}

func TestAScriptCarriesOutWhatHasAShortAnswer(t *testing.T) {
	client := open(t, redistest.Start(t, 1, 0), nil)
	for line, want := range map[string]bool{
		"SET k v": true, "get k": true, "MGET a b": true, "HSET h f v": true, "Hmget h f": true, "EXPIRE k 1": true, "XADD s * f v": true,
		"XGROUP CREATE s g 0": true, "Object Encoding k": true, "SUNIONSTORE a b c": true, "PUBLISH c m": true, "DEL a b": true,
		"LPOP l": true, "RPOP l 1000": true, "LPOP l 1001": false, "SPOP s x": false, "SPOP s 1000000": false, "ZPOPMIN z 9": true,
		"LPOS l x": true, "LPOS l x COUNT 0": false,
		"LRANGE l 0 -1": false, "SMEMBERS s": false, "HGETALL h": false, "HKEYS h": false, "HVALS h": false, "HRANDFIELD h 9": false,
		"ZRANGE z 0 -1": false, "ZRANGEBYSCORE z 0 1": false, "XRANGE s - +": false, "XREAD STREAMS s 0": false, "XREADGROUP GROUP g c STREAMS s >": false,
		"KEYS *": false, "SCAN 0": false, "SSCAN s 0": false, "SORT l": false, "SORT l STORE m": false, "SDIFF a b": false, "SINTER a b": false,
		"SUNION a b": false, "ZUNION 1 a": false, "LMPOP 1 l LEFT": false, "BLPOP l 0": false, "GEOSEARCH g FROMMEMBER m BYRADIUS 1 m": false,
		"LCS a b": false, "COMMAND": false, "COMMAND DOCS": false, "INFO": false, "OBJECT": false, "OBJECT HELP": false, "DUMP k": false,
		"RESTORE k 0 x": false, "SPUBLISH c m": false, "BITFIELD b GET u8 0": false, "PEXPIRETIME k": false, "XINFO STREAM s": false,
		"EVAL return(1) 0": false, "FCALL f 0": false, "FLUSHALL": false, "CONFIG GET port": false, "NOSUCH": false, "GET": false, "GET a b": false,
	} {
		cmd := commands(line)[0]
		spec, err := client.Spec(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if got := once.Carriable(spec, cmd, false); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

// In a cluster the record and the script are where the transaction's keys are.
func TestATransactionInAClusterIsOneWriteToo(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	client := openCluster(t, cluster, func(c *Config) { c.MinAcks = 0 })
	count := func() (all string) {
		for _, n := range cluster.Nodes {
			all += execs(n) + " "
		}
		return all
	}
	for name, test := range map[string]struct {
		way  string
		cmds []Command
	}{
		"several keys":           {byScript, commands("SET {t}a 1", "MGET {t}a {t}none {t}b", "LPUSH {t}a x", "HINCRBY {t}h f 9007199254740993", "INCR {t}a")},
		"another slot":           {byScript, commands("SET {u}a 1", "GETDEL {u}a", "GET {u}a", "ZUNIONSTORE {u}z 2 {u}x {u}y")},
		"no keys at all":         {byScript, commands("PUBLISH news x", "ECHO x")},
		"a shard's channel":      {byExec, commands("SET {t}e 1", "SPUBLISH {t}c x")},
		"another slot's channel": {turnedDown, commands("SET {t}f 1", "SPUBLISH {other}c x")},
		"keys that are not told": {byExec, commands("SET {t}b 1", "SORT {t}list BY nosort STORE {t}d")},
		"a script":               {byExec, commands("SET {t}c 1", "EVAL return{1,false,2} 1 {t}c")},
		"a wrong number":         {byExec, commands("SET {t}d 1", "INCR")},
	} {
		want := transact(t, client, "", test.cmds)
		for _, n := range cluster.Nodes {
			n.Do("FLUSHALL")
		}
		before := count()
		first := transact(t, client, "once", test.cmds)
		if !slices.Equal(first, want) {
			t.Errorf("%s\nwith a key    %q\nwithout a key %q", name, first, want)
		}
		if test.way == turnedDown {
			if len(first) != 1 {
				t.Errorf("%s: %q, want one refusal", name, first)
			}
		} else if way := map[bool]string{true: byScript, false: byExec}[count() == before]; way != test.way {
			t.Errorf("%s: carried out %s, want %s", name, way, test.way)
		}
		if again := transact(t, client, "once", test.cmds); !slices.Equal(again, first) {
			t.Errorf("%s\nfirst      %q\nrepetition %q", name, first, again)
		}
	}
}

// A script has to name its keys as such that it may write to.
func TestATransactionInAClusterMayReadWhatItMayNotWrite(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 0)
	client := openCluster(t, cluster, func(c *Config) { c.MinAcks = 0 })
	do(t, client, &Request{Commands: commands("SET {t}read value")})
	for _, n := range cluster.Nodes {
		if answer := n.Do("ACL", "SETUSER", redistest.Username, "resetkeys", "~{t}write*", "%R~{t}read*", "~?holdfast*"); answer != "OK" {
			t.Fatal(answer)
		}
	}
	for range 2 {
		if got := transact(t, client, "once", commands("INCR {t}write", "GET {t}read")); !slices.Equal(got, []string{"1", `"value"`}) {
			t.Errorf("%q", got)
		}
	}
	if got := transact(t, client, "another", commands("INCR {t}write", "SET {t}read x")); len(got) != 1 || !strings.Contains(got[0], "NOPERM") {
		t.Errorf("a write that may not be: %q", got)
	}
}

// What Redis does not let our user do is turned down before anything is done.
func TestATransactionIsTurnedDownWholeByRights(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("SET warm up", "HSET a:h big 9007199254740992")})
	for rights, lines := range map[string][]string{
		"-incr":                             {"SET a:k v", "INCR a:n"},
		"-object|encoding":                  {"SET a:k v", "OBJECT ENCODING a:k"},
		"resetkeys ~a:* %R~b:* ~?holdfast*": {"SET a:k v", "GET b:k", "SET b:k v"},
	} {
		if answer := master.Do(append([]string{"ACL", "SETUSER", redistest.Username}, strings.Fields(rights)...)...); answer != "OK" {
			t.Fatal(answer)
		}
		want := transact(t, client, "", commands(lines...))
		got := transact(t, client, "once"+rights, commands(lines...))
		if !slices.Equal(got, want) || len(got) != 1 || !strings.Contains(got[0], "NOPERM") {
			t.Errorf("%s: with a key %q, without %q", rights, got, want)
		}
		if got := master.Do("EXISTS", "a:k"); got != "0" {
			t.Errorf("%s: half of it was done", rights)
		}
		master.Do("ACL", "SETUSER", redistest.Username, "+incr", "+object", "allkeys")
		// With the rights it is carried out: no record was left.
		if got := transact(t, client, "once"+rights, commands(lines...)); got[0] != "+OK" {
			t.Errorf("%s: %q", rights, got)
		}
		master.Do("DEL", "a:k", "a:n", "b:k")
	}
	// What only a script of ours would do is nobody else's business.
	for i, rights := range []string{"-eval -evalsha", "-get", "-evalsha"} {
		master.Do(append([]string{"ACL", "SETUSER", redistest.Username}, strings.Fields(rights)...)...)
		name, cmds := "without "+rights, commands("INCR a:n", "SET a:k v")
		want := []string{strconv.Itoa(i + 1), "+OK"}
		if rights == "-get" { // guard.go reads, too
			want = transact(t, client, name, commands("INCR a:n"))
			if len(want) != 1 || !strings.Contains(want[0], "'get' command") {
				t.Errorf("%s: %q, want Redis' own refusal of GET", rights, want)
			}
			master.Do("ACL", "SETUSER", redistest.Username, "+get")
			master.Do("INCR", "a:n")
			continue
		}
		for range 2 {
			if got := transact(t, client, name, cmds); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		master.Do("ACL", "SETUSER", redistest.Username, "+eval", "+evalsha", "+get")
	}
	// A counter that may not be read again as text.
	master.Do("ACL", "SETUSER", redistest.Username, "-hget")
	if got := transact(t, client, "unread", commands("HINCRBY a:h big 1", "SET a:k v")); got[0] != "9007199254740993" {
		t.Errorf("a counter that may not be read: %q", got)
	}
}

// What a script found to be none for it leaves the way on which everybody else
// goes, whoever asks.
func TestATransactionThatIsNoneForAScriptHoldsNobodyUp(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("EVAL return(1) 0"), IdempotencyKey: "warm up both"})
	cluster.Nodes[0].Do("ACL", "SETUSER", redistest.Username, "-incr")
	aside := commit.New(client.cfg, client.monitor).Aside // does nothing yet
	client.writer.Aside = aside
	request := func(idempotencyKey string) *Request {
		return &Request{Commands: commands("SET k v", "INCR n"), Atomic: true, IdempotencyKey: idempotencyKey}
	}
	if err := client.Do(t.Context(), &Request{Commands: commands("SET k v")}); err != nil { // what a start needs is known
		t.Fatal(err)
	}
	outcomes := make(chan error, 2)
	go func() { outcomes <- client.Do(t.Context(), request("done")) }()
	client.Start(request("started"), func(err error) { outcomes <- err })
	redistest.Eventually(t, 2*time.Second, "both are aside", func() bool { return aside.Waiting() == 2 })
	do(t, client, &Request{Commands: commands("SET another goes-on")})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { aside.Run(ctx) })
	for range 2 {
		if err := <-outcomes; KindOf(err) != Refused || !strings.HasPrefix(Words(err), "NOPERM") {
			t.Errorf("%v, want Redis' own refusal", err)
		}
	}
	cancel()
	running.Wait()
	do(t, client, &Request{Commands: commands("SET the same-goes-on")})
}

// The time of such a transaction is that of one request.
func TestATransactionThatIsNoneForAScriptEndsInTime(t *testing.T) {
	client := open(t, redistest.Start(t, 1, 0), nil)
	do(t, client, &Request{Commands: commands("EVAL return(1) 0"), IdempotencyKey: "warm up both"})
	client.writer.Aside = commit.New(client.cfg, client.monitor).Aside // does nothing
	for _, before := range []bool{false, true} {
		o, err := client.maker.Make(t.Context(), &Request{Commands: commands("SET k v"), Atomic: true, IdempotencyKey: "once"})
		if err != nil {
			t.Fatal(err)
		}
		o.Until, o.Sent = time.Now().Add(50*time.Millisecond), before
		o.State.Store(operation.Finished)
		_, err = client.writer.ByExec(t.Context(), o)
		if want := map[bool]Kind{false: NotExecuted, true: Unknown}[before]; KindOf(err) != want {
			t.Errorf("sent before: %v: %v", before, err)
		}
		if late := time.Since(o.Until); late < 0 || late > client.cfg.Hold/2 {
			t.Errorf("given up %v after its time", late)
		}
	}
}

// What Redis refuses of this moment leaves nothing behind, no record either.
func TestATransactionThatRedisRefusesNowHappensLater(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	do(t, client, &Request{Commands: commands("SET warm up")})
	cmds := commands("INCR n", "SET k v")

	master.Do("CONFIG", "SET", "maxmemory", "1")
	want := transact(t, client, "", cmds)
	if got := transact(t, client, "once", cmds); !slices.Equal(got, want) || len(got) != 1 || !strings.Contains(got[0], "OOM") {
		t.Errorf("out of memory: with a key %q, without %q", got, want)
	}
	master.Do("CONFIG", "SET", "maxmemory", "0")

	for name, refuse := range map[string][2][]string{
		"NOREPLICAS": {{"CONFIG", "SET", "min-replicas-to-write", "2"}, {"CONFIG", "SET", "min-replicas-to-write", "1"}},
		"READONLY":   {{"REPLICAOF", "127.0.0.1", "1"}, {"REPLICAOF", "NO", "ONE"}},
	} {
		master.Do(refuse[0]...)
		err := client.Do(t.Context(), &Request{Commands: cmds, Atomic: true, IdempotencyKey: "once"})
		if KindOf(err) != NotExecuted {
			t.Errorf("%s: %v, want not executed", name, err)
		}
		master.Do(refuse[1]...)
		if got := master.Do("EXISTS", "n"); got != "0" {
			t.Errorf("%s: it happened", name)
		}
	}
	redistest.Eventually(t, 10*time.Second, "the replica is back", func() bool {
		return client.Set(t.Context(), "warm", []byte("again"), "") == nil
	})
	for range 2 {
		if got := transact(t, client, "once", cmds); !slices.Equal(got, []string{"1", "+OK"}) {
			t.Errorf("later: %q", got)
		}
	}
}

// What was carried out and is repeated while Redis refuses every write gets its
// answer, and not that it was not executed.
func TestARepetitionIsAnsweredWhileRedisRefusesWrites(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	do(t, client, &Request{Commands: commands("SET warm up")})
	own := NewScript("return redis.call('INCR', KEYS[1])")
	attempts := map[string]struct {
		r    Request
		want []string
	}{
		"a transaction": {Request{Commands: commands("INCR a", "SET k v"), Atomic: true}, []string{"1", "OK"}},
		"a command":     {Request{Commands: commands("INCR b")}, []string{"1"}},
		"a pipeline":    {Request{Commands: commands("INCR c", "SET k v")}, []string{"1", "OK"}},
		"a script":      {Request{Script: own, Keys: []string{"d"}}, []string{"1"}},
	}
	for name, a := range attempts {
		a.r.IdempotencyKey = name
		if got := do(t, client, &a.r); !slices.Equal(got, a.want) {
			t.Fatalf("%s: %q", name, got)
		}
	}
	for why, refuse := range map[string][3]string{"NOREPLICAS": {"min-replicas-to-write", "2", "1"}, "OOM": {"maxmemory", "1", "0"}} {
		if answer := master.Do("CONFIG", "SET", refuse[0], refuse[1]); answer != "OK" {
			t.Fatal(answer)
		}
		for name, a := range attempts {
			a.r.IdempotencyKey, a.r.Results = name, nil
			if err := client.Do(t.Context(), &a.r); err != nil {
				t.Errorf("%s: the repetition of %s: %v", why, name, err)
				continue
			}
			for i, result := range a.r.Results {
				if got := word(&result.Reply); result.Err != nil || got != a.want[i] {
					t.Errorf("%s: the repetition of %s: %q (%v), want %q", why, name, got, result.Err, a.want[i])
				}
			}
			// What is new is refused all the same.
			a.r.IdempotencyKey, a.r.Results = "new "+name+why, nil
			err := client.Do(t.Context(), &a.r)
			if err == nil {
				err = a.r.Results[0].Err
			}
			if want := map[string]Kind{"NOREPLICAS": NotExecuted, "OOM": Refused}[why]; KindOf(err) != want {
				t.Errorf("%s: %s that is new: %v", why, name, err)
			}
		}
		if answer := master.Do("CONFIG", "SET", refuse[0], refuse[2]); answer != "OK" {
			t.Fatal(answer)
		}
	}
	if got := master.Do("EVAL", "return table.concat(redis.call('MGET', 'a', 'b', 'c', 'd'))", "0"); got != "1111" {
		t.Errorf("counted to %s", got)
	}
}

// EXEC's records and the script's have one name, so that a request is never
// carried out twice because it is taken another way the second time: by an older
// program, or a newer one, or one that knows more of the commands.
func TestTheWayOfATransactionMayChangeBetweenRepetitions(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("SET warm up")})
	attempt := func(idempotencyKey string, guarded bool) string {
		r := &Request{Commands: commands("INCR n", "MGET none n"), Atomic: true, IdempotencyKey: idempotencyKey}
		o, err := client.maker.Make(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		o.Guarded = guarded
		if _, err := client.writer.Do(t.Context(), o); err != nil {
			return err.Error()
		}
		client.tell(r, o)
		return spell(&r.Results[0].Reply) + " " + spell(&r.Results[1].Reply)
	}
	if first, again := attempt("exec first", true), attempt("exec first", false); first != `1 [nil "1"]` || again != first {
		t.Errorf("EXEC: %s, and then a script: %s", first, again)
	}
	if first, again := attempt("script first", false), attempt("script first", true); first != `2 [nil "2"]` || again != (&Error{Kind: Unknown, Cause: once.ErrDone}).Error() {
		t.Errorf("a script: %s, and then EXEC: %s; want unknown", first, again)
	}
	if got := cluster.Nodes[0].Do("GET", "n"); got != "2" {
		t.Errorf("two requests counted to %s", got)
	}
}

// A master that dies when it has carried a transaction out, and before anybody
// has its answer, leaves the answer behind with what was done.
func TestAnAnswerOutlivesTheMasterThatGaveIt(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	master, replica := cluster.Nodes[0], cluster.Nodes[1]
	addr := cutAfter(t, master.Addr, "the-mark", func() {
		redistest.Eventually(t, 5*time.Second, "the replica has it", func() bool { return replica.Do("EXISTS", "n") == "1" })
		master.Kill()
	})
	client := open(t, cluster, func(c *Config) { c.Address, c.Hold = addr, time.Second })
	do(t, client, &Request{Commands: commands("SET warm up")})
	r := &Request{Commands: commands("INCR n", "SET k the-mark", "INCR k"), Atomic: true, IdempotencyKey: "once"}
	if err := client.Do(t.Context(), r); KindOf(err) != Unknown {
		t.Fatalf("the answer was kept from it, and it was told %v", err)
	}
	replica.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	replica.Do("REPLICAOF", "NO", "ONE")
	promoted := open(t, cluster, func(c *Config) { c.Address, c.MinAcks = replica.Addr, 0 })
	for range 2 {
		got := do(t, promoted, &Request{Commands: r.Commands, Atomic: true, IdempotencyKey: "once"})
		if want := []string{"1", "OK", "!ERR value is not an integer or out of range"}; !slices.Equal(got, want) {
			t.Errorf("the repetition: %q, want %q", got, want)
		}
	}
	if got := replica.Do("GET", "n"); got != "1" {
		t.Errorf("counted %s times", got)
	}
}

func TestATransactionWhoseAnswerIsCutOffIsAnsweredOnTheNextConnection(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	addr := cutAfter(t, cluster.Nodes[0].Addr, "the-mark", func() {})
	client := open(t, cluster, func(c *Config) { c.Address = addr })
	do(t, client, &Request{Commands: commands("SET warm up")})
	got := transact(t, client, "once", commands("INCR n", "ECHO the-mark", "MGET none n"))
	if want := []string{"1", `"the-mark"`, `[nil "1"]`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := cluster.Nodes[0].Do("GET", "n"); got != "1" {
		t.Errorf("counted %s times", got)
	}
}

// cutAfter passes connections on to a server. The first on which a mark is sent
// ends when the server has answered that; the client does not get the answer.
func cutAfter(t *testing.T, target, mark string, then func()) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var once sync.Once
	pass := func(in net.Conn) {
		defer in.Close()
		out, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer out.Close()
		var mu sync.Mutex
		marked := false
		all.Go(func() {
			defer in.Close()
			buffer := make([]byte, 64<<10)
			for {
				n, err := out.Read(buffer)
				if err != nil {
					return
				}
				mu.Lock()
				cut := marked
				mu.Unlock()
				if cut {
					then()
					return
				}
				if _, err := in.Write(buffer[:n]); err != nil {
					return
				}
			}
		})
		buffer := make([]byte, 64<<10)
		for {
			n, err := in.Read(buffer)
			if err != nil && !errors.Is(err, io.EOF) || n == 0 {
				return
			}
			if bytes.Contains(buffer[:n], []byte(mark)) {
				once.Do(func() {
					mu.Lock()
					marked = true
					mu.Unlock()
				})
			}
			if _, err := out.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { pass(in) })
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return ln.Addr().String()
}
