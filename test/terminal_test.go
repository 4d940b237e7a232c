package test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// onTerminal is a command with a terminal of its own, as a shell would give it.
type onTerminal struct {
	*exec.Cmd
	keys io.Writer // writes what is typed
	mu   sync.Mutex
	said strings.Builder
	all  sync.WaitGroup
}

// startOnTerminal starts a holdfast command on a terminal.
func (s *instance) startOnTerminal(args ...string) *onTerminal {
	s.t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		s.t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		s.t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer tty.Close()
	c := &onTerminal{Cmd: s.command(args...), keys: screen}
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	c.all.Go(func() {
		in := bufio.NewReader(screen)
		for {
			b, err := in.ReadByte()
			if err != nil { // nothing has the terminal open any more
				return
			}
			c.mu.Lock()
			c.said.WriteByte(b)
			c.mu.Unlock()
		}
	})
	return c
}

// output returns what it has written so far.
func (c *onTerminal) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.String()
}

// end waits for its end, and returns what it wrote and its exit code.
func (c *onTerminal) end(t *testing.T) (string, int) {
	t.Helper()
	_ = c.Wait() // the exit code is returned
	c.all.Wait()
	return c.output(), c.ProcessState.ExitCode()
}
