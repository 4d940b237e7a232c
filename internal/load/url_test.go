package load

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/history"
)

func TestURLsAreReadAndRefused(t *testing.T) {
	for _, c := range []struct {
		text string
		want URL
		says string
	}{
		{"/cart", URL{"GET", "", "/cart", 0, false}, ""},
		{"/", URL{"GET", "", "/", 0, false}, ""},
		{"/a?b=c&d=%20", URL{"GET", "", "/a?b=c&d=%20", 0, false}, ""},
		{"/old 301", URL{"GET", "", "/old", 301, false}, ""},
		{"post /orders 201", URL{"POST", "", "/orders", 201, false}, ""},
		{"http://shop.example", URL{"GET", "shop.example", "/", 0, false}, ""},
		{"HEAD http://shop.example:8080/x", URL{"HEAD", "shop.example:8080", "/x", 0, false}, ""},
		{"", URL{}, "write a path"},
		{"cart", URL{}, "no method"},
		{"cart.html", URL{}, "no method"},
		{"BREW /tea", URL{}, "no method"},
		{"GET", URL{}, "write a path"},
		{"/a 99", URL{}, "no status"},
		{"/a b", URL{}, "no status"},
		{"/a 200 b", URL{}, "write a path"},
		{"https://shop.example/", URL{"GET", "shop.example", "/", 0, true}, ""},
		{"ftp://shop.example/", URL{}, "begins with /"},
		{"//shop.example/", URL{}, "begins with /"},
		{"http:/x", URL{}, "begins with /"},
		{"/a#b", URL{}, "fragment"},
		{"http://me@shop.example/", URL{}, "a user (@)"},
		{"/a\x7f", URL{}, "invalid control character"},
	} {
		got, err := ParseURL(c.text)
		switch {
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%q: %v", c.text, err)
		case c.says == "" && (err != nil || got != c.want):
			t.Errorf("%q: %+v, %v", c.text, got, err)
		case c.says == "":
			if again, err := ParseURL(got.Words()); err != nil || again != got {
				t.Errorf("%q is written as %q, which is %+v, %v", c.text, got.Words(), again, err)
			}
		}
	}
}

// shop is an application of the user's own. It records its requests.
type shop struct {
	mu    sync.Mutex
	asked []*http.Request
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	s.mu.Unlock()
	if r.Header.Get("Cookie") == "" {
		http.SetCookie(w, &http.Cookie{Name: "SHOP", Value: "shop-1", Path: "/", HttpOnly: true})
	}
	var status int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &status); err == nil {
		w.WriteHeader(status)
	}
	fmt.Fprint(w, "kelp")
}

func newShop(t *testing.T) (*shop, string) {
	s := &shop{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

func TestURLsAreAskedAndWhatBecameOfThemRecorded(t *testing.T) {
	s, url := newShop(t)
	cfg := Config{Entries: []string{url}, Prefix: "drill:1:", Rate: 500, Clients: 4, Timeout: 5 * time.Second, Seed: 1,
		URLs: []URL{{"GET", "", "/cart?x=1", 0, false}, {"POST", "shop.example", "/201", 201, false}, {"HEAD", "", "/", 0, false}}}
	l := newLoad(t, cfg)
	ops := run(t, l, 300*time.Millisecond)
	counts := map[string]int{}
	for _, op := range ops {
		if op.Kind != history.URL || op.Verb != history.Ask || op.Outcome != history.OK {
			t.Fatalf("%+v", op)
		}
		counts[op.Key]++
	}
	for _, u := range cfg.URLs {
		if counts[u.String()] == 0 {
			t.Errorf("%s was never asked: %v", u, counts)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	without := 0
	for _, r := range s.asked {
		if r.URL.Path == "/201" && (r.Host != "shop.example" || r.Method != http.MethodPost) || r.URL.Path == "/cart" && r.URL.RawQuery != "x=1" {
			t.Errorf("asked for %s %s%s", r.Method, r.Host, r.URL)
		}
		switch r.Header.Get("Cookie") {
		case "":
			without++
		case "SHOP=shop-1":
		default:
			t.Errorf("it sent %q", r.Header.Get("Cookie"))
		}
	}
	if without > cfg.Clients {
		t.Errorf("%d requests of %d clients came without the cookie", without, cfg.Clients)
	}
	if keys := l.keys(); len(keys) > 0 {
		t.Errorf("it has keys %v", keys)
	}
}

func TestWhatBecomesOfAURL(t *testing.T) {
	const ok, failed, unknown = history.OK, history.Failed, history.Unknown
	for _, c := range []struct {
		method   string
		status   int
		expected int
		want     history.Outcome
	}{
		{"GET", 200, 0, ok}, {"GET", 302, 0, ok}, {"GET", 404, 404, ok}, {"POST", 503, 503, ok},
		{"GET", 404, 0, failed}, {"GET", 500, 0, failed}, {"GET", 503, 0, failed}, {"GET", 200, 201, failed},
		{"POST", 404, 0, failed}, {"POST", 503, 0, unknown}, {"POST", 502, 0, unknown}, {"POST", 200, 201, unknown},
	} {
		_, url := newShop(t)
		cfg := Config{Entries: []string{url}, Prefix: "drill:1:", Rate: 100, Clients: 1, Timeout: 2 * time.Second,
			URLs: []URL{{c.method, "", fmt.Sprintf("/%d", c.status), c.expected, false}}}
		if op := one(t, newLoad(t, cfg), newLoad(t, cfg).task(0)); op.Outcome != c.want || op.Status != c.status {
			t.Errorf("%s answered with %d, expected %d: %s %+v", c.method, c.status, c.expected, op.Outcome, op)
		}
		_, err := Try(t.Context(), cfg)
		if (err == nil) != (c.want == ok) {
			t.Errorf("%s answered with %d, expected %d: tried, %v", c.method, c.status, c.expected, err)
		}
	}
}

// The error shows the application's answer on a terminal.
func TestAnAnswerIsQuoted(t *testing.T) {
	err := (&RefusedError{Request: "GET /", Status: 404, Answer: "404: \x1b[2Jup\nup"}).Error()
	if slices.ContainsFunc([]rune(err), func(r rune) bool { return r < ' ' }) {
		t.Errorf("%q", err)
	}
}
