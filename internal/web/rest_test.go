package web

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"holdfast/internal/redis"
)

// call sends a request and returns status, header and body.
func call(t *testing.T, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	fields := http.Header{}
	for i := 0; i < len(header); i += 2 {
		fields[header[i]] = []string{header[i+1]} // the name as it is written
	}
	return roundTrip(t, method, url, body, fields)
}

func TestCommandsByPathAndBody(t *testing.T) {
	client, _ := single(t)
	addr, _, _ := serve(t, client)
	for _, test := range []struct {
		method, path, body string
		status             int
		answer             string // the whole; "~x": x is in it
	}{
		{"GET", "/set/foo/bar", "", 200, `{"result":"OK"}`},
		{"GET", "/get/foo", "", 200, `{"result":"bar"}`},
		{"HEAD", "/get/foo", "", 200, ``},
		{"GET", "/GeT/foo", "", 200, `{"result":"bar"}`},
		{"GET", "/get/nobody", "", 200, `{"result":null}`},
		{"POST", "/incr/n", "", 200, `{"result":1}`},
		{"GET", "/mget/foo/nobody/n", "", 200, `{"result":["bar",null,"1"]}`},
		{"GET", "/set/a%2Fb+c%20d/%E4%BD%A0", "", 200, `{"result":"OK"}`},
		{"POST", "/", `["GET","a/b+c d"]`, 200, `{"result":"你"}`},
		{"GET", "/set/a/../b", "", 400, `{"error":"ERR syntax error"}`},
		{"GET", "/set/empty/", "", 200, `{"result":"OK"}`},
		{"GET", "/get/empty", "", 200, `{"result":""}`},
		{"POST", "/set/body", "a \"value\"\n\x01\\", 200, `{"result":"OK"}`},
		{"GET", "/get/body", "", 200, `{"result":"a \"value\"\n\u0001\\"}`},
		{"PUT", "/set/put?EX=100", "v", 200, `{"result":"OK"}`},
		{"GET", "/ttl/put", "", 200, `{"result":100}`},
		{"POST", "/set/put?xx&get&_token=secret&PX=5000000", "w", 200, `{"result":"v"}`},
		{"GET", "/exists/put?_token=x", "", 200, `{"result":1}`},
		{"GET", "/echo/?a+b%2B", "", 400, `~wrong number of arguments`},
		{"GET", "/echo?a+b%2B", "", 200, `{"result":"a b+"}`},
		{"GET", "/echo/a+b", "", 200, `{"result":"a+b"}`},
		{"GET", "/mset?a=1&b=2&&c=", "", 200, `{"result":"OK"}`},
		{"GET", "/mget/a/b/c", "", 200, `{"result":["1","2",""]}`},
		{"GET", "/lpush/l/1/2", "", 200, `{"result":2}`},
		{"GET", "/incr/l", "", 400, `{"error":"WRONGTYPE Operation against a key holding the wrong kind of value"}`},
		{"GET", "/get", "", 400, `OOps, the key is null`},
		{"GET", "/GET", "", 400, `{"error":"ERR wrong number of arguments for 'get' command"}`},
		{"POST", "/set", `x`, 400, `{"error":"ERR wrong number of arguments for 'set' command"}`},
		{"GET", "/nonsense/x", "", 400, `~{"error":"ERR unknown command 'nonsense', with args beginning with: 'x'`},
		{"GET", "/", "", 400, `~"ERR there is no command`},
		{"GET", "//x", "", 400, `~"ERR there is no command`},
		{"DELETE", "/get/foo", "", 405, `~GET, HEAD, POST, PUT`},
		{"PATCH", "/", "[]", 405, `~POST, PUT`},
		{"GET", "/pipeline", "", 405, `~POST`},
		{"GET", "/metrics", "", 404, `{"error":"ERR there is nothing here"}`},
		{"POST", "/pipeline/x", "[]", 404, `{"error":"ERR there is nothing here"}`},

		{"POST", "/", `["SET","foo","bar","EX",100]`, 200, `{"result":"OK"}`},
		{"PUT", "/", ` [ "get" , "foo" ] ` + "\n", 200, `{"result":"bar"}`},
		{"POST", "/", `["RPUSH","numbers",1.0,1e3,-0,12345678901234567890,0.1E-2]`, 200, `{"result":5}`},
		{"GET", "/lrange/numbers/0/-1", "", 200, `{"result":["1.0","1e3","-0","12345678901234567890","0.1E-2"]}`},
		{"POST", "/", `["ECHO",true]`, 200, `{"result":"true"}`},
		{"POST", "/", `["ECHO",false]`, 200, `{"result":"false"}`},
		{"POST", "/", `["ECHO","\u0000\r\n\"\\\/\u00e4\ud83d\ude00 \ufffd"]`, 200, `{"result":"\u0000\r\n\"\\/ä😀 ` + "\uFFFD" + `"}`},
		{"POST", "/", `["SET","a\ud83d","v"]`, 400, `~"ERR the body has half a surrogate pair, \\ud83d, at byte 9: `},
		{"POST", "/", `["SET","k","\ud83d \ude00"]`, 400, `~half a surrogate pair, \\ud83d, at byte 12`},
		{"POST", "/", `["SET","\uDE00\uD83D","v"]`, 400, `~half a surrogate pair, \\uDE00, at byte 8`},
		{"POST", "/", `["SET","\ud83d\ud83d\ude00","v"]`, 400, `~half a surrogate pair, \\ud83d, at byte 8`},
		{"POST", "/", `["\udfff"]`, 400, `~half a surrogate pair, \\udfff, at byte 2`},
		{"POST", "/", `["SET","\ud83`, 400, `~"ERR the body is not valid JSON`},
		{"POST", "/pipeline", `[["PING"],["SET","k","\ud83d"]]`, 400, `~half a surrogate pair, \\ud83d, at byte 22`},
		{"POST", "/multi-exec", `[["SET","\udc00","v"]]`, 400, `~half a surrogate pair, \\udc00, at byte 9`},
		{"POST", "/pipeline", "[[\"GET\",\"\xed\xa0\xbd\"]]", 400, `~not valid UTF-8`},
		{"GET", "/exists/a%EF%BF%BD/%EF%BF%BD%EF%BF%BD", "", 200, `{"result":0}`},
		{"POST", "/", `["ECHO",""]`, 200, `{"result":""}`},
		{"POST", "/", `["ECHO",null]`, 400, `{"error":"ERR null args are not supported"}`},
		{"POST", "/", `["ECHO",{"a":1}]`, 400, `~"ERR an argument is a string`},
		{"POST", "/", `["ECHO",[1]]`, 400, `~"ERR an argument is a string`},
		{"POST", "/", `[["ECHO","x"]]`, 400, `~/pipeline`},
		{"POST", "/", `[]`, 400, `~"ERR empty command`},
		{"POST", "/", `[""]`, 400, `~"ERR empty command`},
		{"POST", "/", ``, 400, `~"ERR the body is empty`},
		{"POST", "/", `{"a":1}`, 400, `~"ERR the body has to be a JSON array`},
		{"POST", "/", `"GET"`, 400, `~"ERR the body has to be a JSON array`},
		{"POST", "/", `["GET","foo"`, 400, `~at byte 12`},
		{"POST", "/", `["GET" "foo"]`, 400, `~at byte 7`},
		{"POST", "/", `["GET","foo",]`, 400, `~at byte 12`},
		{"POST", "/", `["GET","foo"] x`, 400, `~at byte 14`},
		{"POST", "/", `["GET","foo"]["GET","foo"]`, 400, `~something follows`},
		{"POST", "/", `['GET']`, 400, `~at byte 1`},
		{"POST", "/", `["GET","\x"]`, 400, `~at byte 8`},
		{"POST", "/", "[\"GET\",\"a\nb\"]", 400, `~at byte 9`},
		{"POST", "/", `["GET",01]`, 400, `~at byte 8`},
		{"POST", "/", `["GET",nul]`, 400, `~not valid JSON`},
		{"POST", "/", "[\"GET\",\"\xff\"]", 400, `~not valid UTF-8`},
		{"POST", "/", strings.Repeat("[", 1<<20), 400, `~/pipeline`},
	} {
		name := test.method + " " + test.path + " " + test.body[:min(len(test.body), 60)]
		status, header, body := call(t, test.method, "http://"+addr+test.path, test.body)
		part, isPart := strings.CutPrefix(test.answer, "~")
		if status != test.status || isPart && !strings.Contains(body, part) || !isPart && body != test.answer {
			t.Errorf("%s: %d %q, want %d %q", name, status, body, test.status, test.answer)
		}
		if want := "application/json"; header.Get("Content-Type") != want && test.path != "/get" {
			t.Errorf("%s: Content-Type %q", name, header.Get("Content-Type"))
		}
		if status == 405 && header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", name)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-store" || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: header %v", name, header)
		}
		if status == 200 && header.Get("Upstash-Sync-Token") == "" {
			t.Errorf("%s: no Upstash-Sync-Token", name)
		}
	}
}

