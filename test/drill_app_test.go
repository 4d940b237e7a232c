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
)

// The tokens of a stack with an application of the user's own.
const (
	drillToken  = "may-do-it-all"
	lookerToken = "may-read-alone"
)

// siteStackFile returns a stack whose routes lead to files of the user's, and to two applications
// of kind kv that are reached only by their hosts. One of the two has tokens and a cookie.
func siteStackFile(t *testing.T) string {
	hash := func(token string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(token))) }
	return minimal(t) + `
apps:
  site:
    files: public
  store:
    sticky: STORE
    kv:
      tokens:
        - {name: drill, hash: ` + hash(drillToken) + `, prefixes: ["holdfast-drill:"]}
        - {name: reader, hash: ` + hash(lookerToken) + `, mode: read-only}
  other: {kv: {}}
routes:
  - {host: [store.example], app: store}
  - {host: [other.example], path-prefix: [/v1], app: other}
  - app: site
`
}

// newSite starts such a stack.
func newSite(t *testing.T, text string) *instance {
	t.Helper()
	s := newInstance(t, text)
	public := filepath.Join(s.dir, "public")
	if err := os.Mkdir(public, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(public, "index.html"), []byte("kelp"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("up", "-d")
	s.awaitHealthy()
	return s
}

// secretFile writes a file with a secret, and returns its path.
func (s *instance) secretFile(name, secret string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// ask sends a request to the entry with headers, and returns the status and the body.
func (s *instance) ask(path string, header map[string]string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.status().Entry+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range header {
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestADrillReachesItsApplicationWhateverTheRoutesAre(t *testing.T) {
	beside(t, severalHosts)
	s := newSite(t, siteStackFile(t))
	drill, looker := s.secretFile("drill-token", drillToken), s.secretFile("looker-token", lookerToken)

	// Impossible drills are refused before anything starts, with advice.
	requireWords(t, s.fails(2, "drill", "kill-web"), "several applications of kind kv", "--app", "other or store")
	requireWords(t, s.fails(2, "drill", "--app", "site"), "of kind files", "other, store")
	requireWords(t, s.fails(2, "drill", "--app", "shop"), "no such application")
	requireWords(t, s.fails(2, "drill", "kill-web", "--app", "store"), "store has tokens", "--token-file")
	wrong := s.secretFile("wrong-token", "guessed")
	requireWords(t, s.fails(2, "drill", "kill-web", "--app", "store", "--token-file", wrong), "store", "401", "--token-file")
	requireWords(t, s.fails(2, "drill", "kill-web", "--app", "store", "--token-file", looker), "403", "holdfast-drill:*", "--token-file")

	requireWords(t, s.fails(2, "drill", "busy-script", "--app", "store", "--token-file", drill), "busy-script cannot be brought about", "store refuses EVAL", "NOPERM", "nothing was broken")

	faults := []string{"kill-web", "kill-held-web"}
	v := s.drill(append(faults, "--app", "store", "--token-file", drill)...).assertHolds(faults...)
	for _, f := range v.Faults {
		for _, target := range f.Targets {
			if !strings.HasPrefix(target, "store-") && !strings.HasPrefix(target, "redis-") {
				t.Errorf("%s struck %s, which bears no load", f.Name, target)
			}
		}
		if !strings.Contains(f.Evidence, "under load: ") {
			t.Errorf("the evidence for %s does not show that it struck what is under load: %s", f.Name, f.Evidence)
		}
	}
	if held := v.Faults[1]; !strings.Contains(held.Evidence, " held ") || !strings.Contains(held.Evidence, "sent") {
		t.Errorf("the evidence for %s does not show that anything was held: %s", held.Name, held.Evidence)
	}
	if !strings.Contains(v.Repeat, "--app store") {
		t.Errorf("repeat it with %q", v.Repeat)
	}
	inStore := map[string]string{"Host": "store.example", "Authorization": "Bearer " + drillToken}
	if code, body := s.ask("/v1/keys?limit=1000&prefix=holdfast-drill:", inStore); code != 200 || !strings.Contains(body, `"keys":[]`) {
		t.Errorf("keys are left: %d %s", code, body)
	}

	// The files do not use Redis, so a fault there is not under load.
	idle, code := s.drill("kill-replica", "--url", "/").verdict()
	if idle.Result != "inconclusive" || code != 1 || !strings.Contains(fmt.Sprint(idle.Why), "carried out no command of an application") {
		t.Errorf("a replica that nobody uses: %s (exit %d): %v", idle.Result, code, idle.Why)
	}

	// The drill has a way of its own to the application, and only the drill can use it.
	for _, value := range []string{"", "store", "/store", "secret/store", strings.Repeat("0", 64) + "/store"} {
		if code, body := s.ask("/", map[string]string{"Holdfast-Drill": value}); code != 200 || body != "kelp" {
			t.Errorf("Holdfast-Drill: %s leads to %d %s", value, code, body)
		}
	}
}

// The stack has no application of kind kv, and no Redis, and its entry speaks HTTPS. So does the
// entry of the stack that the drill stands up.
func TestADrillOfURLsJudgesAvailabilityAlone(t *testing.T) {
	beside(t, severalHosts)
	s := newSite(t, minimal(t)+`  tls: self-signed
apps:
  site: {files: public, nodes: 2}
  docs: {files: public, nodes: 2, sticky: DOCS}
routes:
  - {host: [docs.example], app: docs}
  - app: site
redis: {enabled: false}
`)
	requireWords(t, s.fails(2, "drill"), "no application of kind kv", "--url /PATH")
	requireWords(t, s.fails(2, "drill", "--own"), "no application of kind kv", "--url /PATH")
	requireWords(t, s.fails(2, "drill", "kill-master", "--url", "/"), "kill-master", "the stack has none")
	requireWords(t, s.fails(2, "drill", "--url", "/missing"), "GET /missing is answered with 404", "/missing 404")
	requireWords(t, s.fails(2, "drill", "--url", "/web-app"), "/web-app", "statistics")
	requireWords(t, s.fails(2, "drill", "--url", "missing"), "missing")
	requireWords(t, s.fails(2, "drill", "--url", "/", "--app", "site"), "--app", "--url")
	requireWords(t, s.fails(2, "drill", "--url", "/", "--rate", "5"), "20 are the least")

	d := s.drill("kill-web", "kill-balancer", "--own", "--url", "/missing 404", "--url", "https://docs.example/", "--rate", "100")
	var v struct {
		Result      string
		Why, URLs   []string
		Repeat      string
		Consistency *bool
		Whole       struct{ Operations, Failed int }
		Faults      []struct {
			Evidence string
			Targets  []string
		}
	}
	code := d.wait()
	if err := json.Unmarshal(d.out.Bytes(), &v); err != nil {
		t.Fatalf("exit %d: %v\n%s%s", code, err, d.out.Bytes(), d.log())
	}
	if v.Result != "holds" || code != 0 || v.Consistency == nil || *v.Consistency || v.Whole.Operations < 200 {
		t.Errorf("exit %d, %s", code, d.out.Bytes())
	}
	if len(v.Faults) != 2 || !strings.Contains(v.Faults[0].Evidence, "under load: ") || !strings.Contains(v.Faults[1].Evidence, "under load: ") {
		t.Errorf("the evidence: %+v", v.Faults)
	}
	if !strings.Contains(v.Repeat, "--url 'GET /missing 404' --url 'GET https://docs.example/'") {
		t.Errorf("repeat it with %q", v.Repeat)
	}
	pages, _ := filepath.Glob(filepath.Join(s.state, "drills", "*", "report.html"))
	if len(pages) != 1 {
		t.Fatalf("reports: %v", pages)
	}
	page, err := os.ReadFile(pages[0])
	if err != nil || !strings.Contains(string(page), "no consistency") || !strings.Contains(string(page), "https://docs.example/") || strings.Contains(string(page), "acknowledged write") {
		t.Errorf("the report (%v) does not say what was judged", err)
	}
}
