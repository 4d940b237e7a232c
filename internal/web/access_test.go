package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/commands"
	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/token"
	"holdfast/internal/web/response"
)

// serveWith is serve with a configuration of the test's own.
func serveWith(t *testing.T, cfg Config, store Store) (addr string, server *Server, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = New(cfg, store)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ln) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return "http://" + ln.Addr().String(), server, stop
}

// tokens returns a set of tokens whose text is "token of " and their name.
func tokens(t *testing.T, entries ...token.Entry) *token.Set {
	t.Helper()
	for i := range entries {
		entries[i].Hash = token.Hash("token of " + entries[i].Name)
	}
	set, err := token.New(entries)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// run sends a command as the bearer of a token.
func run(t *testing.T, base, who string, words ...string) (int, string) {
	t.Helper()
	body, err := json.Marshal(words)
	if err != nil {
		t.Fatal(err)
	}
	var header []string
	if who != "" {
		header = []string{"Authorization", "Bearer token of " + who}
	}
	status, _, answer := call(t, "POST", base+"/", string(body), header...)
	return status, answer
}

func TestWithTokensNobodyComesInWithoutOne(t *testing.T) {
	client, master := single(t)
	base, _, _ := serveWith(t, Config{Tokens: tokens(t, token.Entry{Name: "a"})}, client)
	for _, c := range []struct {
		name, query, header string
		status              int
	}{
		{"none", "", "", 401},
		{"a good one", "", "Bearer token of a", 200},
		{"a scheme in lower case", "", "bearer token of a", 200},
		{"another scheme", "", "Basic token of a", 401},
		{"no scheme", "", "token of a", 401},
		{"a wrong one", "", "Bearer token of b", 401},
		{"its hash", "", "Bearer " + token.Hash("token of a"), 401},
		{"in the query", "?_token=token+of+a", "", 200},
		{"in the query, escaped", "?_token=token%20of%20a", "", 200},
		{"a wrong one in the query", "?_token=x", "", 401},
		{"a bad escape in the query", "?_token=%zz", "", 401},
		{"a wrong header beside a good query", "?_token=token+of+a", "Bearer x", 401},
	} {
		var header []string
		if c.header != "" {
			header = []string{"Authorization", c.header}
		}
		for _, path := range []string{"/dbsize", "/v1/keys", "/set", "/pipeline", "/subscribe/c", "/monitor"} {
			if c.status == 200 && path != "/dbsize" {
				continue
			}
			status, answer, body := call(t, "GET", base+path+c.query, "", header...)
			if status != c.status {
				t.Errorf("%s, %s: %d %s", c.name, path, status, body)
			}
			if status == 401 && (body != `{"error":"WRONGPASS invalid or missing auth token"}` || answer.Get("WWW-Authenticate") == "") {
				t.Errorf("%s, %s: %s %v", c.name, path, body, answer)
			}
		}
	}
	if status, _, body := call(t, "GET", base+"/healthz/ready", ""); status != 200 {
		t.Errorf("a balancer that asks: %d %s", status, body)
	}
	if got := master.Do("DBSIZE"); got != "0" {
		t.Errorf("%s keys were written", got)
	}
}

func TestWhatATokenMayDo(t *testing.T) {
	client, master := single(t)
	master.Do("ACL", "SETUSER", redistest.Username, "+@all") // so that the node refuses, not Redis
	master.Do("SET", "shop:1", "in")
	master.Do("SET", "other:1", "out")
	base, _, _ := serveWith(t, Config{
		Allow: []string{"KEYS", "@blocking"}, ScriptUser: true, ReadScriptUser: true,
		Tokens: tokens(t,
			token.Entry{Name: "all"},
			token.Entry{Name: "reader", Mode: token.ReadOnly},
			token.Entry{Name: "shop", Prefixes: []string{"shop:", "s2:"}},
			token.Entry{Name: "strings", Commands: []string{"@string", "-getdel", "config|get"}},
			token.Entry{Name: "blind", Commands: []string{"-get"}}, token.Entry{Name: "blinder", Mode: token.ReadOnly, Commands: []string{"@all", "-@string"}},
			token.Entry{Name: "calm", Commands: []string{"-flushall", "-select", "-@all"}}, token.Entry{Name: "calmer", Commands: []string{"@all", "-flushall", "-config", "-script"}},
			token.Entry{Name: "lister", Commands: []string{"@all", "-keys"}}, token.Entry{Name: "runner", Commands: []string{"eval", "evalsha", "get"}},
		),
	}, client)
	const ok, bad, no = 200, 400, 403
	for _, c := range []struct {
		who, command string
		status       int
	}{
		{"all", "SET other:2 x", ok}, {"all", "KEYS *", ok}, {"all", "SCAN 0", ok}, {"all", "NOSUCH a", bad}, {"all", "FLUSHALL", bad},
		{"all", "EVAL return(1) 0", ok}, {"all", "BLPOP l 0.01", ok},

		{"reader", "GET other:1", ok}, {"reader", "mget shop:1 other:1", ok}, {"reader", "PING", ok}, {"reader", "DBSIZE", ok},
		{"reader", "SET a b", no}, {"reader", "GETDEL other:1", no}, {"reader", "GETEX other:1 EX 1", no}, {"reader", "SCAN 0", no},
		{"reader", "KEYS *", no}, {"reader", "EVAL return(1) 0", no}, {"reader", "EVAL_RO return(1) 0", ok}, {"reader", "PUBLISH c m", no},
		{"reader", "NOSUCH a", no}, {"reader", "SORT other:1", no}, {"reader", "CONFIG GET port", bad},

		{"shop", "GET shop:1", ok}, {"shop", "SET s2:x 1", ok}, {"shop", "MSET shop:1 a s2:1 b", ok}, {"shop", "PING", ok},
		{"shop", "GET other:1", no}, {"shop", "GET shop", no}, {"shop", "SET other:1 x", no}, {"shop", "MSET shop:1 a other:1 b", no},
		{"shop", "MGET shop:1 other:1", no}, {"shop", "RENAME shop:1 other:9", no}, {"shop", "COPY other:1 shop:9", no},
		{"shop", "BITOP NOT shop:b other:1", no}, {"shop", "ZUNIONSTORE shop:z 2 shop:a other:1", no}, {"shop", "SMOVE shop:a other:b m", no},
		{"shop", "XREAD STREAMS shop:s other:s 0 0", no}, {"shop", "XREAD COUNT 1 STREAMS shop:s 0", ok}, {"shop", "OBJECT ENCODING other:1", no},
		{"shop", "GEORADIUS shop:g 0 0 1 m STORE other:g", no}, {"shop", "EVAL return(1) 0", no},
		{"shop", "EVAL return(redis.call('get','other:1')) 1 shop:1", no}, {"shop", "FCALL f 1 shop:1", no},
		{"shop", "SORT shop:l BY nosort GET other:*", no}, {"shop", "SORT shop:l STORE other:l", no}, {"shop", "SORT shop:l LIMIT 0 1", ok}, {"shop", "SORT other:l", no},
		{"shop", "DBSIZE", no}, {"shop", "RANDOMKEY", no}, {"shop", "INFO", no}, {"shop", "PUBSUB CHANNELS", no}, {"shop", "SCRIPT LOAD return", no},
		{"shop", "SCAN 0", no}, {"shop", "SCAN 0 MATCH *", no}, {"shop", "SCAN 0 MATCH shop:*", ok}, {"shop", "SCAN 0 MATCH shop:* MATCH *", no},
		{"shop", "SCAN 0 COUNT 10 match s2:*", ok}, {"shop", "KEYS shop:*", ok}, {"shop", "KEYS *", no}, {"shop", "KEYS [so]*", no},
		{"shop", "PUBLISH shop:c m", ok}, {"shop", "PUBLISH other m", no}, {"shop", "SPUBLISH other m", no}, {"shop", "NOSUCH shop:1", no},

		{"blind", "GET other:1", no}, {"blind", "EVAL return(redis.call('get','other:1')) 0", no}, {"blind", "EVALSHA x 0", no}, {"blind", "FCALL f 0", no}, {"blind", "EVAL_RO return(1) 0", no},
		{"blind", "SCRIPT LOAD return(1)", no}, {"blind", "FUNCTION LIST", no}, {"blind", "SET other:2 x", ok}, {"blinder", "EVAL_RO return(1) 0", no}, {"blinder", "DBSIZE", ok},
		{"calm", "EVAL return(1) 0", no}, {"calmer", "EVAL return(1) 0", ok}, {"calmer", "EVAL return(redis.call('select',15)) 0", bad}, {"calmer", "SCRIPT LOAD return", no},
		{"lister", "EVAL return(1) 0", no}, {"runner", "EVAL return(1) 0", no}, {"runner", "GET other:1", ok},
		{"reader", "EVAL_RO return(redis.call('keys','*')) 0", bad}, {"reader", "EVAL_RO return(redis.call('select',15)) 0", bad}, {"reader", "EVAL_RO return(redis.call('scan',0)) 0", bad},
		{"reader", "EVAL_RO return(redis.call('get','other:1')) 0", ok}, {"reader", "FUNCTION LIST", no}, {"reader", "SCRIPT EXISTS x", no},
		{"all", "EVAL return(redis.call('flushdb')) 0", bad}, {"all", "FUNCTION FLUSH", bad}, {"all", "SCRIPT FLUSH", bad}, {"all", "FUNCTION LOAD x", bad},

		{"strings", "SET other:1 y", ok}, {"strings", "GETDEL other:1", no}, {"strings", "DEL other:1", no}, {"strings", "CONFIG GET port", bad},
	} {
		if status, body := run(t, base, c.who, strings.Fields(c.command)...); status != c.status ||
			status == no && !strings.HasPrefix(body, `{"error":"NOPERM this token has no permissions to `) {
			t.Errorf("%s: %s: %d %s, want %d", c.who, c.command, status, body, c.status)
		}
	}
	if got := master.Do("GET", "other:1"); got != "y" {
		t.Errorf("other:1 is %q", got)
	}
}

func TestStreamsAskForRightsToo(t *testing.T) {
	client, _ := single(t)
	set := tokens(t, token.Entry{Name: "all"}, token.Entry{Name: "reader", Mode: token.ReadOnly},
		token.Entry{Name: "shop", Prefixes: []string{"shop:"}}, token.Entry{Name: "mute", Commands: []string{"-@pubsub", "-monitor"}})
	s := New(Config{Tokens: set}, client)
	for _, c := range []struct {
		who, command string
		ok           bool
	}{
		{"", "MONITOR", true}, {"", "SUBSCRIBE a", true},
		{"all", "MONITOR", true}, {"all", "PSUBSCRIBE *", true},
		{"reader", "SUBSCRIBE a", true}, {"reader", "MONITOR", false},
		{"shop", "SUBSCRIBE shop:a", true}, {"shop", "SUBSCRIBE shop:a b", false}, {"shop", "PSUBSCRIBE shop:*", true}, {"shop", "PSUBSCRIBE *", false}, {"shop", "MONITOR", false},
		{"mute", "SUBSCRIBE a", false}, {"mute", "MONITOR", false},
	} {
		var who *token.Rights
		if c.who != "" {
			who = set.Find([]byte("token of " + c.who))
		}
		if err := s.auth.PermitStream(who, strings.Fields(c.command)); (err == nil) != c.ok {
			t.Errorf("%s: %s: %v", c.who, c.command, err)
		}
	}
}

// Every command that this Redis calls dangerous is refused, whatever its spelling, except for those
// that package commands lets clients have (Granted).
func TestDangerousCommandsAreRefusedUnlessAllowed(t *testing.T) {
	client, master := single(t)
	s := New(Config{}, client)
	reply := strings.Fields(master.Do("ACL", "CAT", "dangerous"))
	if len(reply) < 60 {
		t.Fatalf("Redis calls only these dangerous: %q", reply)
	}
	for _, name := range append(reply, "client|id", "select", "multi", "exec", "auth", "hello", "subscribe", "watch", "quit", "reset", "blpop", "wait", "bzpopmin") {
		want := !slices.Contains(commands.Granted, name)
		for _, spelt := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]} {
			cmd := redis.Command(strings.Split(spelt, "|"))
			for range 2 { // the second time from what is remembered
				err := s.auth.Permit(t.Context(), nil, []redis.Command{{"PING"}, append(cmd, "a", "b")})
				if (err != nil) != want {
					t.Errorf("%s: %v", spelt, err)
				}
				if err == nil {
					continue
				}
				if status, text := response.Outcome(err); status != 400 || !strings.HasPrefix(text, "ERR '"+name+"' is not allowed here") {
					t.Errorf("%s: %d %s", spelt, status, text)
				}
			}
		}
	}
	for _, words := range []string{"PING", "ECHO a", "TIME", "INFO", "XREAD STREAMS s 0", "XREADGROUP GROUP g c STREAMS s >", "SORT l", "COMMAND", "EVAL x 0", "CONFIG", "CONFIG NOSUCH"} {
		if err := s.auth.Permit(t.Context(), nil, []redis.Command{strings.Fields(words)}); err != nil {
			t.Errorf("%s: %v", words, err)
		}
	}
	if err := s.auth.Permit(t.Context(), nil, []redis.Command{strings.Fields("CONFIG SET maxmemory 1")}); err == nil {
		t.Error("CONFIG SET is allowed once CONFIG alone was seen")
	}
	for _, words := range []string{"XREAD BLOCK 0 STREAMS s 0", "xreadgroup GROUP g c block 0 STREAMS s >"} {
		if err := s.auth.Permit(t.Context(), nil, []redis.Command{strings.Fields(words)}); err == nil {
			t.Errorf("%s is allowed", words)
		}
	}
	s = New(Config{Allow: []string{"Keys", "config|get", "@blocking"}}, client)
	for words, want := range map[string]bool{
		"KEYS *": true, "CONFIG GET port": true, "CONFIG SET port 1": false, "BLPOP l 0": true, "XREAD BLOCK 0 STREAMS s 0": true, "FLUSHALL": false, "SELECT 1": false,
	} {
		if err := s.auth.Permit(t.Context(), nil, []redis.Command{strings.Fields(words)}); (err == nil) != want {
			t.Errorf("with --allow: %s: %v", words, err)
		}
	}
	s = New(Config{Allow: []string{"@all"}}, client)
	for words, want := range map[string]bool{"FLUSHALL": true, "DEBUG SLEEP 0": true, "SELECT 1": false, "CLIENT KILL x": false, "REPLICAOF NO ONE": false, "FAILOVER": false, "MULTI": false} {
		if err := s.auth.Permit(t.Context(), nil, []redis.Command{strings.Fields(words)}); (err == nil) != want {
			t.Errorf("with --allow @all: %s: %v", words, err)
		}
	}
}

