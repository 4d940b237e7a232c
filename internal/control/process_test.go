package control

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/process"
)

// standIn starts a process in a group of its own.
func standIn(t *testing.T) process.ID {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // it does not matter how it ends
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	id, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestADrillStrikesTheNodesOfAHostAndNothingElse(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	node, other := standIn(t), standIn(t)
	record, err := json.Marshal(map[string]any{"process": node})
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(state, "nodes", "redis-1")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "process.json"), record, 0o600); err != nil {
		t.Fatal(err)
	}
	call := func(c ProcessCall) (now ProcessState, code int) {
		t.Helper()
		body, _ := json.Marshal(c)
		w := httptest.NewRecorder()
		ProcessHandler(state).ServeHTTP(w, httptest.NewRequest(http.MethodPost, ProcessPath, strings.NewReader(string(body))))
		_ = json.Unmarshal(w.Body.Bytes(), &now) // an error answer has no state
		return now, w.Code
	}

	if now, _ := call(ProcessCall{PID: node.PID}); now.ID != node || !now.Alive || now.Stopped {
		t.Errorf("the node is %+v", now)
	}
	if _, code := call(ProcessCall{ID: node, Signal: syscall.SIGSTOP}); code != http.StatusOK {
		t.Errorf("stop: %d", code)
	}
	stopped := func(want bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if now, _ := call(ProcessCall{ID: node}); now.Stopped == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("stopped is not %v", want)
			}
		}
	}
	stopped(true)
	call(ProcessCall{ID: node, Signal: syscall.SIGCONT})
	stopped(false)

	if _, code := call(ProcessCall{ID: node, Signal: syscall.SIGTERM}); code != http.StatusConflict {
		t.Errorf("a signal that no drill sends: %d", code)
	}
	for _, strange := range []ProcessCall{{ID: other, Signal: syscall.SIGKILL}, {PID: other.PID, Signal: syscall.SIGKILL}, {PID: os.Getpid(), Signal: syscall.SIGSTOP}} {
		if _, code := call(strange); code != http.StatusConflict {
			t.Errorf("a process that is no node: %+v, %d", strange, code)
		}
	}
	if now, _ := call(ProcessCall{ID: other}); now.Alive {
		t.Errorf("a process that is no node is told of: %+v", now)
	}
	if !process.Alive(other) {
		t.Error("another process was struck")
	}
	call(ProcessCall{ID: node, Signal: syscall.SIGKILL})
	for end := time.Now().Add(10 * time.Second); process.Alive(node); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the node does not end")
		}
	}
	if now, code := call(ProcessCall{ID: node, Signal: syscall.SIGCONT}); code != http.StatusOK || now.Alive {
		t.Errorf("a node that has ended: %+v, %d", now, code)
	}
}

func TestAPauseIsNotEndedByAnEarlierOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pauses
		var wentOn atomic.Int32
		node := process.ID{PID: 1}
		pause := func() { p.begin(node, func() { wentOn.Add(1) }) }
		pause()
		time.Sleep(StoppedLimit - time.Second)
		p.end(node)
		pause()
		time.Sleep(StoppedLimit - time.Second)
		synctest.Wait()
		if wentOn.Load() != 0 {
			t.Error("the node goes on before its pause is over")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if wentOn.Load() != 1 || len(p.ends) != 0 {
			t.Errorf("after the limit it has gone on %d times, and %d pauses are left", wentOn.Load(), len(p.ends))
		}
	})
}
