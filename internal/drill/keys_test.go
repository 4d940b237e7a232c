package drill

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// supervisedStub is a stack whose supervisor reports that entry.
type supervisedStub struct {
	control.Stack
	entry string
}

func (s supervisedStub) Status() supervise.Status { return supervise.Status{Entry: s.entry} }

// supervisor serves the control socket of a stack with that entry.
func supervisor(t *testing.T, entry string) (state string) {
	t.Helper()
	state, err := os.MkdirTemp("", "hf") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	stop, err := control.Start(state, control.Handler(supervisedStub{entry: entry}, nil, nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	return state
}

func TestTheKeysOfAKilledDrillAreRemovedAndNoOther(t *testing.T) {
	kept := []string{"drill:1:a", "drill:1:b", "drill:2:a", "kelp"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/keys", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Header.Get("Holdfast-Drill") != "hidden/store" { // the routes lead elsewhere
			w.WriteHeader(http.StatusNotFound)
			return
		}
		found := []string{}
		for _, k := range kept {
			if strings.HasPrefix(k, r.FormValue("prefix")) {
				found = append(found, k)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": found})
	})
	mux.HandleFunc("POST /pipeline", func(w http.ResponseWriter, r *http.Request) {
		var commands [][]string
		if err := json.NewDecoder(r.Body).Decode(&commands); err != nil {
			t.Error(err)
		}
		for _, c := range commands {
			kept = slices.DeleteFunc(kept, func(k string) bool { return c[0] == "DEL" && k == c[1] })
		}
		_, _ = w.Write([]byte(`[{"result":1}]`))
	})
	entry := httptest.NewServer(mux)
	defer entry.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := emptyJournal(t)
	state := supervisor(t, entry.URL)
	if err := os.WriteFile(filepath.Join(state, "stack.json"), []byte(`{"secrets": {"drill": "hidden"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	addSteps(t, j, step{Why: "the keys", Keys: &leftKeys{State: state, Entry: entry.URL, Prefix: "drill:1:", TokenFile: token, App: "store"}})
	if b, err := os.ReadFile(j.path); err != nil || strings.Contains(string(b), "secret") || strings.Contains(string(b), "hidden") {
		t.Errorf("%v: the journal is %s", err, b)
	}
	if err := j.undo(0); err != nil {
		t.Fatal(err)
	}
	if want := []string{"drill:2:a", "kelp"}; !slices.Equal(kept, want) {
		t.Errorf("left are %v, want %v", kept, want)
	}
}

func TestTheKeysOfAStackThatIsDownAreNotWaitedFor(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	data := filepath.Join(t.TempDir(), "nodes")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	j := emptyJournal(t)
	addSteps(t, j, step{Why: "the keys", Keys: &leftKeys{State: filepath.Dir(data), Entry: gone.URL, Prefix: "drill:1:"}, Unless: data})
	began := time.Now()
	if err := j.undo(0); err == nil || !j.onlyKeys() || len(j.steps) != 1 {
		t.Errorf("%v, left are %v", err, j.steps)
	}
	if took := time.Since(began); took >= keysLimit {
		t.Errorf("it took %v", took)
	}
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	if err := j.undo(0); err != nil || len(j.steps) > 0 {
		t.Errorf("when they went with the data: %v, left are %v", err, j.steps)
	}
}

func TestKeysAreNotForgottenBeforeTheyAreGone(t *testing.T) {
	asked := 0
	answer := http.StatusForbidden
	entry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(answer)
	}))
	defer entry.Close()
	state, elsewhere := supervisor(t, entry.URL), supervisor(t, "http://elsewhere")
	for _, tt := range []struct {
		what  string
		keys  leftKeys
		asked int
		want  string
	}{
		{"the token is no good", leftKeys{State: state}, 1, "403"},
		{"the token is gone", leftKeys{State: state, TokenFile: filepath.Join(state, "no")}, 0, "read the token"},
		{"a stranger is at the entry", leftKeys{State: elsewhere}, 0, "the stack's entry is http://elsewhere now"},
	} {
		asked = 0
		tt.keys.Entry, tt.keys.Prefix = entry.URL, "drill:1:"
		began := time.Now()
		if err := tt.keys.perform(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.what, err)
		}
		if asked != tt.asked || time.Since(began) >= keysLimit {
			t.Errorf("%s: the entry was asked %d times, in %v", tt.what, asked, time.Since(began))
		}
	}
	answer = http.StatusNotFound
	if err := (leftKeys{Entry: entry.URL}).remove(t.Context()); err == nil {
		t.Error("nobody knew of keys, and they were taken for removed")
	}
}

func TestTheKeysOfAnEarlierDrillAreInNobodysWay(t *testing.T) {
	for _, own := range []bool{true, false} {
		state := t.TempDir()
		j, err := openJournal(filepath.Join(state, journalName))
		if err != nil {
			t.Fatal(err)
		}
		addSteps(t, j, step{Why: "the keys", Keys: &leftKeys{State: state, Prefix: "drill:1:"}})
		notes := 0
		l, err := takeDrillLock(Config{State: state, Self: "true", Own: own, Note: func(string) { notes++ }})
		if err != nil {
			t.Fatal(err)
		}
		if told := notes == 1; told == own {
			t.Errorf("with a stack of its own: %v, notes: %d", own, notes)
		}
		mark := l.journal.checkpoint()
		addSteps(t, l.journal, step{Why: "nothing", Command: []string{"true"}})
		if err := l.journal.undo(mark); err != nil || len(l.journal.steps) != 1 {
			t.Errorf("%v, left are %v", err, l.journal.steps)
		}
		l.release()
	}
}

func TestADrillThatWasKilledLeavesNoLockAndNoDirectory(t *testing.T) {
	for _, made := range []bool{true, false} {
		state := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(state, 0o700); err != nil {
			t.Fatal(err)
		}
		held, err := lock(state)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lock(state); err == nil || !strings.Contains(err.Error(), state) {
			t.Errorf("a second drill is told %v", err)
		}
		if made {
			if _, err := held.WriteString(madeMark); err != nil {
				t.Fatal(err)
			}
		}
		held.Close() // as the kernel does when the process ends
		if _, err := Undo(t.Context(), state, strings.NewReader(""), true); err != nil {
			t.Fatal(err)
		}
		if exists(state, lockName) || exists(state, "") == made {
			t.Errorf("made by the drill: %v; lock left: %v, directory left: %v", made, exists(state, lockName), exists(state, ""))
		}
	}
}

func TestWhatTheUndoProcessCannotUndoIsWrittenDown(t *testing.T) {
	state := t.TempDir()
	j, err := openJournal(filepath.Join(state, journalName))
	if err != nil {
		t.Fatal(err)
	}
	addSteps(t, j, step{Why: "the impossible", Command: []string{"false"}})
	if _, err := Undo(t.Context(), state, strings.NewReader(""), true); err == nil {
		t.Error("it was undone")
	}
	b, err := os.ReadFile(filepath.Join(state, "logs", "drill.log"))
	if err != nil || !strings.Contains(string(b), "undo the impossible") {
		t.Errorf("%v: the log says %q", err, b)
	}
}

func TestADrillAndAPurgeKeepEachOtherOut(t *testing.T) {
	state := t.TempDir()
	held, err := lock(state)
	if err != nil {
		t.Fatal(err)
	}
	var under *supervise.DrillError
	if _, err := supervise.KeepDrillOut(state); !errors.As(err, &under) {
		t.Errorf("a purge is told %v", err)
	}
	held.Close() // as if the drill had been killed
	release, err := supervise.KeepDrillOut(state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(state); err == nil {
		t.Error("a drill begins in the midst of it")
	}
	time.AfterFunc(lockPatience/4, release)
	if held, err = lock(state); err != nil {
		t.Errorf("after a moment it is told %v", err)
	}
	unlock(held)
}
