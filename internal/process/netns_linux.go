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
	go func() {
		// The namespace is the thread's. It is never unlocked, so that the
		// runtime ends the thread with this goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace %s: %w", netns, err)
			return
		}
		done <- do()
	}()
	return <-done
}
