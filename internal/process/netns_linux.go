package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Within does something in a network namespace, which has a path such as
// /run/netns/NAME; the empty path is the namespace this process is in. Sockets
// that it makes, and processes that it starts, belong to that namespace.
// Nothing but the network is another one there. ErrNoNetwork says that there is
// no such namespace.
func Within(netns string, do func() error) error {
	if netns == "" {
		return do()
	}
	// Open before there is a thread to lose.
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

// inside does something in a namespace. Its goroutine must end with it: the
// namespace is the thread's, which the runtime ends with a goroutine that is
// locked to it.
func inside(netns *os.File, do func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// A process' first thread cannot end alone, and stands for the whole
		// process in /proc. It is held here, so that another one is taken.
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
