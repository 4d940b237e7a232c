package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Within calls do in a network namespace, given by a path such as
// /run/netns/NAME. The empty path is the namespace of this process. Sockets that
// do makes, and processes that it starts, belong to that namespace; only the
// network is different there. The error is ErrNoNetwork if there is no such
// namespace.
func Within(netns string, do func() error) error {
	if netns == "" {
		return do()
	}
	// Opened here, before a thread is given up for it (inside).
	f, err := os.Open(netns)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoNetwork, err)
	}
	if err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	defer f.Close()
	done := make(chan error, 1)
	go func() { done <- inside(f, do) }()
	return <-done
}

// inside calls do in a namespace. Its goroutine must end when it returns: the
// namespace belongs to the thread, and the runtime ends a thread together with
// the goroutine that is locked to it.
func inside(netns *os.File, do func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread of a process cannot end alone, and represents the whole
		// process in /proc. It stays locked here, so that the new goroutine gets
		// another thread.
		defer runtime.UnlockOSThread()
		done := make(chan error, 1)
		go func() { done <- inside(netns, do) }()
		return <-done
	}
	if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace %s: %w", netns.Name(), err)
	}
	return do()
}
