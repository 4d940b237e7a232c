package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// StartClocked is Start, with a clock of its own for each node: see SetClock. It skips the
// test where libfaketime is missing; in continuous integration no test may be skipped.
func StartClocked(t testing.TB, replicas, sentinels int) *Cluster {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if len(found) == 0 {
		t.Skip("libfaketime is missing; scripts/setup --test installs it")
	}
	return startClocked(t, replicas, sentinels, nil, found[0])
}

// giveClock has the server start with a clock of its own, which is right. The C library's
// allocator comes before Redis' own, which asks for the time before the library can tell it.
func (s *Server) giveClock(t testing.TB, dir, library string) {
	if library == "" {
		return
	}
	s.clock = filepath.Join(dir, filepath.Base(s.Addr)+".clock")
	s.setClock(t, 0)
	s.cmd.Env = append(s.cmd.Environ(), "LD_PRELOAD="+library+":libc.so.6",
		"FAKETIME_TIMESTAMP_FILE="+s.clock, "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
	t.Cleanup(func() { // the library leaves files behind when its process is killed
		for _, name := range []string{"faketime_shm_", "sem.faketime_sem_"} {
			_ = os.Remove("/dev/shm/" + name + strconv.Itoa(s.cmd.Process.Pid))
		}
	})
}

// SetClock sets the clock of a server of StartClocked so far ahead of the right time, and
// waits until it is.
func (s *Server) SetClock(t testing.TB, ahead time.Duration) {
	t.Helper()
	s.setClock(t, ahead)
	Eventually(t, 10*time.Second, fmt.Sprintf("the clock of %s is %v ahead", s.Addr, ahead), func() bool {
		var seconds int64
		_, err := fmt.Sscanf(s.Do("TIME"), "%d", &seconds)
		return err == nil && (time.Until(time.Unix(seconds, 0))-ahead).Abs() < 5*time.Second
	})
}

func (s *Server) setClock(t testing.TB, ahead time.Duration) {
	t.Helper()
	if err := os.WriteFile(s.clock, fmt.Appendf(nil, "%+d\n", int64(ahead/time.Second)), 0o644); err != nil {
		t.Fatal(err)
	}
}
