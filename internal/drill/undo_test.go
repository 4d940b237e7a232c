package drill

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/process"
)

// emptyJournal returns an empty journal of the test's own.
func emptyJournal(t *testing.T) *journal {
	t.Helper()
	j, err := openJournal(filepath.Join(t.TempDir(), journalName))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func addSteps(t *testing.T, j *journal, steps ...step) {
	t.Helper()
	for _, s := range steps {
		if _, err := j.add(s); err != nil {
			t.Fatal(err)
		}
	}
}

// A stack that could not be taken down keeps its directory, so that taking it down can be tried
// again.
func TestWhatAStepNeedsIsNotTakenAwayBeforeItIsDone(t *testing.T) {
	j := emptyJournal(t)
	dir, mark, way := t.TempDir(), filepath.Join(t.TempDir(), "mark"), filepath.Join(t.TempDir(), "way")
	addSteps(t, j,
		step{Why: "the directory", Remove: dir},
		step{Why: "the stack", Command: []string{"test", "-e", way}, MustSucceed: true},
		step{Why: "something else that fails", Command: []string{"false"}},
		step{Why: "the mark", Command: []string{"touch", mark}},
	)
	err := j.undo(0)
	if err == nil || !strings.Contains(err.Error(), "undo the stack") || !strings.Contains(err.Error(), "undo something else") {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("a step that nothing kept was not done")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error("the directory of a stack that runs is gone")
	}
	if err := os.WriteFile(way, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := openJournal(j.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.undo(0); err == nil || strings.Contains(err.Error(), "the stack") {
		t.Errorf("the second time it says %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is left")
	}
}

func TestWhatUndoesIsNotOfTheTerminalsProcessGroup(t *testing.T) {
	j := emptyJournal(t)
	said := filepath.Join(t.TempDir(), "group")
	addSteps(t, j, step{Why: "nothing", Command: []string{"sh", "-c", "ps -o pgid= -p $$ >" + said}})
	if err := j.undo(0); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	if group, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || group == syscall.Getpgrp() {
		t.Errorf("its process group is %s, and the drill's %d", b, syscall.Getpgrp())
	}
}

// stackOf writes what a supervisor writes of a stack with one node, whose process has that pid.
func stackOf(t *testing.T, pid int) (state string) {
	t.Helper()
	state = t.TempDir()
	id, err := process.Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"process": id})
	if err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(state, "nodes", "web-1")
	if err := os.MkdirAll(node, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(node, "process.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return state
}

func TestNothingComesUpInAStackThatWasTakenDownMeanwhile(t *testing.T) {
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	state := stackOf(t, sleeper.Process.Pid)
	mark := filepath.Join(t.TempDir(), "mark")
	s := step{Why: "the death of the supervisor", Command: []string{"touch", mark}, Supervised: state, Running: state}
	if err := s.perform(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(mark); err != nil {
		t.Errorf("while a node runs it was not done: %v", err)
	}
	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	for _, how := range []string{"taken down", "purged"} {
		if err := s.perform(); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		if _, err := os.Stat(mark); err == nil {
			t.Errorf("%s, and it was done", how)
		}
		if err := os.RemoveAll(filepath.Join(state, "nodes")); err != nil {
			t.Fatal(err)
		}
	}
}
