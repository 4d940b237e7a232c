package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
	"holdfast/internal/token"
)

func TestEverySettingComesByFlagOrEnvironmentAndTheFlagWins(t *testing.T) {
	f := newWebFlags()
	f.fill(environment(map[string]string{
		"REDIS_URL": "redis://h", "HOLDFAST_LISTEN": "127.0.0.1:1,unix:/tmp/a.sock", "HOLDFAST_READS": "replica", "HOLDFAST_WRITES": "async",
		"HOLDFAST_MAX_LAG": "250ms", "HOLDFAST_HOLD": "7s", "HOLDFAST_REMEMBER": "2m", "HOLDFAST_ALLOW": "KEYS, config|get,@blocking",
		"HOLDFAST_MAX_BODY": "1048576", "HOLDFAST_MAX_ANSWER": "2mb", "HOLDFAST_MAX_KEY": "1kb", "HOLDFAST_MAX_PIPELINE": "5", "HOLDFAST_CONNECTIONS": "100",
		"HOLDFAST_CORS": "https://a.example, http://b:80", "HOLDFAST_ACCESS_LOG": "0.5", "HOLDFAST_ADMIN": "127.0.0.1:9",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS": "X-Token=a",
	}))
	n, err := f.node()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(n.listen, n.admin, n.web.Read, n.web.Async, n.redis.MaxLag, n.redis.Hold, n.redis.IdempotencyTTL, n.web.Allow,
		n.web.MaxBody, n.redis.MaxAnswer, n.web.MaxKey, n.web.MaxPipeline, n.web.Connections, n.web.CORS, n.web.AccessLog, n.web.Trace, n.web.TraceSettings.Headers)
	want := fmt.Sprintln("[{tcp 127.0.0.1:1 false} {unix /tmp/a.sock false}] 127.0.0.1:9", redis.ReadReplica, "true 250ms 7s 2m0s [keys config|get @blocking]",
		"1048576 2097152 1024 5 100 [https://a.example http://b:80] 0.5 http://127.0.0.1:4318 map[X-Token:a]")
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c := webCommand(environment(map[string]string{"HOLDFAST_READS": "nonsense"}))
	c.SetArgs([]string{"--redis-url", "redis://h", "--listen", "127.0.0.1:99999", "--listen", "x", "--reads", "cached"})
	if err := c.Execute(); err == nil || !strings.Contains(err.Error(), `--listen (or HOLDFAST_LISTEN) "127.0.0.1:99999,x"`) {
		t.Errorf("flags: %v", err)
	}
}

func TestTheDefaultsOfTheFlagsAreThoseOfTheStackFile(t *testing.T) {
	f := newWebFlags()
	f.fill(environment(map[string]string{"REDIS_URL": "redis://h"}))
	n, err := f.node()
	if err != nil {
		t.Fatal(err)
	}

	kv := stack.Default().Apps["web"].KV
	reads := map[string]redis.ReadFrom{"master": redis.ReadMaster, "replica": redis.ReadReplica, "cached": redis.ReadCached}
	for _, c := range []struct {
		flag        string
		flags, file any
	}{
		{"hold", n.redis.Hold, kv.Hold},
		{"max-lag", n.redis.MaxLag, kv.MaxLag},
		{"reads", n.web.Read, reads[kv.Reads]},
		{"writes", n.web.Async, kv.Writes == "async"},
		{"max-body", n.web.MaxBody, int(kv.Limits.Body)},
		{"max-answer", n.redis.MaxAnswer, int(kv.Limits.Answer)},
		{"max-key", n.web.MaxKey, int(kv.Limits.Key)},
		{"max-pipeline", n.web.MaxPipeline, kv.Limits.Pipeline},
		{"connections", n.web.Connections, kv.Limits.Connections},
		{"streams-per-client", n.web.StreamsPerClient, kv.Limits.StreamsPerClient},
		{"access-log", n.web.AccessLog, kv.AccessLog},
	} {
		if c.flags != c.file {
			t.Errorf("--%s is %v by default, and in the stack file %v", c.flag, c.flags, c.file)
		}
	}
}

