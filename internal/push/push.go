// Package push brings Holdfast to another machine by the system's ssh, and has it join a
// stack there. It is one ssh session from the first look to the end of the join, so that a
// password is asked for once. Whether the machine is fit, and who may join, the caller
// decides in between.
package push

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/quote"
)

// Target is a machine, and where things are to be on it.
type Target struct {
	// To is where ssh connects to: HOST or USER@HOST, or a name of its configuration.
	To string
	// Options are given to ssh, as -o OPTION each.
	Options []string
	// Stack is the stack's name. State is the state directory there, and Program the path of
	// holdfast; empty: the usual ones.
	Stack, State, Program string
}

// Machine is what was found on a machine.
type Machine struct {
	// System is that of uname, as Go names it: linux/amd64.
	System string
	// Program is where holdfast is, or would be put. There is true when a program is there,
	// and Version is what it says of its version; empty: it does not run, or says nothing.
	Program, Version string
	There            bool
	HasHAProxy       bool
	HasRedis         bool
	HasValkey        bool
	// State is the state directory, and Joined true when it is that of a host of several.
	State  string
	Joined bool
}

// ErrNoSSH says that there is no ssh on this machine.
var ErrNoSSH = errors.New("there is no ssh on this machine: install it (apt-get install openssh-client)")

// Session is a connection to a machine. It belongs to one goroutine.
type Session struct {
	target Target
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	pipe   io.Reader
	stdout *bufio.Scanner // of pipe
	words  words
	closed bool
}

// mark begins the lines that are meant for this program.
const mark = "holdfast-push "

// script runs there. It says what it finds, and waits for an answer: "use TOKEN" has the
// program join that is there, "put TOKEN" and the bytes of a program have that one put in
// its place before. Without an answer it ends. The token comes by standard input, since
// everybody on a machine sees command lines; printf is the shell's own.
//
// Its arguments are the stack, the state directory and the program ("" for the usual ones),
// and the size of the program that may come. It has neither line ends nor single quotes, for
// the login shell there, which may be any.
var script = strings.Join([]string{
	`umask 077`,
	`PATH=$PATH:$HOME/.local/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin`,
	`stack=$1 state=$2 program=$3 size=$4`,
	`base=$HOME/.local/state; case ${XDG_STATE_HOME:-} in /*) base=$XDG_STATE_HOME;; esac`,
	`at=${state:-$base/holdfast/$stack}`,
	`place=$HOME/.local/bin/holdfast; test "$(id -u)" = 0 && place=/usr/local/bin/holdfast`,
	`test "$program" || program=$(command -v holdfast) || program=$place`,
	`echo "` + mark + `system $(uname -s) $(uname -m)"`,
	`echo "` + mark + `program $program"`,
	`test -x "$program" && echo "` + mark + `version $("$program" version 2>/dev/null)"`,
	`command -v haproxy >/dev/null && echo "` + mark + `haproxy"`,
	`command -v redis-server >/dev/null && echo "` + mark + `redis"`,
	`command -v valkey-server >/dev/null && echo "` + mark + `valkey"`,
	`echo "` + mark + `state $at"`,
	`test -e "$at/host.json" && echo "` + mark + `joined"`,
	`echo "` + mark + `ready"`,
	`read -r what token || exit 0`,
	`if test "$what" = put; then new=$program.$$; mkdir -p "${program%/*}" && cat >"$new" && test "$(wc -c <"$new")" -eq "$size" && chmod 755 "$new" && mv -f "$new" "$program" || { rm -f "$new"; exit ` + strconv.Itoa(notPut) + `; }; fi`,
	`if test "$state"; then set -- --state "$state"; else set --; fi`,
	`printf "%s\n" "$token" | "$program" join - -d "$@"`,
}, "; ")

const (
	// notPut is the exit code of a script that could not put the program in its place.
	notPut = 74
	// sshFailed is that of ssh when the connection failed (ssh(1), EXIT STATUS).
	sshFailed = 255
)

// Open connects to a machine, and returns what is there. Size is that of the program that
// Join may be given. The caller closes the session.
func Open(ctx context.Context, t Target, size int64) (*Session, Machine, error) {
	args := []string{"-T"}
	for _, o := range t.Options { // of two values ssh takes the first
		args = append(args, "-o", o)
	}
	args = append(args, "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
		"--", t.To, quote.Command("exec", "sh", "-c", script, "holdfast-push", t.Stack, t.State, t.Program, strconv.FormatInt(size, 10)))
	s := &Session{target: t, cmd: exec.CommandContext(ctx, "ssh", args...)}
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 5 * time.Second
	s.cmd.Stderr = &s.words
	stdout, err := s.cmd.StdoutPipe()
	if err == nil {
		s.stdin, err = s.cmd.StdinPipe()
	}
	if err != nil {
		return nil, Machine{}, err
	}
	if err := s.cmd.Start(); errors.Is(err, exec.ErrNotFound) {
		return nil, Machine{}, ErrNoSSH
	} else if err != nil {
		return nil, Machine{}, fmt.Errorf("start ssh: %w", err)
	}
	s.pipe, s.stdout = stdout, bufio.NewScanner(stdout)
	s.stdout.Buffer(nil, 1<<20)

	var m Machine
	for s.stdout.Scan() {
		line, ours := strings.CutPrefix(s.stdout.Text(), mark)
		if !ours {
			continue // what the login shell says
		}
		if line == "ready" {
			return s, m, nil
		}
		m.take(line)
	}
	err = s.end()
	if ctx.Err() != nil {
		return nil, m, ctx.Err()
	}
	if err == nil {
		err = errors.New("the shell there ended before it was asked anything")
	}
	return nil, m, err
}

