package test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/certificate"
)

// The page of an answer that a balancer gives by itself is in a file, and apply takes up a change
// of the file.
func TestPagesOfTheOperatorsOwnAreFiles(t *testing.T) {
	beside(t, oneStack)
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

	t.Run("a tcp entry with a certificate comes and goes", func(t *testing.T) { copiesGo(t, s) })

	// The running stack has the page, and no longer needs the file.
	if err := os.RemoveAll(filepath.Join(s.dir, "errors")); err != nil {
		t.Fatal(err)
	}
	requireWords(t, s.fails(1, "status"), "errors/503.html does not exist", "so the page stays")
	s.must("restart", "balancer-1")
	s.await("the page without its file", 10*time.Second, func() bool { return shown() == second })

	// Nor does a supervisor that starts again. What would change the stack refuses the file.
	requireWords(t, s.fails(2, "config", "check"), "errors/503.html does not exist")
	requireWords(t, s.fails(2, "apply", "--yes"), "errors/503.html does not exist")
	for _, what := range []string{"missing", "broken"} {
		if what == "broken" {
			put("no page")
		}
		pid := s.status().Supervisor
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.await("the end of the supervisor", 10*time.Second, func() bool { return syscall.Kill(pid, 0) != nil })
		requireWords(t, s.fails(1, "up", "-d"), "entry.errors.503", "so the page stays", "runs but is not ready")
		if now := s.status().Supervisor; now == pid || now == 0 {
			t.Errorf("with a %s page there is no supervisor", what)
		}
		requireWords(t, s.must("logs", "supervisor"), "the file of a page is refused")
		found, _, code := s.run("doctor")
		if requireWords(t, found, "the file of a page is refused: entry.errors.503"); code != 1 {
			t.Errorf("doctor ends with %d", code)
		}
		if got := shown(); got != second {
			t.Errorf("with a %s page the balancer says %q", what, got)
		}
	}
	put(second)
	if said := s.fails(1, "status"); strings.Contains(said, "entry.errors") {
		t.Errorf("the page is there, and status says %s", said)
	}
}

// copiesGo checks that the copies of an entry's certificates go with the entry: they have the
// private keys.
func copiesGo(t *testing.T, s *instance) {
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := certificate.SelfSigned([]string{"own.example.com"}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "own.pem"), pair.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	s.write(string(text) + fmt.Sprintf("tcp: [{listen: \"127.0.0.1:%d\", app: site, tls: {certificates: [{certificate: own.pem}]}}]\n", port))
	s.must("apply", "--yes")
	s.await("the certificate", 10*time.Second, func() bool {
		got, err := shownAt(port)
		return err == nil && got.Equal(pair.Leaf)
	})
	copies := filepath.Join(s.state, "certificates")
	if _, err := os.Stat(copies); err != nil {
		t.Fatal(err)
	}
	s.write(string(text))
	s.must("apply", "--yes")
	if _, err := os.Stat(copies); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copies are still there: %v", err)
	}
	if c := s.status().Certificates; len(c) > 0 {
		t.Errorf("the status tells of %+v", c)
	}
}
