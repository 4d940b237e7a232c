package web

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"holdfast/internal/commands"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/token"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/keyspace"
)

// routesOf returns the ways to send a command; of each the method, the path and the body.
func routesOf(words ...string) [][3]string {
	quoted := make([]string, len(words))
	escaped := make([]string, len(words))
	for i, word := range words {
		text, _ := json.Marshal(word) // a string never fails
		quoted[i], escaped[i] = string(text), url.PathEscape(word)
	}
	body := "[" + strings.Join(quoted, ",") + "]"
	return [][3]string{
		{"POST", "/", body}, {"GET", "/" + strings.Join(escaped, "/"), ""}, {"POST", "/" + strings.Join(escaped, "/"), ""},
		{"POST", "/pipeline", "[" + body + "]"}, {"POST", "/multi-exec", `[["PING"],` + body + "]"},
	}
}

func TestNothingLeadsOutOfTheDatabase(t *testing.T) {
	client, master := single(t)
	master.Do("ACL", "SETUSER", redistest.Username, "+@all") // so that the node refuses, not Redis
	for _, key := range []string{"shop:a", "db", "DB"} {
		master.Do("SET", key, "v")
	}
	master.Do("RPUSH", "shop:l", "2", "1")
	set := tokens(t, token.Entry{Name: "all"}, token.Entry{Name: "shop", Prefixes: []string{"shop:", "db"}})
	free, _, _ := serveWith(t, Config{Allow: []string{"@all"}}, client)
	base, _, _ := serveWith(t, Config{Allow: []string{"@all"}, Tokens: set}, client)
	for _, c := range []struct {
		command string
		refused bool
	}{
		{"COPY shop:a shop:b DB 15", true}, {"copy shop:a shop:b db 15", true}, {"CoPy shop:a shop:b dB 1", true},
		{"COPY shop:a shop:b REPLACE DB 15", true}, {"COPY shop:a shop:b DB 15 REPLACE", true}, {"COPY shop:a shop:b DB 0 DB 15", true},
		{"COPY shop:a shop:b DB 15 DB 0", true}, {"COPY db shop:b DB 15", true}, {"COPY shop:a shop:b DB +15", true}, {"COPY shop:a shop:b DB", true},
		{"MOVE shop:a 15", true}, {"move shop:a 0", true}, {"SWAPDB 0 15", true}, {"SELECT 15", true}, {"SELECT 0", true},
		{"MIGRATE 127.0.0.1 1 shop:a 15 1000", true}, {"MIGRATE 127.0.0.1 1 \"\" 15 1000 COPY KEYS shop:a", true},
		{"COPY db shop:b", false}, {"COPY db db2 REPLACE", false}, {"COPY shop:a db REPLACE", false}, {"SORT shop:l LIMIT 0 1", false},
	} {
		for who, base := range map[string]string{"": free, "all": base, "shop": base} {
			for _, route := range routesOf(strings.Fields(c.command)...) {
				for _, header := range [][]string{nil, {"Idempotency-Key", c.command + route[0] + route[1]}} {
					if who != "" {
						header = append(header, "Authorization", "Bearer token of "+who)
					}
					status, _, answer := call(t, route[0], base+route[1], route[2], header...)
					refused := strings.Contains(answer, "is not allowed here: it") && (status == 400) == (route[1] != "/pipeline")
					if refused != c.refused || !c.refused && status != 200 {
						t.Errorf("%q: %s by %s %s: %d %s", who, c.command, route[0], route[1], status, answer)
					}
				}
			}
		}
	}
	if n := foreignRecords(master); n != "0" {
		t.Errorf("%s keys of clients are in the database of the records", n)
	}
}

// foreignRecords returns how many keys in the database of the records are not records.
func foreignRecords(master *redistest.Server) string {
	return master.Do("EVAL", `redis.call('SELECT', 15)
		local n = 0
		for _, key in ipairs(redis.call('KEYS', '*')) do
			if string.sub(key, 1, #ARGV[1]) ~= ARGV[1] then n = n + 1 end
		end
		return n`, "0", keyspace.ReservedKeys)
}

