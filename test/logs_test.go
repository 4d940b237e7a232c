package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/logs"
	"holdfast/internal/process"
)

// floodingStack returns a stack without Redis whose only node writes without a pause.
func floodingStack(t *testing.T) string {
	return minimal(t) + fmt.Sprintf(`
apps:
  site:
    nodes: 1
    command: [sh, -c, 'yes "a node that never stops to talk" & exec %s files --dir . --listen 127.0.0.1:$PORT']
    health:
      path: /holdfast.yaml
redis: {enabled: false}
`, binary)
}

// logWriter returns the running log writer.
func (s *instance) logWriter() process.ID {
	s.t.Helper()
	var id process.ID
	s.await("a log writer", 30*time.Second, func() bool {
		var known bool
		id, known = logs.Running(s.state)
		return known && process.Alive(id)
	})
	return id
}

// awaitNewLogFile waits until a log has a new newest file, and checks meanwhile that its files keep
// their limit.
func (s *instance) awaitNewLogFile(node string) {
	s.t.Helper()
	path := filepath.Join(s.state, "logs", node+".log")
	before, _ := os.Stat(path)
	s.await("more of the log of "+node, 60*time.Second, func() bool {
		var all int64
		files, _ := filepath.Glob(path + "*")
		for _, f := range files {
			if info, err := os.Stat(f); err == nil {
				all += info.Size()
			}
		}
		if all > 40<<20 {
			s.t.Fatalf("the logs of %s take %d bytes", node, all)
		}
		now, err := os.Stat(path)
		return err == nil && before != nil && !os.SameFile(before, now)
	})
}

func TestTheLogOfANodeThatNeverStopsKeepsItsLimitThroughEveryDeath(t *testing.T) {
	s, st := runningInstance(t, floodingStack(t))
	pid := s.node("site-1").PID
	for range 4 {
		s.awaitNewLogFile("site-1")
	}

	first := s.logWriter()
	kill(t, first.PID)
	s.await("another writer", 30*time.Second, func() bool { return s.logWriter() != first })
	s.awaitNewLogFile("site-1")

	// Without a supervisor the writer goes on, and the next supervisor adopts it.
	second := s.logWriter()
	s.killSupervisor()
	s.awaitNewLogFile("site-1")
	s.must("up", "-d")
	if now := s.logWriter(); now != second {
		t.Errorf("the writer was %+v and is %+v", second, now)
	}

	// Without both, the node waits, and goes on with the next ones.
	s.killSupervisor()
	kill(t, second.PID)
	if code, _ := get(t, st.Entry+"/holdfast.yaml"); code != 200 {
		t.Errorf("without a writer: %d", code)
	}
	s.must("up", "-d")
	s.awaitNewLogFile("site-1")
	if now := s.node("site-1").PID; now != pid {
		t.Errorf("site-1 was pid %d and is %d", pid, now)
	}

	last := s.logWriter()
	s.must("down")
	if process.Alive(last) {
		t.Error("the writer runs after down")
	}
	if out := s.must("logs", "site", "-n", "1"); !strings.HasSuffix(out, " a node that never stops to talk\n") {
		t.Errorf("the last line: %q", out)
	}
}

func TestALogWriterThatHangsIsReplaced(t *testing.T) {
	s, _ := runningInstance(t, floodingStack(t))
	hung := s.logWriter()
	if err := syscall.Kill(hung.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.await("another writer", 60*time.Second, func() bool { return s.logWriter() != hung })
	s.awaitNewLogFile("site-1")
}

func TestABalancerSaysOnceThatAServerIsDown(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, withoutRedis(t)+fmt.Sprintf("tcp: [{listen: 127.0.0.1:%d, app: site}]\n", freePort(t)))
	s.must("pause", "site-1")
	var down []string
	s.await("a line about it", 30*time.Second, func() bool {
		down = nil
		for line := range strings.Lines(s.must("logs", "balancer")) {
			if strings.Contains(line, "site-1 is DOWN, reason: Layer7 timeout") {
				down = append(down, line)
			}
		}
		return len(down) >= 4 // two balancers with two entries each
	})
	for _, line := range down {
		if !strings.Contains(line, "[WARNING]") {
			t.Errorf("said again: %s", line)
		}
	}
}

func TestTheWordsOfANodeThatCannotStartAreShown(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t)+`
apps:
  mine:
    nodes: 1
    command: [sh, -c, 'echo "no sea is calm enough"; printf "I give up" >&2; exit 7']
redis: {enabled: false}
`)
	requireWords(t, s.fails(1, "up", "-d"), "mine-1", "no sea is calm enough", "I give up")
	out := s.must("logs", "mine")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) < 4 || len(lines)%2 != 0 {
		t.Errorf("the words of several starts are not lines of their own:\n%s", out)
	}
}
