package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tokens of the stack in these tests.
const (
	writerToken = "a-token-that-writes"
	readerToken = "a-token-that-reads"
)

// upstashClient installs the @upstash/redis client and the programs of testdata/upstash that use
// it, once for all tests. They are removed with the binary.
var upstashClient = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(filepath.Dir(binary), "upstash")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "upstash"))); err != nil {
		return "", err
	}
	npm := exec.Command("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir)
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install: %w (scripts/setup --test installs npm)\n%s", err, out)
	}
	return dir, nil
})

// upstash starts a stack with tokens, for the programs in dir.
func upstash(t *testing.T) (s *instance, dir string, env []string) {
	t.Helper()
	dir, err := upstashClient()
	if err != nil {
		t.Fatal(err)
	}
	s = newInstance(t, fmt.Sprintf(`%s
apps:
  web:
    kv:
      tokens:
        - {name: writer, hash: %x}
        - {name: reader, hash: %x, mode: read-only}
`, minimal(t), sha256.Sum256([]byte(writerToken)), sha256.Sum256([]byte(readerToken))))
	s.must("up", "-d")
	return s, dir, append(os.Environ(), "ENTRY="+s.awaitHealthy().Entry, "WRITER="+writerToken, "READER="+readerToken)
}

func TestTheUpstashClientFindsEverythingAsItExpects(t *testing.T) {
	beside(t, oneStack)
	_, dir, env := upstash(t)
	cmd := exec.CommandContext(t.Context(), "node", "features.mjs")
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("\nok ")) < 20 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheUpstashClientDoesNotNoticeAKilledMaster(t *testing.T) {
	s, dir, env := upstash(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "load.mjs")
	cmd.Dir, cmd.Env = dir, env
	var complaints strings.Builder
	cmd.Stderr = &complaints
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "going" {
		t.Fatalf("the load does not go: %q\n%s", lines.Text(), &complaints)
	}
	entry := s.awaitHealthy().Entry
	ask := func(body string) (int, string) { return askAs(t, "POST", entry+"/", writerToken, body) }
	if status, body := ask(`["EVAL","for i = 1, 1000 do redis.call('SADD', 'members', 'member ' .. i) end","0"]`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	var page struct{ Result [2]json.RawMessage }
	var loaded struct{ Result string }
	for request, answer := range map[string]any{`["SSCAN","members","0"]`: &page, `["SCRIPT","LOAD","return {KEYS[1], 7}"]`: &loaded} {
		if _, body := ask(request); json.Unmarshal([]byte(body), answer) != nil {
			t.Fatalf("%s: %s", request, body)
		}
	}
	old := s.master()
	s.killNode(old)
	s.await("another master", 20*time.Second, func() bool { m := s.master(); return m != "" && m != old })
	// This holds at whichever web node answers.
	for range 4 {
		if status, body := ask(`["EVALSHA","` + loaded.Result + `","1","k"]`); status != 200 || body != `{"result":["k",7]}` {
			t.Errorf("a script that was loaded before: %d %s", status, body)
		}
		if status, body := ask(`["SSCAN","members",` + string(page.Result[0]) + `]`); status != 410 || !strings.Contains(body, "begin again") {
			t.Errorf("a cursor of the master that died: %d %s", status, body)
		}
	}
	// A busy machine gets little done in a given time, so the test waits for an event.
	if _, err := stdin.Write([]byte("a new master\n")); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != "gone on" {
		t.Fatalf("the load does not go on: %q\n%s", lines.Text(), &complaints)
	}
	stdin.Close()
	lines.Scan()
	var result struct {
		Requests      int
		Failed, Wrong []string
		Longest       float64 // in milliseconds
	}
	if err := json.Unmarshal(lines.Bytes(), &result); err != nil {
		t.Fatalf("%v in %q\n%s", err, lines.Text(), &complaints)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("node: %v\n%s", err, &complaints)
	}
	t.Logf("%d requests, %d failed, longest answer %.0f ms", result.Requests, len(result.Failed), result.Longest)
	if result.Requests < 300 || result.Longest < 100 {
		t.Error("too little traffic to judge, or no failover in it")
	}
	for _, w := range result.Wrong {
		t.Errorf("wrong: %s", w)
	}
	for _, f := range result.Failed {
		t.Errorf("failed: %s", f)
	}
}
