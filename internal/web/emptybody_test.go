package web

import (
	"fmt"
	"strings"
	"testing"
)

// Loop and HTTP server agree: an empty body is a value where it was sent and the command lacks one.
func TestAnEmptyBodyIsAnEmptyValueWhereItIsSent(t *testing.T) {
	client, master := single(t)
	looped, taken := counted(t, Config{}, client)
	here, _ := listen(t, looped)
	there, _ := listen(t, New(Config{}, slowStore{client}))
	const sized, chunked, none = "Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "\r\n"
	const ok, arguments = `{"result":"OK"}`, "wrong number of arguments"
	for _, test := range []struct {
		method, path, body string
		says               string
		look, holds        string // a command that shows what was done, and its response
	}{
		{"PUT", "/set/k", sized, ok, "GET k", ""},
		{"POST", "/set/k", sized, ok, "GET k", ""},
		{"PUT", "/set/k", chunked, ok, "GET k", ""},
		{"POST", "/SET/k", chunked, ok, "GET k", ""},
		{"PUT", "/set/k?EX=60", sized, ok, "TTL k", "60"},
		{"POST", "/set/k?px=60000&xx", sized, `{"result":null}`, "EXISTS k", "0"},
		{"POST", "/set/k?other", sized, ok, "GET k", "other"},
		{"POST", "/set/k/v", sized, ok, "GET k", "v"},
		{"POST", "/set/k/v?EX=60", sized, ok, "GET k", "v"},
		{"PUT", "/setnx/k", sized, `{"result":1}`, "GET k", ""},
		{"PUT", "/setex/k/60", sized, ok, "GET k", ""},
		{"PUT", "/getset/k", sized, `{"result":null}`, "GET k", ""},
		{"PUT", "/append/k", sized, `{"result":0}`, "EXISTS k", "1"},
		{"PUT", "/lpush/k", sized, `{"result":1}`, "LRANGE k 0 -1", ""},
		{"POST", "/lpush/k/x", sized, `{"result":1}`, "LLEN k", "1"},
		{"PUT", "/sadd/k", chunked, `{"result":1}`, "SCARD k", "1"},
		{"PUT", "/hset/k/f", sized, `{"result":1}`, "HGET k f", ""},
		{"PUT", "/hset/k/f/v/g", sized, `{"result":2}`, "HGET k g", ""},
		{"PUT", "/mset/k/1/j", sized, ok, "GET j", ""},
		{"PUT", "/zadd/k/1/a/2", sized, `{"result":2}`, "ZCARD k", "2"},
		{"PUT", "/zadd/k/nx/CH/2", sized, `{"result":1}`, "ZCARD k", "1"},
		{"POST", "/zadd/k/nx/2/a", sized, `{"result":1}`, "ZSCORE k a", "2"},
		{"PUT", "/geoadd/k/1/2/a/3/4", sized, `{"result":2}`, "ZCARD k", "2"},
		{"POST", "/geoadd/k/xx/1/2/a", sized, `{"result":0}`, "EXISTS k", "0"},
		{"PUT", "/xadd/k/1-1/f/v/g", sized, `{"result":"1-1"}`, "XLEN k", "1"},
		{"PUT", "/xadd/k/maxlen/~/10/limit/5/1-1/f", chunked, `{"result":"1-1"}`, "XLEN k", "1"},
		{"PUT", "/xadd/k/NOMKSTREAM/minid/1/1-1/f/v/g", sized, `{"result":null}`, "EXISTS k", "0"},
		{"POST", "/xadd/k/MAXLEN/5/1-1/f/v", sized, `{"result":"1-1"}`, "XLEN k", "1"},
		{"POST", "/xadd/k/maxlen/~/5", sized, arguments, "EXISTS k", "0"},
		{"POST", "/mset?k=1&j=2", sized, ok, "GET j", "2"},
		{"POST", "/publish/c", sized, `{"result":0}`, "DBSIZE", "0"},
		{"POST", "/echo", sized, `{"result":""}`, "DBSIZE", "0"},
		{"POST", "/echo?hi", sized, `{"result":"hi"}`, "DBSIZE", "0"},
		{"POST", "/incr/k", sized, `{"result":1}`, "GET k", "1"},
		{"PUT", "/incr/k", chunked, `{"result":1}`, "GET k", "1"},
		{"POST", "/get/k", sized, `{"result":null}`, "DBSIZE", "0"},
		{"POST", "/ping", sized, `{"result":"PONG"}`, "DBSIZE", "0"},
		{"POST", "/incr", sized, arguments, "DBSIZE", "0"},
		{"POST", "/lpop", sized, arguments, "DBSIZE", "0"},
		{"POST", "/SET", sized, arguments, "DBSIZE", "0"},
		{"PUT", "/nosuch/k", sized, "unknown command", "DBSIZE", "0"},
		{"POST", "/", sized, "the body is empty", "DBSIZE", "0"},
		{"GET", "/set/k", none, arguments, "DBSIZE", "0"},
		{"GET", "/set/k", sized, arguments, "DBSIZE", "0"},
		{"PUT", "/set/k", none, arguments, "DBSIZE", "0"},
		{"POST", "/set/k", none, arguments, "DBSIZE", "0"},
		{"PUT", "/v1/keys/k", sized, "201", "GET k", ""},
		{"PUT", "/v1/keys/k", chunked, "201", "GET k", ""},
	} {
		for way, addr := range map[string]string{"on a loop": here, "by the server": there} {
			master.Do("FLUSHALL")
			name := fmt.Sprintf("%s %s %q %s", test.method, test.path, test.body, way)
			raw := test.method + " " + test.path + " HTTP/1.1\r\nHost: h\r\n" + test.body
			answer := dial(t, addr).ask(t, raw)
			if !strings.Contains(answer, test.says) {
				t.Errorf("%s: %q, want %q", name, answer, test.says)
			}
			if got := master.Do(strings.Fields(test.look)...); got != test.holds {
				t.Errorf("%s: then %s is %q, want %q", name, test.look, got, test.holds)
			}
		}
	}
	if n := taken.taken.Load(); n < 20 {
		t.Errorf("the loop answered %d requests alone", n)
	}
}