func TestKeysOfHoldfastsOwnAreNobodysAndValuesAreAnybodys(t *testing.T) {
	client, master := single(t)
	master.Do("ACL", "SETUSER", redistest.Username, "+keys", "+restore")
	base, _, _ := serveWith(t, Config{Allow: []string{"keys", "restore", "wait"}}, client)
	const own = keyspace.ReservedKeys + "x"
	for _, c := range []struct {
		words  []string
		answer string // part of the response; empty: it is refused
	}{
		{[]string{"SET", "a", own}, "OK"}, {[]string{"GET", "a"}, "holdfast"}, {[]string{"MSET", "b", own, "c", own}, "OK"},
		{[]string{"APPEND", "b", own}, "2"}, {[]string{"HSET", "h", own, own}, "1"}, {[]string{"HGET", "h", own}, "holdfast"}, {[]string{"HDEL", "h", own}, "1"},
		{[]string{"LPUSH", "l", own, "x"}, "2"}, {[]string{"LREM", "l", "0", own}, "1"}, {[]string{"SADD", "s", own}, "1"}, {[]string{"SISMEMBER", "s", own}, "1"},
		{[]string{"ZADD", "z", "1", own}, "1"}, {[]string{"ZSCORE", "z", own}, "1"}, {[]string{"XADD", "x", "1-1", own, own}, "1-1"},
		{[]string{"ECHO", own}, "holdfast"}, {[]string{"PUBLISH", own, own}, "0"}, {[]string{"SETRANGE", "r", "0", own}, "11"},
		{[]string{"EVAL", "return ARGV[1]", "1", "k", own}, "holdfast"}, {[]string{"BITFIELD", "bits", "SET", "u8", "0", "1"}, "[0]"},
		{[]string{"SET", own, "v"}, ""}, {[]string{"GET", own}, ""}, {[]string{"MSET", "b", "1", own, "2"}, ""}, {[]string{"MGET", "b", own}, ""},
		{[]string{"DEL", "b", own}, ""}, {[]string{"RENAME", "b", own}, ""}, {[]string{"RENAME", own, "b"}, ""}, {[]string{"COPY", "b", own}, ""}, {[]string{"COPY", own, "b"}, ""},
		{[]string{"BITOP", "NOT", "d", own}, ""}, {[]string{"ZUNIONSTORE", own, "1", "z"}, ""}, {[]string{"ZUNIONSTORE", "d", "2", "z", own}, ""}, {[]string{"SINTERCARD", "2", "s", own}, ""},
		{[]string{"XREAD", "COUNT", "1", "STREAMS", "x", own, "0", "0"}, ""}, {[]string{"OBJECT", "ENCODING", own}, ""}, {[]string{"XINFO", "STREAM", own}, ""},
		{[]string{"SORT", "l", "STORE", own}, ""}, {[]string{"SORT", "l", "BY", own + "*"}, ""}, {[]string{"SORT_RO", "l", "BY", "nosort", "GET", own + "*"}, ""}, {[]string{"SORT", own}, ""},
		{[]string{"GEORADIUS", "g", "0", "0", "1", "m", "STORE", own}, ""}, {[]string{"RESTORE", own, "0", "x"}, ""}, {[]string{"LMOVE", "l", own, "LEFT", "LEFT"}, ""},
		{[]string{"EVAL", "return 1", "1", own}, ""}, {[]string{"MEMORY", "USAGE", own}, ""}, {[]string{"DUMP", own}, ""}, {[]string{"WAIT", own, "0"}, ""},
	} {
		status, answer := run(t, base, "", c.words...)
		refused := status == 400
		if refused != (c.answer == "") || !refused && !strings.Contains(answer, c.answer) {
			t.Errorf("%q: %d %s", c.words, status, answer)
		}
	}

	// None of Holdfast's own keys is shown. Here each key with a type has one beside it.
	master.Do("FLUSHALL")
	for i := range 5 {
		call(t, "PUT", fmt.Sprintf("%s/v1/keys/k%d", base, i), "x", "Content-Type", "text/x-own")
	}
	if n := master.Do("DBSIZE"); n != "10" {
		t.Fatalf("%s keys", n)
	}
	for _, words := range [][]string{
		{"KEYS", "*"}, {"KEYS", "\x00*"}, {"KEYS", keyspace.ReservedKeys + "*"}, {"SCAN", "0", "COUNT", "100"}, {"SCAN", "0", "MATCH", "?holdfast*", "COUNT", "100"},
		{"SCAN", "0", "TYPE", "string", "COUNT", "1000"},
	} {
		for _, header := range [][]string{nil, {"Holdfast-Read", "replica"}, {"Idempotency-Key", "k"}} {
			for _, route := range routesOf(words...) {
				if status, _, answer := call(t, route[0], base+route[1], route[2], header...); status != 200 || strings.Contains(answer, "holdfast") {
					t.Errorf("%q by %s %s: %d %s", words, route[0], route[1], status, answer)
				}
			}
		}
	}
	if _, answer := run(t, base, "", "KEYS", "*"); strings.Count(answer, "k") != 5 {
		t.Errorf("the keys are %s", answer)
	}
	for range 40 {
		if status, answer := run(t, base, "", "RANDOMKEY"); status != 200 || !strings.HasPrefix(answer, `{"result":"k`) {
			t.Fatalf("RANDOMKEY: %d %s", status, answer)
		}
	}
}

