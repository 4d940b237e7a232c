package supervise

import (
	"os"
	"path/filepath"
	"testing"
)

// The supervisor could not write the record of a process, because the disk was full or it was
// killed. The next supervisor finds the process anyway.
func TestAProcessWithoutARecordIsAdopted(t *testing.T) {
	// In each case one of the two traces is missing: environment or output. Redis, too, overwrites
	// its environment.
	for what, script := range map[string]string{
		"by its environment": "exec sleep 1000 >/dev/null 2>&1",
		"by its output":      "exec env -i sleep 1000",
	} {
		s, n := oneNode(t, script)
		s.Watch()
		must(t, s, ActStart)
		must(t, s, ActRestart) // the former process has a record
		first := status(s).PID
		path := s.dir.path("nodes", "web-1", processFile)
		if err := os.Rename(path, path+".kept"); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(path, "in-the-way"), 0o700); err != nil {
			t.Fatal(err)
		}
		must(t, s, ActRestart)
		s.halt() // as if the supervisor were killed
		s.tasks.Wait()
		second := n.proc.ID().PID
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".kept", path); err != nil {
			t.Fatal(err)
		}

		if err := s.hosts.here.recordLaunched(t.Context(), s.log); err != nil {
			t.Fatal(err)
		}
		r, err := s.home("web-1").readRecord(t.Context(), "web-1")
		if err != nil || r.Process != n.proc.ID() || r.Plan != s.digest(*n.spec()) || r.Want != wantUp || r.Address != n.spec().Address {
			t.Errorf("%s: the record is %+v, %v; it runs as %d, and before that as %d", what, r, err, second, first)
		}
		if noted(t, s) {
			t.Errorf("%s: the note of the start is left", what)
		}
		next := successor(t, s, *n.spec())
		next.Watch()
		await1(t, next, "up under the next supervisor", func(st NodeStatus) bool { return st.State == Up && st.PID == second })
		must(t, next, ActStop)
	}
}

// noted reports whether there is a note of a start of web-1.
func noted(t *testing.T, s *Supervisor) bool {
	t.Helper()
	var l launchNote
	if err := s.home("web-1").readJSON(t.Context(), inHome("web-1", launchFile), &l); err != nil {
		t.Fatal(err)
	}
	return l.Token != ""
}

func TestANoteOfAStartThatDidNotHappenIsForgotten(t *testing.T) {
	for what, note := range map[string]string{"whole": `{"token":"ABC"}`, "half": `{"tok`, "empty": ""} {
		s, _ := oneNode(t, "exec sleep 1000")
		path := s.dir.path("nodes", "web-1", launchFile)
		if err := os.WriteFile(path, []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.hosts.here.recordLaunched(t.Context(), s.log); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if noted(t, s) {
			t.Errorf("%s: it is left", what)
		}
		if r, err := s.home("web-1").readRecord(t.Context(), "web-1"); err != nil || r.Process.PID != 0 {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}

// The note overwrites the last one in place, which needs no room on the disk.
func TestANoteOfAStartTakesThePlaceOfTheLastOne(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	if _, err := n.noteLaunch(); err != nil {
		t.Fatal(err)
	}
	path := s.dir.path("nodes", "web-1", launchFile)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s.home("web-1").endLaunch(t.Context(), "web-1")
	if noted(t, s) {
		t.Error("it is there after its end")
	}
	if _, err := n.noteLaunch(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) || after.Size() != before.Size() || !noted(t, s) {
		t.Errorf("before %v, after %v, %v", before, after, err)
	}
}