func TestEveryByteSurvives(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if status, _, body := call(t, "POST", "http://"+addr+"/set/all", string(all)); status != 200 {
		t.Fatalf("set: %d %s", status, body)
	}
	if got := master.Do("GET", "all"); got != string(all) {
		t.Errorf("in Redis: %q", got)
	}
	// Without base64, each byte that is not UTF-8 becomes U+FFFD.
	_, _, body := call(t, "GET", "http://"+addr+"/get/all", "")
	if n := strings.Count(body, "\uFFFD"); n != 128 {
		t.Errorf("%d replacement characters in %q, want 128", n, body)
	}
	_, _, body = call(t, "GET", "http://"+addr+"/get/all", "", "upstash-encoding", "base64")
	if want := `{"result":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKDhIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6ChoqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v8PHy8/T19vf4+fr7/P3+/w=="}`; body != want {
		t.Errorf("in base64 %s", body)
	}
	status, header, body := call(t, "GET", "http://"+addr+"/get/all", "", "Upstash-Response-Format", "resp2")
	if want := "$256\r\n" + string(all) + "\r\n"; status != 200 || body != want || header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("as RESP2: %d %v %q", status, header, body)
	}
}

func TestFormsOfAnswers(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	master.Do("SET", "ok", "OK")
	master.Do("SET", "foo", "bar")
	const base64, resp2 = "Upstash-Encoding: base64", "Upstash-Response-Format: resp2"
	for _, test := range []struct {
		headers, path, body string
		status              int
		answer              string
	}{
		{base64, "/", `["GET","foo"]`, 200, `{"result":"YmFy"}`},
		{base64, "/", `["SET","x","y"]`, 200, `{"result":"OK"}`},
		{base64, "/", `["GET","ok"]`, 200, `{"result":"OK"}`},
		{base64, "/", `["PING"]`, 200, `{"result":"UE9ORw=="}`},
		{base64, "/", `["MGET","foo","none","ok"]`, 200, `{"result":["YmFy",null,"T0s="]}`},
		{base64, "/", `["STRLEN","foo"]`, 200, `{"result":3}`},
		{base64, "/", `["GET"]`, 400, `{"error":"ERR wrong number of arguments for 'get' command"}`},
		{base64, "/", `["EVAL","return {1,{'a',{'b'}},redis.error_reply('ERR no')}",0]`, 200, `{"result":[1,["YQ==",["Yg=="]],{"error":"ERR no"}]}`},
		{base64, "/pipeline", `[["GET","foo"],["INCR","foo"],["SET","x","y"]]`, 200, `[{"result":"YmFy"},{"error":"ERR value is not an integer or out of range"},{"result":"OK"}]`},
		{"", "/", `["EVAL","return {1,{'a'},false}",0]`, 200, `{"result":[1,["a"],null]}`},
		{"Upstash-Response-Format: json", "/", `["GET","foo"]`, 200, `{"result":"bar"}`},
		{resp2, "/", `["SET","x","y"]`, 200, "+OK\r\n"},
		{resp2, "/", `["GET","ok"]`, 200, "$2\r\nOK\r\n"},
		{resp2, "/", `["MGET","foo","none"]`, 200, "*2\r\n$3\r\nbar\r\n$-1\r\n"},
		{resp2, "/", `["STRLEN","foo"]`, 200, ":3\r\n"},
		{resp2, "/", `["INCR","foo"]`, 400, "-ERR value is not an integer or out of range\r\n"},
		{resp2, "/", `nonsense`, 400, `~{"error":"ERR the body is not valid JSON`},
		{resp2, "/pipeline", `[["GET","foo"],["INCR","foo"]]`, 200, "$3\r\nbar\r\n-ERR value is not an integer or out of range\r\n"},
		{resp2, "/multi-exec", `[["GET","foo"]]`, 200, `[{"result":"bar"}]`},
		{base64 + "\n" + resp2, "/", `["GET","foo"]`, 400, `~{"error":"ERR `},
		{base64 + "\n" + resp2, "/pipeline", `[["GET","foo"]]`, 400, `~{"error":"ERR `},
		{"Upstash-Response-Format: resp3", "/", `["GET","foo"]`, 400, `~{"error":"ERR `},
		{"Upstash-Encoding: rot13", "/", `["GET","foo"]`, 400, `~{"error":"ERR `},
	} {
		var headers []string
		for line := range strings.SplitSeq(test.headers, "\n") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				headers = append(headers, name, value)
			}
		}
		status, _, body := call(t, "POST", "http://"+addr+test.path, test.body, headers...)
		part, isPart := strings.CutPrefix(test.answer, "~")
		if status != test.status || isPart && !strings.Contains(body, part) || !isPart && body != test.answer {
			t.Errorf("%s %s %s: %d %q, want %d %q", test.headers, test.path, test.body, status, body, test.status, test.answer)
		}
	}
}

