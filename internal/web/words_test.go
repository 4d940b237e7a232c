package web

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
)

// rawRedis is a connection to Redis itself, from which replies are read as bytes (RESP2).
type rawRedis struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dialRedis(t *testing.T, addr string, login ...string) *rawRedis {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &rawRedis{t, conn, bufio.NewReader(conn)}
	if len(login) > 0 {
		c.ask(append([]string{"AUTH"}, login...))
	}
	return c
}

// ask sends commands at once and returns the reply to each.
func (c *rawRedis) ask(commands ...[]string) (answers []string) {
	c.t.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(time.Minute))
	var out strings.Builder
	for _, cmd := range commands {
		fmt.Fprintf(&out, "*%d\r\n", len(cmd))
		for _, word := range cmd {
			fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(word), word)
		}
	}
	if _, err := io.WriteString(c.conn, out.String()); err != nil {
		c.t.Fatal(err)
	}
	for range commands {
		answers = append(answers, c.reply())
	}
	return answers
}

// reply reads one reply.
func (c *rawRedis) reply() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '$':
		if n < 0 {
			return line
		}
		text := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, text); err != nil {
			c.t.Fatal(err)
		}
		return line + string(text)
	case '*':
		for range n {
			line += c.reply()
		}
	}
	return line
}

// wordsData is what every command of the comparison finds.
var wordsData = [][]string{
	{"FLUSHALL"},
	{"SET", "str", "value"}, {"SET", "num", "41"}, {"RPUSH", "list", "a"}, {"HSET", "hash", "f", "v"}, {"SADD", "set", "m"},
	{"ZADD", "zset", "1", "m"}, {"XADD", "stream", "1-1", "f", "v"}, {"XGROUP", "CREATE", "stream", "g", "0"},
}

// wordsCases returns many wrong forms of every command that Redis knows: too few and too many
// arguments, keys of every type, bad numbers, unknown options and subcommands.
func wordsCases(t *testing.T, client *redis.Client, names []string) (cases [][]string) {
	t.Helper()
	for _, name := range names {
		words := strings.Split(name, "|")
		spec, err := client.Spec(t.Context(), words)
		if spec == nil {
			t.Fatalf("%s: %v", name, err)
		}
		least := max(spec.Arity, -spec.Arity)
		add := func(args ...string) { cases = append(cases, slices.Concat(words, args)) }
		add()
		add("nosuch")
		for n := least - len(words) - 1; n <= least-len(words)+2; n++ {
			for _, first := range []string{"none", "str", "list", "hash", "zset", "stream", "1"} {
				for _, others := range []string{"x", "1"} {
					if n > 0 {
						add(slices.Concat([]string{first}, slices.Repeat([]string{others}, n-1))...)
					}
				}
			}
		}
	}
	return append(cases, []string{"NOSUCH"}, []string{"nosuch", "a", "b"}, []string{"Set", "k"}, []string{"iNCr", "str"},
		[]string{"PUBLISH", "__sentinel__:hello", "x"}, []string{"SET", "k", "v", "EX", "script"}, []string{"GETEX", "script", "x"},
		[]string{"EVAL", "return redis.call('SET', 'k')", "0"}, []string{"EVAL", "x", "0"}, []string{"EVALSHA", "x", "0"},
		[]string{"EVAL", "return redis.error_reply('MINE of a script')", "0"}, []string{"XADD", "stream", "1-1", "f", "v"},
		[]string{"SETRANGE", "str", "1073741824", "x"}, []string{"BITOP", "NOT", "d", "str", "num"}, []string{"INCRBYFLOAT", "num", "inf"})
}

var quotedWord = regexp.MustCompile(`'[^']*'`)

// unequal are the commands that reply differently each time. SCAN is among them because the node
// refuses a cursor that no Redis gave.
var unequal = []string{"time", "randomkey", "info", "lastsave", "memory|stats", "memory|malloc-stats", "memory|doctor", "scan"}

// answers compares the ways by which a command reaches Redis.
type answers struct {
	t        *testing.T
	operator *rawRedis
	straight *rawRedis
	loop     *caller // to a node with an event loop
	server   *caller // to one without
	number   int     // of the last request
	changed  bool    // the data is no longer what a command is to find
	data     [][]string
}