func TestABadSettingNamesItsFlagAndItsVariable(t *testing.T) {
	dir := t.TempDir()
	bad, good := filepath.Join(dir, "bad.yaml"), filepath.Join(dir, "good.yaml")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(bad, "tokens:\n  - name: a\n")
	write(good, "tokens:\n  - {name: a, hash: "+token.Hash("a")+"}\n")
	for _, c := range []struct{ variable, value, want string }{
		{"HOLDFAST_LISTEN", "5000", "--listen"},
		{"HOLDFAST_LISTEN", "unix:@", "no path"},
		{"HOLDFAST_LISTEN", "unix:", "no path"},
		{"HOLDFAST_LISTEN", "unix:/" + strings.Repeat("x", 200), "a unix socket can have"},
		{"HOLDFAST_LISTEN", ",", "no address"},
		{"HOLDFAST_LISTEN", "0.0.0.0:0", "--auth none"},
		{"HOLDFAST_LISTEN", ":0", "--tokens"},
		{"HOLDFAST_HOLD", "5", "a duration"},
		{"HOLDFAST_HOLD", "0s", "at least"},
		{"HOLDFAST_READS", "slave", "master or replica or cached"},
		{"HOLDFAST_WRITES", "sync", "in-sync or async"},
		{"HOLDFAST_MAX_LAG", "-1s", "--max-lag"},
		{"HOLDFAST_REMEMBER", "1s", "--remember"},
		{"HOLDFAST_REMEMBER", "21s", "at least 25s"},
		{"HOLDFAST_TOKENS", filepath.Join(dir, "none"), "no such file"},
		{"HOLDFAST_TOKENS", bad, bad + ":2:5"},
		{"HOLDFAST_AUTH", "off", "--auth"},
		{"HOLDFAST_ALLOW", "flush all", "is not a command"},
		{"HOLDFAST_ALLOW", "keys,CLIENT|ID", `"client|id" cannot be allowed: it belongs to a connection`},
		{"HOLDFAST_ALLOW", "replicaof", `"replicaof" cannot be allowed: who is the master`},
		{"HOLDFAST_CORS", "example.org", "is not an origin"},
		{"HOLDFAST_CORS", "https://example.org/", "is not an origin"},
		{"HOLDFAST_MAX_BODY", "10", ""},
		{"HOLDFAST_MAX_ANSWER", "1mb", ""},
		{"HOLDFAST_MAX_ANSWER", "1kb", "1mb or more"},
		{"HOLDFAST_MAX_BODY", "ten", "a size"},
		{"HOLDFAST_MAX_BODY", "2gb", "a size"},
		{"HOLDFAST_MAX_KEY", "0", "a size"},
		{"HOLDFAST_MAX_PIPELINE", "0", "whole number"},
		{"HOLDFAST_CONNECTIONS", "many", "whole number"},
		{"HOLDFAST_ADMIN", "9000", "host:port"},
		{"HOLDFAST_ACCESS_LOG", "2", "from 0 to 1"},
		{"HOLDFAST_ACCESS_LOG", "NaN", "from 0 to 1"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "--trace"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s", ""}, // tracing is off
	} {
		f := newWebFlags()
		f.fill(environment(map[string]string{"REDIS_URL": "redis://h", c.variable: c.value}))
		_, err := f.node()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s=%s: %v", c.variable, c.value, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%.40s: %v; want %q", c.variable, c.value, err, c.want)
			continue
		}
		if _, usage := err.(usageError); !usage || !strings.Contains(err.Error(), c.variable) && !strings.Contains(err.Error(), "HOLDFAST_AUTH") {
			t.Errorf("%s=%.40s: is no usage error or does not name the variable: %v", c.variable, c.value, err)
		}
	}
	f := newWebFlags()
	f.fill(environment(map[string]string{"REDIS_URL": "redis://h", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}))
	if _, err := f.node(); err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_TIMEOUT") {
		t.Errorf("a bad setting for traces: %v", err)
	}
	for name, env := range map[string]map[string]string{
		"tokens":     {"HOLDFAST_LISTEN": "0.0.0.0:0", "HOLDFAST_TOKENS": good},
		"auth none":  {"HOLDFAST_LISTEN": "0.0.0.0:0", "HOLDFAST_AUTH": "none"},
		"loopback":   {"HOLDFAST_LISTEN": "[::1]:0,127.0.0.2:0,localhost:0"},
		"both tells": {"HOLDFAST_TOKENS": good, "HOLDFAST_AUTH": "none"},
	} {
		f := newWebFlags()
		env["REDIS_URL"] = "redis://h"
		f.fill(environment(env))
		if _, err := f.node(); (err != nil) != (name == "both tells") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWebNodeServesAUnixSocketThatADeadOneLeftBehind(t *testing.T) {
	master := redistest.Start(t, 0, 0).Nodes[0]
	path := filepath.Join(t.TempDir(), "web.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	env := map[string]string{
		"REDIS_URL":       "redis://" + redistest.Username + ":" + redistest.Password + "@" + master.Addr,
		"HOLDFAST_LISTEN": "unix:" + path,
	}
	if err := Run(t.Context(), []string{"web"}, nil, io.Discard, io.Discard, environment(env)); err == nil || !strings.Contains(err.Error(), "already listens") {
		t.Errorf("a socket that somebody listens on: %v", err)
	}
	old.Close()
	addr, end := start(t, env, "web")
	if addr != "unix:"+path {
		t.Errorf("it listens on %q", addr)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	redistest.Eventually(t, 5*time.Second, "a write is answered", func() bool {
		resp, err := client.Get("http://node/set?key=a&value=b")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	end()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestATokenIsMadeAndServes(t *testing.T) {
	var out, told strings.Builder
	if err := Run(t.Context(), []string{"token", "new", "--name", "shop", "--prefix", "shop:", "--command", "@read,set"}, nil, &out, &told, environment(nil)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(told.String()), "\n")
	clear := lines[len(lines)-1]
	if strings.Contains(out.String(), clear) || len(clear) != 43 {
		t.Fatalf("the token is %q, the entry %s", clear, &out)
	}
	set, err := token.Parse("out", []byte(out.String()))
	if err != nil || set.Find([]byte(clear)) == nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	var hashed strings.Builder
	if err := Run(t.Context(), []string{"token", "hash"}, strings.NewReader(clear+"\r\n"), &hashed, io.Discard, environment(nil)); err != nil || !strings.Contains(hashed.String(), token.Hash(clear)) {
		t.Errorf("hash: %v\n%s", err, &hashed)
	}
	for _, text := range []string{"", "short", "two words that are too many"} {
		if err := Run(t.Context(), []string{"token", "hash"}, strings.NewReader(text), io.Discard, io.Discard, environment(nil)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}

	file := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	master := redistest.Start(t, 0, 0).Nodes[0]
	addr, _ := start(t, map[string]string{"REDIS_URL": "redis://" + redistest.Username + ":" + redistest.Password + "@" + master.Addr, "PORT": "0", "HOLDFAST_TOKENS": file}, "web")
	redistest.Eventually(t, 5*time.Second, "a write is answered", func() bool {
		status, _ := get(t, "http://"+addr+"/set?key=shop:1&value=b&_token="+clear)
		return status == 200
	})
	if status, body := get(t, "http://"+addr+"/set?key=shop:1&value=b"); status != 401 {
		t.Errorf("without the token: %d %s", status, body)
	}
}