// take takes over one line of what the script has found.
func (m *Machine) take(line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "system":
		m.System = System(rest)
	case "program":
		m.Program = rest
	case "version":
		m.There, m.Version = true, rest
	case "haproxy":
		m.HasHAProxy = true
	case "redis":
		m.HasRedis = true
	case "valkey":
		m.HasValkey = true
	case "state":
		m.State = rest
	case "joined":
		m.Joined = true
	}
}

// System is what uname -s and -m print, as Go names it.
func System(uname string) string {
	system, processor, _ := strings.Cut(strings.TrimSpace(uname), " ")
	if name, known := processors[processor]; known {
		processor = name
	}
	return strings.ToLower(system) + "/" + processor
}

// processors are Go's names of what uname calls otherwise.
var processors = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386",
	"armv6l": "arm", "armv7l": "arm", "armv8l": "arm", "loongarch64": "loong64",
}

// Join has the machine join: with the program that is there, or with the one that is read
// from program, which is put there before. Show gets each line of what it says, one at a time.
func (s *Session) Join(token string, program io.Reader, show func(line string)) error {
	var showing sync.Mutex // standard output and standard error come side by side
	say := func(line string) {
		showing.Lock()
		defer showing.Unlock()
		show(line)
	}
	s.words.stream(say)
	sent := make(chan error, 1)
	go func() {
		what := "use"
		if program != nil {
			what = "put"
		}
		_, err := fmt.Fprintf(s.stdin, "%s %s\n", what, token)
		if err == nil && program != nil {
			_, err = io.Copy(s.stdin, program)
		}
		sent <- errors.Join(err, s.stdin.Close())
	}()
	for s.stdout.Scan() {
		say(s.stdout.Text())
	}
	err := s.end()
	if sentErr := <-sent; err == nil && sentErr != nil {
		err = fmt.Errorf("send to %s: %w", s.target.To, sentErr)
	}
	return err
}

// Close ends the session where nothing was asked of it.
func (s *Session) Close() {
	if !s.closed {
		_ = s.stdin.Close() // the script ends, whatever it says
		_ = s.end()
	}
}

// end waits for ssh, and returns what went wrong.
func (s *Session) end() error {
	s.closed = true
	_, _ = io.Copy(io.Discard, s.pipe) // until the other end has closed it, also after a line without end
	err := s.cmd.Wait()
	s.words.flush()
	exit := new(exec.ExitError)
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == sshFailed:
		return fmt.Errorf("ssh to %s failed: %s", quote.Text(s.target.To), s.words.last("it does not say why"))
	case errors.As(err, &exit) && exit.ExitCode() == notPut:
		return fmt.Errorf("the program could not be put onto %s: %s", quote.Text(s.target.To), s.words.last("is its disk full?"))
	case errors.As(err, &exit):
		return errors.New(s.words.last(fmt.Sprintf("it ends with %s", exit)))
	}
	return fmt.Errorf("ssh: %w", err)
}

// words are the lines of standard error: those of ssh and of what runs there. It is safe for
// concurrent use.
type words struct {
	mu    sync.Mutex
	part  []byte
	lines []string // the last ones, without blank ones
	say   func(string)
}

// kept is how many lines are.
const kept = 20

// errorMark begins the line with which holdfast ends.
const errorMark = "holdfast: "

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.part = append(w.part, p...)
	for {
		line, rest, whole := bytes.Cut(w.part, []byte("\n"))
		if !whole {
			break
		}
		w.part = rest
		w.add(string(line))
	}
	const long = 64 << 10
	if len(w.part) > long {
		w.part = nil
	}
	return len(p), nil
}

func (w *words) add(line string) {
	line = strings.TrimRight(line, "\r ")
	if line == "" {
		return
	}
	if w.lines = append(w.lines, line); len(w.lines) > kept {
		w.lines = w.lines[1:]
	}
	// The error comes once, as that of the caller.
	if w.say != nil && !strings.HasPrefix(line, errorMark) {
		w.say(line)
	}
}

// stream has lines from now on shown as they come.
func (w *words) stream(say func(string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say, w.lines = say, nil
}

func (w *words) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(string(w.part))
	w.part = nil
}

// last is why something has failed: the error of holdfast, or else the last line.
func (w *words) last(otherwise string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		if text, is := strings.CutPrefix(line, errorMark); is {
			return quote.Cut(text, 1000)
		}
	}
	if len(w.lines) == 0 {
		return otherwise
	}
	return quote.Cut(w.lines[len(w.lines)-1], 1000)
}
