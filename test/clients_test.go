package test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// clientCode returns the blocks of code of docs/clients.md by language, in order. The first block
// of each language is for REDIS_URL, and the second for the Sentinels.
func clientCode(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	code := map[string][]string{}
	for _, block := range strings.Split("\n"+string(text), "\n```")[1:] {
		if language, rest, _ := strings.Cut(block, "\n"); language != "" {
			code[language] = append(code[language], rest+"\n")
		}
	}
	for _, language := range []string{"python", "js", "go"} {
		if len(code[language]) != 2 {
			t.Fatalf("docs/clients.md has %d blocks of %s, want 2", len(code[language]), language)
		}
	}
	return code
}

// clientPrograms returns the commands of programs that connect as docs/clients.md shows, by name.
func clientPrograms(t *testing.T) map[string][]string {
	t.Helper()
	code, dir := clientCode(t), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "clients"))); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	loop := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	run := func(at string, command ...string) {
		t.Helper()
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir = at
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", command, err, out)
		}
	}
	programs := map[string][]string{}
	for i, way := range []string{"url", "sentinels"} {
		programs["redis-py "+way] = []string{"/usr/bin/python3", write(way+".py", code["python"][i]+loop("loop.py"))}
		programs["ioredis "+way] = []string{"node", write(way+".mjs", code["js"][i]+loop("loop.mjs"))}
		programs["go-redis "+way] = []string{filepath.Join(dir, "go", "clients")}
	}
	run(dir, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
	write("go/connect.go", "package main\n\nimport (\n\t\"os\"\n\t\"strings\"\n\t\"time\"\n\n\t\"github.com/redis/go-redis/v9\"\n)\n\n"+strings.Join(code["go"], "\n"))
	run(filepath.Join(dir, "go"), "go", "build", "-o", "clients", ".")
	return programs
}

// clientRun is a program that writes, and its report.
type clientRun struct {
	name  string
	cmd   *exec.Cmd
	stop  io.Closer
	lines *bufio.Scanner

	Tried   int            `json:"tried"`
	Failed  int            `json:"failed"`
	Longest float64        `json:"longest"` // seconds
	Errors  map[string]int `json:"errors"`
	Last    int            `json:"last"` // the value at the end
}

func startClient(t *testing.T, name string, command, env []string) *clientRun {
	t.Helper()
	_, way, _ := strings.Cut(name, " ")
	c := &clientRun{name: name, cmd: exec.Command(command[0], append(command[1:], "client:"+name, way)...)}
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), env...), os.Stderr
	stop, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stop, c.lines = stop, bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	if !c.lines.Scan() || c.lines.Text() != "ready" {
		t.Fatalf("%s says %q, %v", name, c.lines.Text(), c.lines.Err())
	}
	return c
}

// end makes the program report, and reads the report.
func (c *clientRun) end(t *testing.T) {
	t.Helper()
	c.stop.Close()
	said := ""
	for c.lines.Scan() {
		said = c.lines.Text()
	}
	if err := json.Unmarshal([]byte(said), c); err != nil {
		t.Errorf("%s says %q: %v", c.name, said, err)
	}
	_ = c.cmd.Wait()
}

// Clients that connect as docs/clients.md shows survive a switchover, and the death of the master.
func TestClientsGoOnWhenTheMasterChanges(t *testing.T) {
	beside(t, oneStack)
	programs := clientPrograms(t)
	s := withProgram(t)
	var env []string
	for _, name := range []string{"REDIS_URL", "REDIS_SENTINELS", "REDIS_MASTER_NAME"} {
		env = append(env, name+"="+s.environment("shop-1")[name])
	}
	for _, event := range []struct {
		what string
		do   func()
	}{
		{"switchover", func() { s.must("switchover") }},
		{"kill", func() {
			old := s.master()
			s.must("kill", old)
			s.await("another master", 20*time.Second, func() bool { m := s.master(); return m != "" && m != old })
			s.awaitHealthy()
		}},
	} {
		var all []*clientRun
		for name, command := range programs {
			all = append(all, startClient(t, name, command, env))
		}
		time.Sleep(time.Second) // some writes before the event
		event.do()
		time.Sleep(2 * time.Second) // and some after it
		var ending sync.WaitGroup
		for _, c := range all {
			ending.Go(func() { c.end(t) })
		}
		ending.Wait()
		for _, c := range all {
			t.Logf("%s | %s | %d of %d failed | %.2f s %v", c.name, event.what, c.Failed, c.Tried, c.Longest, c.Errors)
			refused := 0
			for says, n := range c.Errors {
				if strings.HasPrefix(says, "NOREPLICAS") {
					refused += n
				}
			}
			if c.name == "redis-py sentinels" && c.Failed == refused && refused < c.Tried/2 {
				c.Failed = 0 // as docs/clients.md says, it does not repeat errors of Redis
			}
			if c.name == "redis-py url" && c.Failed == c.Errors["Connection closed by server."] && c.Failed <= 2 {
				c.Failed = 0 // as docs/clients.md says
			}
			if c.Tried < 50 || c.Failed > 0 || c.Longest > 15 {
				t.Errorf("%s, %s: %d of %d writes failed, the longest took %.1f s: %v", c.name, event.what, c.Failed, c.Tried, c.Longest, c.Errors)
			}
			if c.Last != c.Tried {
				t.Errorf("%s, %s: the last write was %d, and %d is there", c.name, event.what, c.Tried, c.Last)
			}
		}
	}
}