// prepare makes the data that a command is to find.
func (a *answers) prepare() {
	if a.changed {
		a.operator.ask(a.data...)
	}
	a.changed = false
}

// ofRedis returns what Redis replies to a client of its own. A command that may wait for data is
// sent in a transaction, where it does not wait.
func (a *answers) ofRedis(cmd []string, waits bool) string {
	a.t.Helper()
	a.prepare()
	var answer string
	if !waits {
		answer = a.straight.ask(cmd)[0]
	} else if all := a.straight.ask([]string{"MULTI"}, cmd, []string{"EXEC"}); all[1] != "+QUEUED\r\n" {
		answer = all[1]
	} else {
		answer = strings.TrimPrefix(all[2], "*1\r\n")
	}
	a.changed = answer[0] != '-'
	return answer
}

// post returns the body of a node's response. N in a header stands for a number that no other
// request has.
func (a *answers) post(node *caller, path string, body any, header string) string {
	a.t.Helper()
	a.prepare()
	text, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	a.number++
	header = strings.ReplaceAll(header, "N", strconv.Itoa(a.number))
	answer := node.ask(a.t, fmt.Sprintf("POST %s HTTP/1.1\r\n%s%sContent-Length: %d\r\n\r\n%s", path, plainHead, header, len(text), text))
	_, answer, _ = strings.Cut(answer, "\r\n\r\n")
	a.changed = a.changed || !strings.HasPrefix(answer, "-") && !strings.HasPrefix(answer, `{"error"`)
	return answer
}

// inTransaction returns the reply to a command in a transaction of its own, as JSON. When Redis
// refuses to queue the command, it is that refusal.
func (a *answers) inTransaction(cmd []string, header string) string {
	a.t.Helper()
	answer := a.post(a.loop, "/multi-exec", [][]string{cmd}, header)
	var said struct{ Error string }
	if json.Unmarshal([]byte(strings.TrimSuffix(strings.TrimPrefix(answer, "["), "]")), &said) != nil || said.Error == "" {
		return answer
	}
	return "-" + said.Error + "\r\n"
}

// How a client asks for Redis' own bytes, and for a record of its write.
const (
	inRESP2      = "Upstash-Response-Format: resp2\r\n"
	byClient     = "Idempotency-Key: N\r\n"
	fromBalancer = "Holdfast-Attempt: N\r\n"
)

// A client gets the reply that Redis has for what it sent, in the same bytes, whichever way the
// node takes: with or without a record (as a client and as a balancer ask for one), alone, in a
// pipeline or in a transaction, from the event loop or from the HTTP server.
func TestAnswersAreRedisOwnWhicheverWay(t *testing.T) {
	client, master := single(t)
	cfg := Config{Allow: []string{"@blocking"}}
	node := New(cfg, client)
	here, _ := listen(t, node)
	there, _ := listen(t, New(cfg, slowStore{client}))
	a := &answers{
		t: t, operator: dialRedis(t, master.Addr), straight: dialRedis(t, master.Addr, redistest.Username, redistest.Password),
		loop: dial(t, here), server: dial(t, there), data: wordsData, changed: true,
	}
	deadline := time.Now().Add(2 * time.Minute)
	_ = a.loop.SetDeadline(deadline)
	_ = a.server.SetDeadline(deadline)

	seen := map[string]bool{}
	compared := 0
	var refused [][]string // the commands that Redis refuses, and its words
	var words []string
	for _, cmd := range wordsCases(t, client, strings.Fields(master.Do("COMMAND", "LIST"))) {
		name, waits := strings.ToLower(cmd[0]), false
		if spec, _ := client.Spec(t.Context(), cmd); spec != nil {
			name, waits = spec.Name, spec.BlockingFor(cmd)
			if node.auth.Permit(t.Context(), nil, []redis.Command{cmd}) != nil {
				continue // the node has words of its own for what is never allowed
			}
		}
		want := a.ofRedis(cmd, waits)
		kind := name + quotedWord.ReplaceAllString(want, "") // one of each kind is enough
		if seen[kind] || slices.Contains(unequal, name) && want[0] != '-' {
			continue
		}
		seen[kind] = true
		compared++
		// RESP3, in which the node asks, has one null: the node writes it as a
		// null string.
		want = strings.ReplaceAll(want, "*-1\r\n", "$-1\r\n")
		got := map[string]string{
			"on a loop":                 a.post(a.loop, "/", cmd, inRESP2),
			"through a balancer":        a.post(a.loop, "/", cmd, inRESP2+fromBalancer),
			"by the server, with a key": a.post(a.server, "/", cmd, inRESP2+byClient),
		}
		if want[0] == '-' {
			refused, words = append(refused, cmd), append(words, want)
			got["in a transaction"] = a.inTransaction(cmd, "")
			got["in a transaction, with a key"] = a.inTransaction(cmd, byClient)
		}
		for way, answer := range got {
			if answer != want {
				t.Errorf("%q %s: %q, want %q", cmd, way, answer, want)
			}
		}
	}
	if compared < 900 || len(refused) < 600 {
		t.Errorf("only %d kinds of answers were compared, %d of them errors", compared, len(refused))
	}
	for way, header := range map[string]string{"alone": "", "with a key": byClient, "through a balancer": fromBalancer} {
		got := strings.SplitAfter(a.post(a.server, "/pipeline", refused, inRESP2+header), "\r\n")
		for i, cmd := range refused {
			if i >= len(got) || got[i] != words[i] {
				t.Fatalf("%q in a pipeline, %s: %q, want %q", cmd, way, got[min(i, len(got)-1)], words[i])
			}
		}
	}
}

