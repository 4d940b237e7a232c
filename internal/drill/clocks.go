package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// A host of the drill's own may have a clock of its own: that of the programs in C on it,
// HAProxy, Redis and Sentinel. libfaketime, loaded before the C library, adds to the time of
// day what stands in a file, and leaves the clocks that nobody sets alone (CLOCK_MONOTONIC).
// Nobody touches the clock of the machine. Holdfast's own processes keep the machine's time:
// Go asks the kernel and not the C library. Redis' own allocator asks for the time before the
// library is ready, and so the C library's is put before it.

// clockPatterns are where packages put the library, the one for programs with threads.
var clockPatterns = []string{"/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1"}

// clockLibrary returns the path of libfaketime.
func clockLibrary() (string, error) {
	for _, pattern := range clockPatterns {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("this fault sets the clocks of hosts, and the library libfaketime is missing: install it with 'apt-get install faketime'")
}

// clockFile says how much the clock of a host is ahead.
func (t *target) clockFile(one host) string { return t.stateOf(one.name) + ".clock" }

// makeClocks gives every host a clock of its own, which is right.
func (t *target) makeClocks() error {
	if _, err := clockLibrary(); err != nil {
		return err
	}
	for _, one := range t.hosts.all {
		if err := t.setClock(one, 0); err != nil {
			return err
		}
	}
	for _, path := range []string{t.hostClock(), t.rightClock()} {
		if err := os.WriteFile(path, []byte(clockText(0)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// hostClock is the name that the file of each host has there.
func (t *target) hostClock() string { return filepath.Join(t.base, "host.clock") }

// rightClock is a file that says that a clock is right.
func (t *target) rightClock() string { return filepath.Join(t.base, "right.clock") }

// withClock is a script that runs a program with the clock of its host, by these variables.
// The nodes of all hosts get the environment of the host that leads, and so the file has one
// name everywhere, and is another one on each host. The library makes files in /dev/shm and
// leaves them there when its process is killed. Both are mounts that no other program sees
// than the one that 'ip netns exec' runs, and its children.
const withClock = `mount --bind "$1" "$2" && mount -t tmpfs holdfast-drill /dev/shm && shift 2 && exec env "$@"`

// clockOf are the words before a command on a host that give what it starts the clock of
// the host.
func (t *target) clockOf(one host) []string {
	library, err := clockLibrary()
	if !t.clocks || err != nil { // makeClocks has told
		return nil
	}
	return []string{
		"sh", "-c", withClock, "sh", t.clockFile(one), t.hostClock(), "LD_PRELOAD=" + library + ":libc.so.6",
		"FAKETIME_TIMESTAMP_FILE=" + t.hostClock(), "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
	}
}

// setClock has the clock of a host be so much ahead of the right time. It is read within a
// second.
func (t *target) setClock(one host, ahead time.Duration) error {
	// In place: the host has this very file. It is too short to be read in part.
	return os.WriteFile(t.clockFile(one), []byte(clockText(ahead)), 0o644)
}

// clockText is how much a clock is ahead in libfaketime's words.
func clockText(ahead time.Duration) string {
	text := strconv.FormatInt(int64(ahead/time.Second), 10)
	if ahead >= 0 {
		text = "+" + text
	}
	return text + "\n"
}

// clocks are how far the clocks of redis nodes are ahead of this machine's.
func (s *scene) clocks(ctx context.Context) (map[string]time.Duration, error) {
	st, err := s.stack.status(ctx)
	if err != nil {
		return nil, err
	}
	ahead := map[string]time.Duration{}
	for _, n := range st.Nodes {
		if n.Kind != "redis" || n.PID == 0 {
			continue
		}
		asked := time.Now()
		now, err := s.stack.admin(n.Name).Clock(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask %s for its time: %w", n.Name, err)
		}
		ahead[n.Name] = now.Sub(asked)
	}
	return ahead, nil
}
