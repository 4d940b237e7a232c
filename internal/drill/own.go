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

// standUp stands a stack up for the drill alone, on this machine, or on so many
// hosts of its own (0: none), and waits until it is well. The text is a stack
// file's without name and entry; disks: the data of each redis node is on a
// disk of its own. What takes it all away again is in the journal.
func standUp(ctx context.Context, self string, j *journal, text string, hosts int, disks bool) (*target, error) {
	if hosts > 0 || disks {
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
	t := &target{self: self, state: filepath.Join(dir, "s"), base: dir, own: true, disks: disks}
	file := filepath.Join(dir, "holdfast.yaml")
	t.args = []string{"--state", t.state, "--file", file}
	listen := "0.0.0.0:" + strconv.Itoa(hostsPort)
	if hosts == 0 {
		if listen, err = freeEntry(); err != nil {
			return nil, err
		}
	}
	// Its name begins where its ports are looked for: no two stacks at the
	// same place.
	written := fmt.Sprintf("name: %s\nentry:\n  listen: %s\n  auth: none\n%s\n", filepath.Base(dir), listen, text)
	var mistakes error
	if t.stack, _, mistakes = stack.Parse(file, []byte(written)); mistakes != nil {
		return nil, fmt.Errorf("the stack for the drill: %w", mistakes)
	}
	if err := os.WriteFile(file, []byte(written), 0o600); err != nil {
		return nil, err
	}
	if disks {
		if err := t.makeDisks(ctx, j); err != nil {
			return nil, err
		}
	}
	up := []string{"up", "-d"}
	if hosts > 0 {
		if t.hosts, err = makeHosts(ctx, j, hosts); err != nil {
			return nil, fmt.Errorf("make hosts for the drill: %w", err)
		}
		up = append(up, t.hosts.flags()...)
		t.entries = t.hosts.entries(hostsPort, t.stack.Balancers)
	}
	// Data and directories go with the directory that they are in.
	if _, err := j.add(step{Why: "the drill's own stack", Command: t.command("down"), Unless: file, Bearing: true}); err != nil {
		return nil, err
	}
	if err := t.runUp(ctx, j, up); err != nil {
		return nil, fmt.Errorf("stand a stack up for the drill: %w", err)
	}
	return t, t.open(ctx)
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

// makeDisks gives the data of every redis node a small disk of its own.
func (t *target) makeDisks(ctx context.Context, j *journal) error {
	for i := range t.stack.Redis.Replicas + 1 {
		dir := t.dataDir("redis-" + strconv.Itoa(i+1))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if _, err := j.add(step{Why: "the disk at " + dir, Unmount: dir, Bearing: true}); err != nil {
			return err
		}
		if err := run(ctx, "", "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0700", disk), "holdfast-drill", dir); err != nil {
			return err
		}
	}
	return nil
}

// dataDir is where a redis node has its append-only file.
func (t *target) dataDir(node string) string { return filepath.Join(t.state, "nodes", node, "data") }

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
	const first, last, tries = 10000, 20000, 100
	for range tries {
		port := first + rand.IntN(last-first)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("none of %d ports between %d and %d is free", tries, first, last)
}