func TestPipelinesAndTransactions(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	const documented = `[["SET","key1","valuex"],["SETEX","key2",13,"valuez"],["INCR","key1"],["ZADD","myset",11,"item1",22,"item2"]]`
	for _, test := range []struct {
		path, body string
		status     int
		answer     string
	}{
		{"/pipeline", documented, 200, `[{"result":"OK"},{"result":"OK"},{"error":"ERR value is not an integer or out of range"},{"result":2}]`},
		{"/multi-exec", documented, 200, `[{"result":"OK"},{"result":"OK"},{"error":"ERR value is not an integer or out of range"},{"result":0}]`},
		{"/pipeline", `[["GET","key1"],["NONSENSE"],["GET"]]`, 200, `~[{"result":"valuex"},{"error":"ERR unknown command 'NONSENSE'`},
		{"/multi-exec", `[["SET","key1","changed"],["NONSENSE"]]`, 400, `~unknown command 'NONSENSE'`},
		{"/multi-exec", `[["GET","key1"]]`, 200, `[{"result":"valuex"}]`},
		{"/pipeline", `[]`, 400, `~no command`},
		{"/pipeline", `[[]]`, 400, `~empty command`},
		{"/pipeline", `["GET","key1"]`, 400, `~array of commands`},
		{"/pipeline", `[["GET","key1"],"x"]`, 400, `~array of commands`},
		{"/pipeline", `[["GET","key1"]`, 400, `~at byte 15`},
		{"/pipeline", `[["GET","key1"]]]`, 400, `~at byte 16`},
		{"/pipeline", "[" + strings.Repeat(`["PING"],`, 10000) + `["PING"]]`, 413, `~at most 10000`},
	} {
		status, _, body := call(t, "POST", "http://"+addr+test.path, test.body)
		part, isPart := strings.CutPrefix(test.answer, "~")
		if status != test.status || isPart && !strings.Contains(body, part) || !isPart && body != test.answer {
			t.Errorf("%s %.80s: %d %.200q, want %d %q", test.path, test.body, status, body, test.status, test.answer)
		}
	}
	if got := master.Do("GET", "key1"); got != "valuex" {
		t.Errorf("a discarded transaction has set key1 to %q", got)
	}
}

