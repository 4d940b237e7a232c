package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// withoutRedis returns a stack that is up at once: balancers and a file server.
func withoutRedis(t *testing.T) string {
	return minimal(t) + "apps:\n  site:\n    files: .\n"
}

func TestWhatTheCallerHoldsOpenIsHeldByNobodyElse(t *testing.T) {
	s := newInstance(t, withoutRedis(t))
	lock, err := os.Create(filepath.Join(s.dir, "caller.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	up := s.command("up", "-d")
	up.ExtraFiles = []*os.File{lock, lock} // descriptors 3 and 4, as a shell's "9>" makes one
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatalf("up -d: %v\n%s", err, out)
	}

	lock.Close()

	again, err := os.Open(lock.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the caller's lock is still held: %v", err)
	}
	st := s.status()
	pids := map[string]int{"the supervisor": st.Supervisor}
	for _, n := range st.Nodes {
		pids[n.Name] = n.PID
	}
	for name, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if len(fds) < 3 {
			t.Errorf("%s (pid %d) has %d open files", name, pid, len(fds))
		}
		for _, fd := range fds {
			if file, _ := os.Readlink(fd); file == lock.Name() {
				t.Errorf("%s holds the caller's file open", name)
			}
		}
	}
}
