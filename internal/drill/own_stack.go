package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/process"
	"holdfast/internal/stack"
)

// hostsPort is the entry's port on hosts of the drill's own, where nothing else listens.
const hostsPort = 6301

// disk is the size of a redis node's own disk, in MiB. It is a tmpfs: the disk, and what fills it,
// take memory.
const disk = 48

// ownStackSpec describes the stack that a drill stands up for itself.
type ownStackSpec struct {
	// text is a stack file without name, entry and hosts.
	text string
	// secure: the entry speaks HTTPS, with a certificate of its own.
	secure bool
	// hosts are the stack's hosts; without any, the stack runs directly on this machine. The drill
	// chooses their addresses. It also chooses the virtual addresses, as many as virtual has.
	hosts   []stack.Host
	virtual stack.Virtual
	// disks: the data of each redis node is on a disk of its own.
	disks bool
	// programs: each host has a program file of its own.
	programs bool
	// clocks: each host has a clock of its own.
	clocks bool
}

// standUp stands up a stack for this drill alone and waits until it is well. The journal then holds
// the steps that remove all of it.
func standUp(ctx context.Context, self string, j *journal, w ownStackSpec) (*supervisedStack, error) {
	if len(w.hosts) > 0 || w.disks {
		if err := hostsPossible(); err != nil {
			return nil, err
		}
	}
	// A short path of its own, and not below a state directory: the path of a unix socket is
	// limited to about 100 bytes.
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		return nil, err
	}

	if _, err := j.add(step{Why: "the directory " + dir, Remove: dir}); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}

	s := &supervisedStack{self: self, base: dir, ownStack: true, disks: w.disks, programs: w.programs, clocks: w.clocks, file: filepath.Join(dir, "holdfast.yaml")}
	entry := "  listen: 0.0.0.0:" + strconv.Itoa(hostsPort)
	if len(w.hosts) == 0 {
		s.source.endpoints = []endpoint{newEndpoint("", filepath.Join(dir, "s"))}
		listen, err := freeEntry()
		if err != nil {
			return nil, err
		}
		entry = "  listen: " + listen
	} else {
		if s.hosts, err = makeHosts(ctx, j, w.hosts); err != nil {
			return nil, fmt.Errorf("make hosts for the drill: %w", err)
		}
		for _, one := range s.hosts.all {
			s.source.endpoints = append(s.source.endpoints, newEndpoint(one.name, filepath.Join(dir, one.name)))
		}
		entry += s.hosts.virtualText(w.virtual)
	}
	if w.secure && s.hosts != nil {
		s.hosts.scheme = "https"
	}

	if err := s.declare(filepath.Base(dir), entry, w); err != nil {
		return nil, err
	}
	if w.disks {
		if err := s.makeDisks(ctx, j); err != nil {
			return nil, err
		}
	}

	if err := s.start(ctx, j); err != nil {
		return nil, fmt.Errorf("stand a stack up for the drill: %w", err)
	}
	return s, s.open(ctx)
}

// declare writes the stack file. The name has to be unique, because the search for free ports
// begins at a place that is computed from the name: two stacks then do not compete for the same
// ports.
func (s *supervisedStack) declare(name, entry string, w ownStackSpec) error {
	if w.secure {
		entry += "\n  tls: self-signed"
	}
	written := fmt.Sprintf("name: %s\nentry:\n%s\n  auth: none\n%s\n", name, entry, w.text)
	if s.hosts != nil {
		written += s.hosts.text(w.hosts)
	}
	var mistakes error
	if s.spec, _, mistakes = stack.Parse(s.file, []byte(written)); mistakes != nil {
		return fmt.Errorf("the stack for the drill: %w", mistakes)
	}
	return os.WriteFile(s.file, []byte(written), 0o600)
}

// start starts the stack.
func (s *supervisedStack) start(ctx context.Context, j *journal) error {
	if s.programs {
		if err := s.installPrograms(); err != nil {
			return err
		}
	}
	if s.clocks {
		if err := s.makeClocks(); err != nil {
			return err
		}
	}
	if s.hosts != nil {
		return s.startHosts(ctx) // makeHosts has added the steps that kill what runs there
	}
	// 'down' is enough: data and directories are removed with the temporary directory.
	if _, err := j.add(step{Why: "the drill's own stack", Command: s.command("down"), Unless: s.file, MustSucceed: true}); err != nil {
		return err
	}
	return s.runUp(ctx, j, []string{"up", "-d"})
}

// runUp runs the command that stands the stack up. The shell waits for a line on its standard
// input, until the journal holds the step that ends the command. Otherwise, if the drill were
// killed at this moment, the undoing would come first and the stack would come up after it.
func (s *supervisedStack) runUp(ctx context.Context, j *journal, up []string) error {
	words := s.command(up...)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `read -r go && exec "$@"`, "sh"}, words...)...)
	// On SIGTERM the command takes down what it has started.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = upPatience

	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said

	gate, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}

	id, err := process.Identify(cmd.Process.Pid)
	if err == nil {
		_, err = j.add(step{Why: "the start of the drill's own stack", Signal: syscall.SIGTERM, Process: id, Alone: true, Awaited: true, MustSucceed: true})
	}
	if err == nil {
		_, err = gate.Write([]byte("\n"))
	}
	gate.Close()

	if ended := cmd.Wait(); ended != nil {
		return errors.Join(err, fmt.Errorf("%s: %w: %s", strings.Join(words, " "), ended, strings.TrimSpace(said.String())))
	}
	return err
}

// upPatience is how long an interrupted start may take to take the stack down again.
const upPatience = 20 * time.Second

// makeDisks gives the data of every redis node a small disk of its own, on every host: which node
// runs on which host is decided later.
func (s *supervisedStack) makeDisks(ctx context.Context, j *journal) error {
	for _, seat := range s.source.endpoints {
		for i := range s.spec.Redis.Replicas + 1 {
			if err := makeDisk(ctx, j, dataIn(seat.state, "redis-"+strconv.Itoa(i+1))); err != nil {
				return err
			}
		}
	}
	return nil
}

func makeDisk(ctx context.Context, j *journal, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if _, err := j.add(step{Why: "the disk at " + dir, Unmount: dir, MustSucceed: true}); err != nil {
		return err
	}
	return run(ctx, "", "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0700", disk), "holdfast-drill", dir)
}

// dataIn returns the directory of a redis node's append-only file, within the state directory of
// its host.
func dataIn(state, node string) string { return filepath.Join(state, "nodes", node, "data") }

// freeEntry returns an address for clients on which nothing listens.
func freeEntry() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", fmt.Errorf("the entry of the drill's own stack: %w", err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
}

// freePort returns a port on which nothing listens, outside the range that the kernel gives to
// outgoing connections.
func freePort() (int, error) {
	const first, last, tries = 10000, 12000, 100
	for range tries {
		port := first + rand.IntN(last-first)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("none of %d ports between %d and %d is free", tries, first, last)
}
