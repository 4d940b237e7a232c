package test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The page of an answer that a balancer gives by itself is in a file, and apply takes up a change
// of the file.
func TestPagesOfTheOperatorsOwnAreFiles(t *testing.T) {
	t.Parallel()
	entry := freePort(t)
	s := newInstance(t, fmt.Sprintf("entry: {listen: \"127.0.0.1:%d\", errors: {503: errors/503.html}}\nbalancers: 1\napps: {site: {servers: [\"127.0.0.1:1\"], health: {path: /}}}\nredis: {enabled: false}\n", entry))
	if said := s.fails(2, "config", "check"); !strings.Contains(said, "holdfast.yaml:2:50: entry.errors.503: ") || !strings.Contains(said, "errors/503.html does not exist") {
		t.Errorf("config check says %s", said)
	}
	if said := s.fails(2, "up", "-d"); !strings.Contains(said, "holdfast.yaml:2:50: entry.errors.503: ") {
		t.Errorf("up says %s", said)
	}
	put := func(page string) {
		t.Helper()
		file := filepath.Join(s.dir, "errors", "503.html")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("<p>" + strings.Repeat("%", 5000))
	if said := s.fails(2, "config", "check"); !strings.Contains(said, "holdfast.yaml:2:50: ") || !strings.Contains(said, "too large") {
		t.Errorf("config check says %s", said)
	}
	shown := func() string {
		req, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d/", entry), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		_, body := answerOf(t)(http.DefaultClient.Do(req))
		return body
	}
	const first, second = "<!doctype html>\n<p>Back \"soon\", 100 %\n", "<!doctype html>\n<p>It takes longer\n"
	put(first)
	s.fails(1, "up", "-d") // without a server the stack is not ready
	s.await("the page", 10*time.Second, func() bool { return shown() == first })
	put(second)
	if got := s.must("apply", "--plan"); !strings.Contains(got, "entry.errors.503") {
		t.Errorf("apply --plan says %s", got)
	}
	s.must("apply", "--yes")
	s.await("the other page", 10*time.Second, func() bool { return shown() == second })

	// The running stack has the page, and no longer needs the file.
	if err := os.RemoveAll(filepath.Join(s.dir, "errors")); err != nil {
		t.Fatal(err)
	}
	if said := s.fails(1, "status"); !strings.Contains(said, "errors/503.html does not exist") || !strings.Contains(said, "goes by the file that the stack") {
		t.Errorf("status says %s", said)
	}
	s.must("restart", "balancer-1")
	s.await("the page without its file", 10*time.Second, func() bool { return shown() == second })
	put(second) // for the end of the test, which reads the stack file
}
