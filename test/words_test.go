package test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/token"
)

// evilServer is an application that is healthy until it is asked for /evil. After that its health
// answers forge rows and control the terminal.
const evilServer = `
import http.server, os, sys
evil = False
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global evil
        evil = evil or self.path == "/evil"
        self.send_response(503 if evil and self.path == "/health" else 200)
        self.end_headers()
        self.wfile.write(b"\x1b[2K\x1b[1Aredis-9  master  up\r\nredis-8  master  up")
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
`

// runInShell runs a command line from a message in a shell, as if it were pasted there.
func (s *instance) runInShell(line string) (said string, code int) {
	s.t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "TOKEN="+strings.Repeat("t", 32))
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// The program, the file and the state directory of the stack have a space in their paths, and its
// entry requires tokens.
func TestWhatIsSaidCanBePastedAndIsNotForged(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, "")
	s.file, s.state = filepath.Join(s.dir, "my stack.yaml"), filepath.Join(s.dir, "my state")
	s.write("name: " + s.name + "\n" + minimal(t) + fmt.Sprintf(`
apps:
  web:
    kv: {tokens: [{name: all, hash: "%s"}]}
  mine:
    command: [python3, "evil server.py"]
    nodes: 1
    health: {path: /health}
routes:
  - {path-prefix: [/evil, /health], app: mine}
  - app: web
`, token.Hash(strings.Repeat("t", 32))))
	if err := os.WriteFile(filepath.Join(s.dir, "evil server.py"), []byte(evilServer), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "my bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(s.dir, "my bin", "holdfast")); err != nil {
		t.Fatal(err)
	}
	// The command as a person types it, in the directory of the stack.
	const typed = "'my bin/holdfast'"
	here := " -f 'my stack.yaml' --state 'my state'"

	said, code := s.runInShell(typed + " up -d" + here)
	if code != 0 {
		t.Fatalf("up -d: exit %d\n%s", code, said)
	}
	s.awaitHealthy()
	_, tries, _ := strings.Cut(said, "\nTry")
	lines := strings.Split(strings.TrimSpace(tries), "\n")[1:]
	if len(lines) != 3 {
		t.Fatalf("it suggests %q\n%s", lines, said)
	}
	for i, want := range []string{"OK. We have set imooc", "imooc.com", s.name + ": ready"} {
		if said, code := s.runInShell(lines[i]); code != 0 || !strings.Contains(said, want) {
			t.Errorf("pasted %s: exit %d\n%s", lines[i], code, said)
		}
	}

	s.runInShell(typed + " pause web-2" + here)
	said, code = s.runInShell(typed + " start web-2" + here)
	hint := regexp.MustCompile(`"('my bin/holdfast' resume [^"]*)"`).FindStringSubmatch(said)
	if code == 0 || hint == nil {
		t.Fatalf("start of a paused node: exit %d\n%s", code, said)
	}
	if said, code := s.runInShell(hint[1]); code != 0 {
		t.Errorf("pasted %s: exit %d\n%s", hint[1], code, said)
	}

	resp, err := http.Get(s.status().Entry + "/evil")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s.await("the evil answer in status", 20*time.Second, func() bool {
		said, _ = s.runInShell(typed + " status" + here)
		return strings.Contains(said, `redis-8  master  up`)
	})
	if strings.ContainsAny(said, "\x1b\r") || strings.Contains(said, "\nredis-9") || strings.Contains(said, "\nredis-8") {
		t.Errorf("an answer of an application forged the status:\n%q", said)
	}
}