func TestEveryAnswerHasATokenOfItsOwn(t *testing.T) {
	client, _ := single(t)
	addr, _, _ := serve(t, client)
	seen := map[string]bool{}
	last := ""
	for _, path := range []string{"/set/k/v", "/get/k", "/get/k", "/set/k/v", "/get?key=k"} {
		status, header, body := call(t, "GET", "http://"+addr+path, "", "Upstash-Sync-Token", last)
		last = header.Get("Upstash-Sync-Token")
		if status != 200 || last == "" || seen[last] {
			t.Errorf("%s: %d %s, token %q, before were %v", path, status, body, last, seen)
		}
		seen[last] = true
	}
}

func TestErrorsOfTheStoreAreJSON(t *testing.T) {
	store := script(nil)
	addr, _, _ := serve(t, store)
	for _, test := range []struct {
		kind   redis.Kind
		status int
		text   string
		retry  string
	}{
		{redis.NotExecuted, 503, "was not executed", "1"},
		{redis.Overloaded, 503, "not executed", "1"},
		{redis.Unknown, 504, "Idempotency-Key", ""},
		{redis.Invalid, 400, "because", ""},
	} {
		store.fail(&redis.Error{Kind: test.kind, Cause: errors.New("because")})
		for _, path := range []string{"/", "/pipeline", "/multi-exec"} {
			body := `["SET","k","v"]`
			if path != "/" {
				body = "[" + body + "]"
			}
			for _, format := range []string{"json", "resp2"} {
				status, header, answer := call(t, "POST", "http://"+addr+path, body, "Upstash-Response-Format", format)
				if status != test.status || !strings.HasPrefix(answer, `{"error":"`) || !strings.Contains(answer, test.text) || header.Get("Retry-After") != test.retry {
					t.Errorf("kind %d, %s, %s: %d %q, Retry-After %q", test.kind, path, format, status, answer, header.Get("Retry-After"))
				}
			}
		}
	}
}

