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

// A host of the drill's own may have a clock of its own, for its programs in C: HAProxy, Redis and
// Sentinel. libfaketime is loaded before the C library and adds the number in a file to the time of
// day. It leaves CLOCK_MONOTONIC alone. The machine's own clock is not touched.
//
// Holdfast's own processes keep the machine's time, because Go asks the kernel and not the C
// library. LD_PRELOAD also names the C library, because Redis' allocator asks for the time before
// libfaketime is ready.

// clockPatterns are the paths at which packages install the library, in the variant for programs
// with threads.
var clockPatterns = []string{"/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1"}

// clockLibrary returns the path of libfaketime, or an error that says how to install it.
func clockLibrary() (string, error) {
	for _, pattern := range clockPatterns {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("this fault sets the clocks of hosts, and the library libfaketime is missing: install it with 'apt-get install faketime'")
}

// clockFile returns the file that holds how far the clock of a host is ahead.
func (s *supervisedStack) clockFile(one host) string { return s.stateOf(one.name) + ".clock" }

// makeClocks gives every host a clock of its own, set to the right time.
func (s *supervisedStack) makeClocks() error {
	if _, err := clockLibrary(); err != nil {
		return err
	}
	for _, one := range s.hosts.all {
		if err := s.setClock(one, 0); err != nil {
			return err
		}
	}
	for _, path := range []string{s.hostClock(), s.rightClock()} {
		if err := os.WriteFile(path, []byte(clockText(0)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// hostClock returns the path at which each host finds its own clock file.
func (s *supervisedStack) hostClock() string { return filepath.Join(s.base, "host.clock") }

// rightClock returns a clock file with the right time.
func (s *supervisedStack) rightClock() string { return filepath.Join(s.base, "right.clock") }

// withClock is a script that mounts clock file $1 at $2 and runs a program with the given
// variables. All nodes get the environment of the leading host, so the clock file has one path on
// every host, and a different content behind it. /dev/shm is a mount of its own, too: the library
// creates files there and leaves them if its process is killed. Only the program that 'ip netns
// exec' runs, and its children, see both mounts.
const withClock = `mount --bind "$1" "$2" && mount -t tmpfs holdfast-drill /dev/shm && shift 2 && exec env "$@"`

// clockOf returns the words before a command on a host that give its processes the clock of the
// host.
func (s *supervisedStack) clockOf(one host) []string {
	library, err := clockLibrary()
	if !s.clocks || err != nil { // makeClocks has reported it
		return nil
	}
	return []string{
		"sh", "-c", withClock, "sh", s.clockFile(one), s.hostClock(), "LD_PRELOAD=" + library + ":libc.so.6",
		"FAKETIME_TIMESTAMP_FILE=" + s.hostClock(), "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
	}
}

// setClock sets how far the clock of a host is ahead of the right time. It takes effect within a
// second.
func (s *supervisedStack) setClock(one host, ahead time.Duration) error {
	// Written in place, since the host has mounted this very file. It is too short to be read
	// half-written.
	return os.WriteFile(s.clockFile(one), []byte(clockText(ahead)), 0o644)
}

// clockText returns how far a clock is ahead in libfaketime's format.
func clockText(ahead time.Duration) string {
	text := strconv.FormatInt(int64(ahead/time.Second), 10)
	if ahead >= 0 {
		text = "+" + text
	}
	return text + "\n"
}

// clocks returns how far the clocks of redis nodes are ahead of this machine's.
func (fc *faultContext) clocks(ctx context.Context) (map[string]time.Duration, error) {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return nil, err
	}
	ahead := map[string]time.Duration{}
	for _, n := range st.Nodes {
		if n.Kind != "redis" || n.PID == 0 {
			continue
		}
		asked := time.Now()
		now, err := fc.stack.admin(n.Name).Clock(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask %s for its time: %w", n.Name, err)
		}
		ahead[n.Name] = now.Sub(asked)
	}
	return ahead, nil
}
