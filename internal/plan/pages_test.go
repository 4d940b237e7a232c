package plan

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"holdfast/internal/stack"
)

// strangePage contains everything that has a meaning in HAProxy's configuration, its formats and
// the arguments of its converters.
const strangePage = "<!doctype html>\n<title>Zurück & bald: 100% %[src] %ci</title>\n\n  <pre>\ta, (b) [c] {d} \\e \"f\" 'g' $HOME #h +i ?j+k %20</pre>\n<script>// x\nf()</script>\n"

func TestTheOperatorsPagesAreWhatBrowsersGet(t *testing.T) {
	large := "<p>" + strings.Repeat("Sorry. ", 1700) + "</p>\n"
	one := &flaky{}
	port := one.serve(t)
	s := quick(httpStack(t))
	s.Balancers = 1
	s.Entry.Errors = map[string]string{"502": large, "503": strangePage, "429": "<h1>Slow down</h1>"}
	s.Entry.Limits.RequestsPerToken = 1
	if complaint := stack.EscapePage(large); len(complaint) > 12_000 {
		t.Fatalf("a stack file would not have it: %d", len(complaint))
	}
	c := answeringCluster(t, s, port)
	const (
		browser = "text/html,*/*;q=0.8"
		program = "application/json"
	)
	check := func(what string, status int, page string, header string) {
		t.Helper()
		for _, try := range []struct {
			path, accept string
			html         bool
		}{{"/", browser, true}, {"/", "*/*", false}, {"/", program, false}, {"/other", browser, true}, {"/other", "*/*", true}, {"/other", program, false}} {
			r, body := c.raw(t, "GET "+try.path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+header+"Accept: "+try.accept+"\r\n\r\n")
			var said struct{ Error string }
			isJSON := json.Unmarshal([]byte(body), &said) == nil && said.Error != "" && r.Header.Get("Content-Type") == jsonType
			isPage := body == page && r.Header.Get("Content-Type") == htmlType
			if r.StatusCode != status || isPage != try.html || isJSON == try.html {
				t.Errorf("%s: %s with %s: %s %v: %.300q", what, try.path, try.accept, r.Status, r.Header, body)
			}
		}
	}
	one.dies.Store(true)
	check("every node dies", 502, large, "")
	one.dies.Store(false)
	// This uses up the one request a second of the token.
	c.raw(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer x\r\n\r\n")
	check("too many requests", 429, s.Entry.Errors["429"], "Authorization: Bearer x\r\n")
	one.hangs.Store(true)
	for _, path := range []string{"/", "/other"} {
		eventually(t, 5*time.Second, func() error { return c.get(path).is(503) })
	}
	check("no node is there", 503, strangePage, "")
}
