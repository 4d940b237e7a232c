package test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// askAs sends a request with a token, and returns the status and the body.
func askAs(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	c := http.Client{Timeout: 10 * time.Second}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func TestTheWebNodesSettingsReachIt(t *testing.T) {
	beside(t, oneStack)
	const shop, look = "a-token-for-the-shop", "a-token-to-look"
	entry := minimal(t)
	s := newInstance(t, entry+fmt.Sprintf(`
rollout: {settle: 100ms}
apps:
  web:
    kv:
      allow: [keys]
      limits: {body: 64kb, pipeline: 3}
      access-log: 1
      tokens:
        - {name: shop, hash: %x, prefixes: "shop:"}
        - {name: look, hash: %x, mode: read-only}
`, sha256.Sum256([]byte(shop)), sha256.Sum256([]byte(look))))
	s.must("up", "-d")
	st := s.awaitHealthy()

	for _, c := range []struct {
		what, method, path, token, body string
		status                          int
		says                            string
	}{
		{"nobody", "GET", "/get/shop:a", "", "", 401, "WRONGPASS"},
		{"a stranger", "GET", "/get/shop:a", "guessed", "", 401, "WRONGPASS"},
		{"the shop writes what is its own", "POST", "/", shop, `["SET","shop:a","1"]`, 200, `{"result":"OK"}`},
		{"and nothing else", "POST", "/", shop, `["SET","other","1"]`, 403, "NOPERM"},
		{"the other reads", "GET", "/get/shop:a", look, "", 200, `{"result":"1"}`},
		{"and does not write", "GET", "/set/shop:a/2", look, "", 403, "NOPERM"},
		{"a dangerous command that is allowed", "GET", "/keys/shop:*", shop, "", 200, `{"result":["shop:a"]}`},
		{"one that is not", "GET", "/flushall", shop, "", 400, "not allowed here: it is dangerous to the data or to the server (`kv.allow: [flushall]` in the stack file allows it)"},
		{"one that never is", "GET", "/acl/whoami", shop, "", 400, "ERR 'acl|whoami' is not allowed here"},
		{"a stream that is not", "GET", "/monitor", shop, "", 400, "`kv.allow: [monitor]` in the stack file allows it"},
		{"Redis' own words", "POST", "/", shop, `["APPEND","shop:a"]`, 400, "ERR wrong number of arguments for 'append' command"},
		{"an empty value", "PUT", "/set/shop:empty", shop, "", 200, `{"result":"OK"}`},
		{"which is there", "GET", "/get/shop:empty", shop, "", 200, `{"result":""}`},
		{"half a character", "POST", "/", shop, `["GET","shop:\ud83d"]`, 400, "half a surrogate pair"},
		{"a pipeline", "POST", "/pipeline", look, `[["PING"],["PING"],["PING"]]`, 200, "PONG"},
		{"one too long", "POST", "/pipeline", look, `[["PING"],["PING"],["PING"],["PING"]]`, 413, "error"},
		{"a body too large", "POST", "/", shop, `["SET","shop:a","` + strings.Repeat("x", 70000) + `"]`, 413, "error"},
	} {
		if status, body := askAs(t, c.method, st.Entry+c.path, c.token, c.body); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d %s", c.what, status, body, c.status, c.says)
		}
	}

	file := filepath.Join(s.state, "nodes", "web-1", "tokens.yaml")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", file, info, err)
	}
	var planned plan.Plan
	if err := json.Unmarshal([]byte(s.must("plan", "--json")), &planned); err != nil {
		t.Fatal(err)
	}
	for _, p := range planned.Hosts[0].Processes {
		if p.App != "web" {
			continue
		}
		if status, body := get(t, "http://"+p.Admin+"/metrics"); status != 200 || !strings.Contains(body, "holdfast_") {
			t.Errorf("%s: metrics: %d %.200s", p.Node, status, body)
		}
	}
	if status, _ := askAs(t, "GET", st.Entry+"/metrics", look, ""); status == 200 {
		t.Error("the entry shows metrics")
	}

	s.tokensFileChanges(entry, st.Entry, shop, look)

	s.must("stop", "web-1")
	s.must("stop", "web-2")
	status, body := askAs(t, "GET", st.Entry+"/get/shop:a", look, "")
	var said struct{ Error string }
	if err := json.Unmarshal([]byte(body), &said); err != nil || status != 503 || !strings.Contains(said.Error, "not executed") {
		t.Errorf("without a web node: %d %s, %v", status, body, err)
	}
}

// tokensFileChanges puts the tokens into a file, which a web node reads when it starts. status
// shows when the file has changed, and apply takes the change up.
func (s *instance) tokensFileChanges(minimal, entry, shop, look string) {
	s.t.Helper()
	const fresh = "a-token-that-is-new"
	tokens := func(all ...string) {
		text := "tokens:\n"
		for i, token := range all {
			text += fmt.Sprintf("  - {name: t%d, hash: %x}\n", i, sha256.Sum256([]byte(token)))
		}
		if err := os.WriteFile(filepath.Join(s.dir, "tokens.yaml"), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	answers := func(when, token string, want int) {
		s.t.Helper()
		for range 4 { // so that each node answers
			if status, body := askAs(s.t, "GET", entry+"/get/shop:a", token, ""); status != want {
				s.t.Errorf("%s: %s gets %d %s, want %d", when, token, status, body, want)
			}
		}
	}
	tokens(shop, look)
	s.write("name: " + s.name + "\n" + minimal + "rollout: {settle: 100ms}\napps: {web: {kv: {tokens-file: tokens.yaml}}}\n")
	s.must("apply", "--yes")
	answers("in a file", shop, 200)

	tokens(fresh, look)
	s.await("the status to show it", 20*time.Second, func() bool { return s.node("web-1").Outdated != "" && s.node("web-2").Outdated != "" })
	requireWords(s.t, s.must("status"), "web-1", "goes by the tokens", "tokens.yaml", "apply")
	answers("before it is applied", shop, 200)
	s.killSupervisor() // the next supervisor knows it, too
	s.must("up", "-d")
	requireWords(s.t, s.must("apply", "--plan"), "web-1", "its tokens file has changed")
	before := s.status()
	s.must("apply", "--yes")
	answers("applied", shop, 401)
	answers("applied", fresh, 200)
	for _, was := range before.Nodes {
		if is := s.node(was.Name); (is.PID != was.PID) != (was.App == "web") || is.Outdated != "" {
			s.t.Errorf("%s has the pid %d, and had %d; %s", was.Name, is.PID, was.PID, is.Outdated)
		}
	}

	if err := os.WriteFile(filepath.Join(s.dir, "tokens.yaml"), []byte("tokens: none"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	requireWords(s.t, s.fails(2, "apply", "--yes"), "tokens-file", "tokens.yaml")
	answers("with a mistake in the file", look, 200)
	tokens(fresh, look)
}