// When its memory is full, Redis refuses commands that take more of it and carries out the others,
// even when a record of them is kept.
func TestWhatTakesNoMemoryIsCarriedOutWhenItIsFull(t *testing.T) {
	client, master := single(t)
	here, _ := listen(t, New(Config{}, client))
	a := &answers{t: t, operator: dialRedis(t, master.Addr), straight: dialRedis(t, master.Addr, redistest.Username, redistest.Password), loop: dial(t, here)}
	a.data = slices.Concat([][]string{{"CONFIG", "SET", "maxmemory", "0"}}, wordsData, [][]string{{"CONFIG", "SET", "maxmemory", "1"}})
	refused := 0
	for line := range strings.Lines(`DEL str
		UNLINK str none
		GETDEL str
		EXPIRE str 60
		PERSIST str
		RENAME str other
		LPOP list
		LTRIM list 1 0
		LREM list 0 a
		HDEL hash f
		SREM set m
		SPOP set
		ZREM zset m
		ZPOPMIN zset
		XDEL stream 1-1
		XGROUP DESTROY stream g
		PUBLISH channel x
		DEL
		EXPIRE str x
		GET str
		SET str x
		SET str x EX nonsense
		INCR num
		APPEND str x
		LPUSH list x
		HSET hash f x
		SADD set x
		ZADD zset 1 x
		XADD stream * f v
		COPY str other`) {
		cmd := strings.Fields(line)
		a.changed = true
		want := a.ofRedis(cmd, false)
		if strings.HasPrefix(want, "-OOM ") {
			refused++
		}
		for _, header := range []string{"", byClient, fromBalancer} {
			a.changed = true
			if got := a.post(a.loop, "/", cmd, inRESP2+header); got != want {
				t.Errorf("%q, %q: %q, want %q", cmd, header, got, want)
			}
			a.changed = true
			if got := a.post(a.loop, "/pipeline", [][]string{{"SET", "other", "x"}, cmd}, inRESP2+header); got != "-OOM command not allowed when used memory > 'maxmemory'.\r\n"+want {
				t.Errorf("%q in a pipeline, %q: %q, want %q", cmd, header, got, want)
			}
		}
	}
	if refused != 10 {
		t.Errorf("Redis refused %d", refused)
	}
	a.changed = true
	a.prepare()
	for _, status := range []string{"204", "404"} {
		if answer := a.loop.ask(t, "DELETE /v1/keys/str HTTP/1.1\r\n"+plainHead+"Holdfast-Attempt: "+status+"\r\n\r\n"); !strings.Contains(answer, " "+status+" ") {
			t.Errorf("DELETE: %q, want %s", answer, status)
		}
	}
}
