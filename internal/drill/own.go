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

// hostsPort is the entry's port on hosts of the drill's own, where nobody else
// has any.
const hostsPort = 6301

// disk is how large the disk of a redis node is that has one of its own, in
// MiB. It is memory, and so is what fills it.
const disk = 48

// wanted is the stack that a drill stands up for itself.
type wanted struct {
	// text is a stack file's without name, entry and hosts.
	text string
	// hosts are its hosts; none: it is on this machine as it is. Their addresses are the
	// drill's to choose, and so are the virtual ones, of which there are as many.
	hosts   []stack.Host
	virtual stack.Virtual
	// disks: the data of each redis node is on a disk of its own.
	disks bool
	// programs: each host has a program file of its own.
	programs bool
	// clocks: each host has a clock of its own.
	clocks bool
}

// standUp stands a stack up for the drill alone, and waits until it is well. What takes it
// all away again is in the journal.
func standUp(ctx context.Context, self string, j *journal, w wanted) (*target, error) {
	if len(w.hosts) > 0 || w.disks {
		if err := hostsPossible(); err != nil {
			return nil, err
		}
	}
	// Not in the state directory of anybody: a unix socket's path may have
	// about a hundred bytes.
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		return nil, err
	}
	if _, err := j.add(step{Why: "the directory " + dir, Remove: dir}); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	t := &target{self: self, base: dir, own: true, disks: w.disks, programs: w.programs, clocks: w.clocks, file: filepath.Join(dir, "holdfast.yaml")}
	entry := "  listen: 0.0.0.0:" + strconv.Itoa(hostsPort)
	if len(w.hosts) == 0 {
		t.helm.seats = []seat{newSeat("", filepath.Join(dir, "s"))}
		listen, err := freeEntry()
		if err != nil {
			return nil, err
		}
		entry = "  listen: " + listen
	} else {
		if t.hosts, err = makeHosts(ctx, j, w.hosts); err != nil {
			return nil, fmt.Errorf("make hosts for the drill: %w", err)
		}
		for _, one := range t.hosts.all {
			t.helm.seats = append(t.helm.seats, newSeat(one.name, filepath.Join(dir, one.name)))
		}
		entry += t.hosts.virtualText(w.virtual)
	}
	if err := t.declare(filepath.Base(dir), entry, w); err != nil {
		return nil, err
	}
	if w.disks {
		if err := t.makeDisks(ctx, j); err != nil {
			return nil, err
		}
	}
	if err := t.start(ctx, j); err != nil {
		return nil, fmt.Errorf("stand a stack up for the drill: %w", err)
	}
	return t, t.open(ctx)
}

// declare writes the stack file. The stack's name begins where its ports are looked for: no
// two stacks at the same place.
func (t *target) declare(name, entry string, w wanted) error {
	written := fmt.Sprintf("name: %s\nentry:\n%s\n  auth: none\n%s\n", name, entry, w.text)
	if t.hosts != nil {
		written += t.hosts.text(w.hosts)
	}
	var mistakes error
	if t.stack, _, mistakes = stack.Parse(t.file, []byte(written)); mistakes != nil {
		return fmt.Errorf("the stack for the drill: %w", mistakes)
	}
	return os.WriteFile(t.file, []byte(written), 0o600)
}

// start starts the stack.
func (t *target) start(ctx context.Context, j *journal) error {
	if t.programs {
		if err := t.installPrograms(); err != nil {
			return err
		}
	}
	if t.clocks {
		if err := t.makeClocks(); err != nil {
			return err
		}
	}
	if t.hosts != nil {
		return t.startHosts(ctx) // what ends it is in the journal since there are hosts
	}
	// Data and directories go with the directory that they are in.
	if _, err := j.add(step{Why: "the drill's own stack", Command: t.command("down"), Unless: t.file, Bearing: true}); err != nil {
		return err
	}
	return t.runUp(ctx, j, []string{"up", "-d"})
}

// runUp runs the command that stands the stack up. It begins when the journal
// has it: else a drill that is killed just now would be undone, and the stack
// come up after that.
func (t *target) runUp(ctx context.Context, j *journal, up []string) error {
	words := t.command(up...)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `read -r go && exec "$@"`, "sh"}, words...)...)
	// It takes back what it has begun.
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
		_, err = j.add(step{Why: "the start of the drill's own stack", Signal: syscall.SIGTERM, Process: id, Alone: true, Awaited: true, Bearing: true})
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

// upPatience is how long an interrupted start may take to take itself back.
const upPatience = 20 * time.Second

// makeDisks gives the data of every redis node a small disk of its own. Which host gets
// which node is known later.
func (t *target) makeDisks(ctx context.Context, j *journal) error {
	for _, seat := range t.helm.seats {
		for i := range t.stack.Redis.Replicas + 1 {
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
	if _, err := j.add(step{Why: "the disk at " + dir, Unmount: dir, Bearing: true}); err != nil {
		return err
	}
	return run(ctx, "", "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0700", disk), "holdfast-drill", dir)
}

// dataIn is where a redis node has its append-only file, in the state directory of its host.
func dataIn(state, node string) string { return filepath.Join(state, "nodes", node, "data") }

// freeEntry is an address for clients that nobody listens on.
func freeEntry() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", fmt.Errorf("the entry of the drill's own stack: %w", err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
}

// freePort is a port that nobody listens on. It is not in the range that the kernel gives
// to outgoing connections.
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
