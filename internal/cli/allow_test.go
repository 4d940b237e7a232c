package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/commands"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
	"holdfast/internal/web"
)

// stackNode serves a web node of a stack file until the test ends. The node uses a Redis with the
// rights that the plan gives it.
func stackNode(t *testing.T, server *redistest.Server, file string) (url string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Run(t.Context(), []string{"plan", "--json", "-f", path, "--state", t.TempDir()}, nil, &out, io.Discard, environment(nil)); err != nil {
		t.Fatal(err)
	}
	var made plan.Plan
	if err := json.Unmarshal(out.Bytes(), &made); err != nil {
		t.Fatal(err)
	}

	for _, f := range made.Hosts[0].Files {
		for line := range strings.Lines(f.Content) {
			_, rights, ok := strings.Cut(line, "> ~*")
			if !ok || !strings.HasPrefix(line, "user web ") || !strings.Contains(f.Path, "redis-1") {
				continue
			}
			rights, selector, _ := strings.Cut(strings.TrimSpace("~*"+rights), " (")
			words := append([]string{"ACL", "SETUSER", "web", "reset", "on", ">secret"}, append(strings.Fields(rights), "("+selector)...)
			if answer := server.Do(words...); answer != "OK" {
				t.Fatalf("%q: %s", words, answer)
			}
		}
	}

	env := map[string]string{}
	for _, p := range made.Hosts[0].Processes {
		if p.Node == "web-1" {
			for _, v := range p.Env {
				name, value, _ := strings.Cut(v, "=")
				env[name] = value
			}
		}
	}
	env["REDIS_URL"], env["REDIS_SENTINELS"] = "redis://web:secret@"+server.Addr, ""
	f := newWebFlags()
	f.fill(environment(env))
	n, err := f.node()
	if err != nil {
		t.Fatal(err)
	}
	n.redis.MinAcks = 0
	client, err := redis.New(n.redis)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan error, 1), make(chan struct{})
	go func() { defer close(ran); client.Run(ctx) }()
	go func() { served <- web.New(n.web, client).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-ran
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	redistest.Eventually(t, 5*time.Second, "the node knows the master", func() bool { return client.Status().Master != "" })
	return "http://" + ln.Addr().String()
}

// The node, 'config check' and the rights that the plan gives the node agree about every command of
// Redis. Either a command is free; or the node says that kv.allow can allow it, which is true; or
// nothing can allow it. Redis' own NOPERM never appears.
func TestWhatMayBeAllowedIsOneRule(t *testing.T) {
	server := redistest.Start(t, 0, 0).Nodes[0]
	ask := func(url string, words []string) (int, string) {
		t.Helper()
		method, body := http.MethodPost, io.Reader(nil)
		if words[0] == "monitor" { // its answer is a stream
			method, url = http.MethodGet, url+"/monitor"
		} else {
			text, err := json.Marshal(words)
			if err != nil {
				t.Fatal(err)
			}
			body = bytes.NewReader(text)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.Header.Get("Content-Type") == "text/event-stream" {
			return resp.StatusCode, "a stream"
		}
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(answer)
	}

	spec := map[string][]string{ // arguments that make these wait
		"xread": {"XREAD", "BLOCK", "0", "STREAMS", "s", "0"}, "xreadgroup": {"XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">"},
	}
	const refused = "is not allowed here"
	names := strings.Fields(server.Do("COMMAND", "LIST"))
	if len(names) < 300 {
		t.Fatalf("Redis knows only %q", names)
	}
	names = append(names, "CONFIG|GET", "Monitor")
	var asks [][]string
	url := stackNode(t, server, "apps: {web: {kv: {}}}")
	count := map[string]int{}
	for _, name := range names {
		words := spec[name]
		if words == nil {
			words = append(strings.Split(strings.ToLower(name), "|"), "a", "b", "c")
		}
		status, answer := ask(url, words)
		_, _, wrong := stack.Parse("f", []byte("apps: {web: {kv: {allow: ['"+strings.ToLower(name)+"']}}}"))
		rule := "free"
		switch {
		case strings.Contains(answer, "kv.allow: ["):
			rule = "asks"
			asks = append(asks, words)
		case strings.Contains(answer, refused):
			rule = "never"
		}
		count[rule]++
		switch {
		case strings.Contains(answer, "NOPERM") || strings.Contains(answer, "--allow"):
			t.Errorf("%s: %d %s", name, status, answer)
		case rule != "free" && (status != 400 || !strings.Contains(answer, `{"error":"ERR '`+strings.ToLower(name)+"' "+refused)):
			t.Errorf("%s: %d %s", name, status, answer)
		case rule == "asks" && wrong != nil:
			t.Errorf("%s: the node says %s\nconfig check says %v", name, answer, wrong)
		case rule == "never" && (wrong == nil || !strings.Contains(wrong.Error(), "cannot be allowed") && !strings.Contains(wrong.Error(), "family")):
			t.Errorf("%s: the node says %s\nconfig check says %v", name, answer, wrong)
		case rule == "free" && (wrong == nil || strings.Contains(wrong.Error(), "cannot be allowed")):
			t.Errorf("%s is free; config check says %v", name, wrong)
		}
	}
	if count["free"] < 200 || count["asks"] < 30 || count["never"] < 80 {
		t.Errorf("free, asks, never: %v", count)
	}
	for _, name := range []string{"info", "lastsave", "role", "sort_ro", "memory|stats", "xinfo|help"} {
		if _, answer := ask(url, strings.Split(name, "|")); strings.Contains(answer, refused) || strings.Contains(answer, "NOPERM") {
			t.Errorf("%s: %s", name, answer)
		}
	}

	url = stackNode(t, server, `apps: {web: {kv: {allow: ["@dangerous", "@blocking", "`+strings.Join(commands.Shared, `", "`)+`"]}}}`)
	for _, words := range asks {
		if status, answer := ask(url, words); strings.Contains(answer, refused) || strings.Contains(answer, "NOPERM") || status == 403 {
			t.Errorf("%q is allowed: %d %s", words, status, answer)
		}
	}
	if !slices.ContainsFunc(asks, func(words []string) bool { return words[0] == "monitor" }) {
		t.Error("/monitor did not ask to be allowed")
	}
}