func TestWhichScriptsRun(t *testing.T) {
	client, _ := single(t)
	set := tokens(t, token.Entry{Name: "all"}, token.Entry{Name: "reader", Mode: token.ReadOnly})
	one := Config{Tokens: set, ScriptUser: true}
	two := Config{Tokens: set, ScriptUser: true, ReadScriptUser: true}
	bare, sure := Config{Tokens: set}, Config{Tokens: set, ScriptsAnyway: true}
	reading, off := two, two
	reading.Scripts, off.Scripts = commands.ReadScripts, commands.NoScripts
	for _, c := range []struct {
		name         string
		cfg          Config
		who, command string
		want         string // part of the response
	}{
		{"on", two, "all", "EVAL return(7) 0", `{"result":7}`}, {"on", two, "reader", "EVAL_RO return(7) 0", `{"result":7}`},
		{"on, without tokens", Config{}, "", "EVAL return(7) 0", `{"result":7}`},
		{"one user", one, "all", "EVAL return(7) 0", `{"result":7}`}, {"one user", one, "reader", "EVAL_RO return(7) 0", "--script-users"},
		{"no user", bare, "all", "EVAL return(7) 0", "--script-users"}, {"no user", bare, "all", "SET a b", "OK"},
		{"on all the same", sure, "all", "EVAL return(7) 0", `{"result":7}`}, {"on all the same", sure, "reader", "EVAL_RO return(7) 0", "--script-users"},
		{"read", reading, "all", "EVAL_RO return(7) 0", `{"result":7}`}, {"read", reading, "all", "SCRIPT LOAD return(7)", "result"},
		{"read", reading, "all", "EVAL return(7) 0", "only scripts and functions that read"}, {"read", reading, "all", "evalsha x 0", "only scripts"}, {"read", reading, "all", "FCALL f 0", "only scripts"},
		{"off", off, "all", "EVAL return(7) 0", "scripts and functions are off here (`holdfast web --scripts`)"}, {"off", off, "all", "eval_ro return(7) 0", "off here"}, {"off", off, "all", "FCALL_RO f 0", "off here"},
		{"off", off, "all", "SCRIPT LOAD return(7)", "off here"}, {"off", off, "all", "SCRIPT EXISTS x", "off here"}, {"off", off, "all", "FUNCTION LIST", "off here"}, {"off", off, "all", "EVALSHA_RO x 0", "off here"},
		{"off", off, "all", "INCR n", "result"}, {"off, in a stack", Config{Scripts: commands.NoScripts, InStack: true}, "", "EVAL return(7) 0", "(`kv.scripts` in the stack file)"},
	} {
		base, _, stop := serveWith(t, c.cfg, client)
		if status, answer := run(t, base, c.who, strings.Fields(c.command)...); !strings.Contains(answer, c.want) {
			t.Errorf("%s: %q: %s: %d %s", c.name, c.who, c.command, status, answer)
		}
		stop()
	}
}

func TestAnIdempotencyKeyIsItsTokensOwn(t *testing.T) {
	client, _ := single(t)
	before := tokens(t, token.Entry{Name: "a"}, token.Entry{Name: "b"})
	base, _, _ := serveWith(t, Config{Tokens: before}, client)
	free, _, _ := serveWith(t, Config{}, client)
	bearer := func(name string) []string { return []string{"Authorization", "Bearer token of " + name} }
	for _, header := range []string{consistency.IdempotencyHeader, consistency.AttemptHeader} {
		for i, route := range append(routesOf("INCR", "n"), [3]string{"PUT", "/v1/keys/k", "v"}) {
			once := []string{header, fmt.Sprintf("key-%d", i), "If-None-Match", "*"}
			said := map[string]string{}
			for _, c := range []struct {
				base, who string
				header    []string
			}{{base, "a", bearer("a")}, {base, "b", bearer("b")}, {free, "", nil}, {base, "a", bearer("a")}, {base, "b", bearer("b")}, {free, "", nil}} {
				status, _, answer := call(t, route[0], c.base+route[1], route[2], append(c.header, once...)...)
				got := fmt.Sprint(status, answer)
				if first, again := said[c.who]; again && first != got {
					t.Errorf("%s %s: %q gets %s, then %s", route[0], route[1], c.who, first, got)
				}
				for who, theirs := range said {
					if who != c.who && theirs == got && status != 412 {
						t.Errorf("%s %s: %q gets %s, as %q did", route[0], route[1], c.who, got, who)
					}
				}
				said[c.who] = got
			}
			run(t, free, "", "DEL", "k")
		}
	}

	// A new token under the same name goes on with the idempotency keys of the old one.
	after, err := token.New([]token.Entry{{Name: "a", Hash: token.Hash("a rotated token")}})
	if err != nil {
		t.Fatal(err)
	}
	rotated, _, _ := serveWith(t, Config{Tokens: after}, client)
	_, _, first := call(t, "POST", base+"/incr/r", "", append(bearer("a"), consistency.IdempotencyHeader, "r")...)
	_, _, again := call(t, "POST", rotated+"/incr/r", "", "Authorization", "Bearer a rotated token", consistency.IdempotencyHeader, "r")
	if first != again {
		t.Errorf("before the rotation %s, after it %s", first, again)
	}
}