func TestPermittingACommonCommandCostsNothing(t *testing.T) {
	client, _ := single(t)
	set := tokens(t, token.Entry{Name: "reader", Mode: token.ReadOnly})
	s := New(Config{Tokens: set}, client)
	cmds := []redis.Command{{"GET", "a"}}
	for _, who := range []*token.Rights{nil, set.All()[0]} {
		allocated := testing.AllocsPerRun(100, func() {
			if err := s.auth.Permit(context.Background(), who, cmds); err != nil {
				t.Error(err)
			}
		})
		if allocated > 0 {
			t.Errorf("%v: %v allocations", who, allocated)
		}
	}
}

func TestCrossOriginRequests(t *testing.T) {
	client, _ := single(t)
	const page = "https://app.example"
	for _, c := range []struct {
		name    string
		cors    []string
		tokens  *token.Set
		header  []string
		method  string
		path    string
		status  int
		allowed string
	}{
		{"off: the page may not read", nil, nil, []string{"Origin", page}, "GET", "/get?key=a", 403, ""},
		{"off: no preflight", nil, nil, []string{"Origin", page, "Access-Control-Request-Method", "PUT"}, "OPTIONS", "/get?key=a", 405, ""},
		{"named", []string{"https://b", page}, nil, []string{"Origin", page}, "GET", "/get?key=a", 404, page},
		{"not named", []string{"https://b"}, nil, []string{"Origin", page}, "GET", "/get?key=a", 403, ""},
		{"no suffix of a named one", []string{page}, nil, []string{"Origin", "https://evil-app.example"}, "GET", "/get?key=a", 403, ""},
		{"all", []string{"*"}, nil, []string{"Origin", page}, "GET", "/get?key=a", 404, "*"},
		{"a preflight", []string{page}, tokens(t, token.Entry{Name: "a"}), []string{"Origin", page, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization, x-y"}, "OPTIONS", "/", 204, page},
		{"another's preflight", []string{page}, nil, []string{"Origin", "https://b", "Access-Control-Request-Method", "POST"}, "OPTIONS", "/", 204, ""},
		{"a refusal can be read", []string{page}, tokens(t, token.Entry{Name: "a"}), []string{"Origin", page}, "GET", "/get/a", 401, page},
		{"a form of another site", nil, nil, []string{"Origin", page, "Sec-Fetch-Site", "cross-site"}, "POST", "/set/a/b", 403, ""},
		{"a link of another site that writes", nil, nil, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, "GET", "/set?key=a&value=b", 403, ""},
		{"a link of another site that reads", nil, nil, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, "GET", "/get?key=a", 404, ""},
		{"the address bar", nil, nil, []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, "GET", "/get?key=a", 404, ""},
		{"a named site writes", []string{page}, nil, []string{"Origin", page, "Sec-Fetch-Site", "cross-site"}, "POST", "/hset/h/a/b", 200, page},
	} {
		base, _, stop := serveWith(t, Config{CORS: c.cors, Tokens: c.tokens}, client)
		status, h, body := call(t, c.method, base+c.path, "", c.header...)
		if status != c.status || h.Get("Access-Control-Allow-Origin") != c.allowed || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %s %v", c.name, status, body, h)
		}
		if specific := len(c.cors) > 0 && c.cors[0] != "*"; specific && !slices.ContainsFunc(h.Values("Vary"), func(v string) bool { return strings.Contains(v, "Origin") }) {
			t.Errorf("%s: caches may mix up origins: %v", c.name, h)
		}
		if c.name == "a preflight" && (h.Get("Access-Control-Allow-Headers") != "authorization, x-y" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PUT") || h.Get("Access-Control-Max-Age") == "") {
			t.Errorf("%s: %v", c.name, h)
		}
		stop()
	}
}

func TestWhatBrowsersSeeIsInert(t *testing.T) {
	client, _ := single(t)
	base, _, _ := serveWith(t, Config{}, client)
	put, _, body := call(t, "PUT", base+"/v1/keys/page", "<script>alert(1)</script>", "Content-Type", "text/html")
	if put/100 != 2 {
		t.Fatalf("put: %d %s", put, body)
	}
	for _, c := range []struct {
		path  string
		agent string
	}{{"/v1/keys/page", "curl/8"}, {"/get/page", "Mozilla/5.0 (X11)"}, {"/get?key=page", "Mozilla/5.0 (X11)"}, {"/nothing/here", "Mozilla/5.0 (X11)"}} {
		_, h, _ := call(t, "GET", base+c.path, "", "User-Agent", c.agent)
		if !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", c.path, h)
		}
	}
}

func TestARefusedCommandIsShownHarmlessly(t *testing.T) {
	client, _ := single(t)
	base, _, _ := serveWith(t, Config{Tokens: tokens(t, token.Entry{Name: "reader", Mode: token.ReadOnly})}, client)
	status, body := run(t, base, "reader", "no\x00such\n"+strings.Repeat("x", 100))
	if status != http.StatusForbidden || body != fmt.Sprintf(`{"error":"NOPERM this token has no permissions to run the 'no?such?%s' command"}`, strings.Repeat("x", 32)) {
		t.Errorf("%d %s", status, body)
	}
}