func TestHowMuchToTrustReachesTheStore(t *testing.T) {
	client, _ := single(t)
	store := script(client)
	addr, _, _ := serve(t, store)
	for _, test := range []struct {
		header, value string
		ok            bool
		is            func(r redis.Request) bool
	}{
		{"Holdfast-Read", "replica", true, func(r redis.Request) bool { return r.Read == redis.ReadReplica }},
		{"holdfast-read", "cached", true, func(r redis.Request) bool { return r.Read == redis.ReadCached }},
		{"Holdfast-Read", "master", true, func(r redis.Request) bool { return r.Read == redis.ReadMaster }},
		{"Holdfast-Read", "any", false, nil},
		{"Holdfast-Max-Lag", "500ms", true, func(r redis.Request) bool { return r.MaxLag.Milliseconds() == 500 }},
		{"Holdfast-Max-Lag", "-1s", false, nil},
		{"Holdfast-Max-Lag", "soon", false, nil},
		{"Holdfast-Write", "async", true, func(r redis.Request) bool { return r.Async }},
		{"Holdfast-Write", "in-sync", true, func(r redis.Request) bool { return !r.Async }},
		{"Holdfast-Write", "never", false, nil},
		{"Upstash-Sync-Token", "t~12", true, func(r redis.Request) bool { return r.After == "t" && r.WantToken }},
		{"upstash-sync-token", "", true, func(r redis.Request) bool { return r.After == "" && r.WantToken }},
		{"X-Other", "t", true, func(r redis.Request) bool {
			return r.After == "" && !r.Async && r.Read == redis.ReadMaster
		}},
		{"Idempotency-Key", "once", true, func(r redis.Request) bool { return r.IdempotencyKey == "once" }},
	} {
		for _, path := range []string{"/", "/pipeline"} {
			body := `["SET","k","v"]`
			if path != "/" {
				body = "[" + body + "]"
			}
			status, _, answer := call(t, "POST", "http://"+addr+path, body, test.header, test.value)
			if test.ok && (status != 200 || !test.is(store.lastRequest())) || !test.ok && status != 400 {
				t.Errorf("%s: %s: %s: %d %s, %+v", path, test.header, test.value, status, answer, store.lastRequest())
			}
		}
	}
}
