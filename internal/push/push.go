// Package push copies Holdfast to another machine with the system's ssh, and makes that machine
// join a stack. Open looks what is on the machine, and Join copies the program if need be and
// runs it. Both use one ssh session, so that ssh asks for a password only once. In between, the
// caller decides whether the machine is suitable and may join.
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

// Target is a machine, with the paths to use on it.
type Target struct {
	// To is the destination for ssh: HOST or USER@HOST, or a name of its configuration.
	To string
	// Options are options for ssh, each passed as -o OPTION.
	Options []string
	// Stack is the stack's name. State is the state directory on the machine, and Program the
	// path of holdfast there. They may be empty for the usual paths.
	Stack, State, Program string
}

// Machine is what Open has found on a machine.
type Machine struct {
	// System is the machine's system by uname, as Go names it: linux/amd64.
	System string
	// Program is the path where holdfast is, or would be put. There is true if a program is
	// there. Version is its version, or empty if it does not run or prints none.
	Program, Version string
	There            bool
	HasHAProxy       bool
	HasRedis         bool
	HasValkey        bool
	// State is the state directory. Joined is true if it is that of a host of several already.
	State  string
	Joined bool
}

// ErrNoSSH means that there is no ssh on this machine.
var ErrNoSSH = errors.New("there is no ssh on this machine: install it (apt-get install openssh-client)")

// Session is an ssh connection to a machine. It is not safe for concurrent use.
type Session struct {
	target Target
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	pipe   io.Reader
	stdout *bufio.Scanner // reads pipe
	words  words
	closed bool
}

// mark is the prefix of the lines that are meant for this program.
const mark = "holdfast-push "

// script runs on the machine. It prints what it finds, and then waits for an answer on standard
// input. After "use TOKEN" it joins with the program that is there. After "put TOKEN" it first
// installs a program, whose bytes follow. At the end of input it ends. The token is read from
// standard input because command lines are visible to every user of a machine; printf is no
// exception to that, because it is built into the shell.
//
// The arguments are the stack, the state directory and the program ("" for the usual paths), and
// the size of the program that may be sent. The script contains neither line ends nor single
// quotes, because it has to pass through the login shell of the machine, whichever that is.
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
	// notPut is the exit code of the script if it could not install the program.
	notPut = 74
	// sshFailed is the exit code of ssh if the connection failed (ssh(1), EXIT STATUS).
	sshFailed = 255
)

// Open connects to a machine, and returns what is there. Size is the size of the program that
// Join may be given, in bytes. The caller has to close the session.
func Open(ctx context.Context, t Target, size int64) (*Session, Machine, error) {
	args := []string{"-T"}
	for _, o := range t.Options { // before ours, because ssh uses the first value of an option
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
			continue // a line of the login shell
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

// take sets the fields that one line of the script tells.
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

// System returns Go's name for the output of uname -s and -m.
func System(uname string) string {
	system, processor, _ := strings.Cut(strings.TrimSpace(uname), " ")
	if name, known := processors[processor]; known {
		processor = name
	}
	return strings.ToLower(system) + "/" + processor
}

// processors has Go's names for the processors that uname calls differently.
var processors = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386",
	"armv6l": "arm", "armv7l": "arm", "armv8l": "arm", "loongarch64": "loong64",
}

// Join makes the machine join the stack, with the program that is there. If program is not nil,
// it is read and installed before. Show is called with each line of output, never concurrently.
func (s *Session) Join(token string, program io.Reader, show func(line string)) error {
	var showing sync.Mutex // standard output and standard error are read concurrently
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

// Close ends the session if Join was not called.
func (s *Session) Close() {
	if !s.closed {
		_ = s.stdin.Close() // the script ends at the end of its input
		_ = s.end()
	}
}

// end waits until ssh has ended, and returns what went wrong.
func (s *Session) end() error {
	s.closed = true
	_, _ = io.Copy(io.Discard, s.pipe) // to the end, also if stdout stopped at a line that was too long
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

// words collects the lines of standard error, which are those of ssh and of the programs on the
// machine. It is safe for concurrent use.
type words struct {
	mu    sync.Mutex
	part  []byte
	lines []string // the last ones that are not blank
	say   func(string)
}

// kept is how many lines are kept.
const kept = 20

// errorMark is the prefix of the error line of holdfast.
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
	// The error line is not shown here, because the caller shows it as its own error.
	if w.say != nil && !strings.HasPrefix(line, errorMark) {
		w.say(line)
	}
}

// stream shows the following lines as they come.
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

// last returns why something has failed: the error of holdfast, or else the last line, or else
// otherwise.
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
