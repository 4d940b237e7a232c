// Package process is one child process: start it, or adopt one that outlived
// its parent, signal it, and learn of its end. What to run, and when to run it
// again, is package supervise's affair.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"holdfast/internal/private"
)

// ID tells a process from every other one, also from a later one with the
// same pid.
type ID struct {
	PID int `json:"pid"`
	// Start is the time of the process' start in the kernel's own unit.
	Start uint64 `json:"start"`
	// Boot tells boots of the machine apart: Start counts from one.
	Boot string `json:"boot"`
}

// Spec says what to start.
type Spec struct {
	Path string // absolute path of the program
	Args []string
	Env  []string // the whole environment
	Dir  string
	// Output is where standard output and error go; it stays open, and the
	// caller's. It must not break with the caller, as an ordinary pipe would.
	Output *os.File
	// Log is the file that they are appended to where Output is nil.
	Log string
	// Private keeps what the process writes from other users (umask 077).
	Private bool
}

// umask is held while the umask, which is this whole process', is another one.
var umask sync.Mutex

// ErrGone says that a process to adopt has ended.
var ErrGone = errors.New("process has ended")

// ErrNoNetwork says that a network namespace is not there.
var ErrNoNetwork = errors.New("no such network namespace")

// Process is a running process that has a process group of its own. It is
// safe for concurrent use.
type Process struct {
	id   ID
	done chan struct{}
	exit string // set before done is closed
}

// Start starts a process in a process group of its own, so that it outlives
// its starter and can be signalled together with its children.
func Start(spec Spec) (*Process, error) {
	output := spec.Output
	if output == nil {
		log, err := private.Open(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND)
		if err != nil {
			return nil, fmt.Errorf("open the log: %w", err)
		}
		defer log.Close()
		output = log
	}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Args[0] = spec.Path
	cmd.Env = spec.Env
	cmd.Dir = spec.Dir
	cmd.Stdout, cmd.Stderr = output, output
	// A session of its own is a process group too. In its starter's session the
	// kernel would wake a stopped process, and hang it up, when the starter
	// dies (setpgid(2), orphaned process groups).
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var err error
	umask.Lock()
	if spec.Private {
		old := syscall.Umask(0o077)
		err = cmd.Start()
		syscall.Umask(old)
	} else {
		err = cmd.Start()
	}
	umask.Unlock()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	// Even if it has ended by now it is a zombie until the Wait below, so its
	// identity can be read.
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, fmt.Errorf("identify process %d: %w", cmd.Process.Pid, err)
	}
	p := &Process{id: id, done: make(chan struct{})}
	started.Store(id.PID, true)
	go func() {
		cmd.Wait()
		started.Delete(id.PID)
		p.end(cmd.ProcessState.String())
	}()
	return p, nil
}

// Adopt takes over a process that somebody else started. It answers ErrGone
// when that process has ended, a zombie included.
func Adopt(id ID) (*Process, error) {
	if !Alive(id) {
		return nil, ErrGone
	}
	ended, err := watch(id)
	if err != nil {
		return nil, err
	}
	p := &Process{id: id, done: make(chan struct{})}
	go func() {
		<-ended
		p.end(reap(id.PID))
	}()
	return p, nil
}

// started are the pids of the processes that this one has started, and waits for.
var started sync.Map

// reap returns how an adopted process ended. Only its parent is told: that is this
// process where it was another program when it started it. A child that nobody asks
// for stays a zombie.
func reap(pid int) string {
	if _, ours := started.Load(pid); ours {
		return "ended" // its own Wait is told
	}
	var status syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); err != nil || got != pid {
		return "ended"
	}
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// Identify answers the identity of a process that runs now.
func Identify(pid int) (ID, error) {
	id, err := identify(pid)
	if err != nil || !Alive(id) {
		return ID{}, ErrGone
	}
	return id, nil
}

// Signal sends a signal to a process that somebody else looks after; group: and
// to its children. It answers ErrGone when that process has ended.
func Signal(id ID, sig syscall.Signal, group bool) error {
	p := Process{id: id}
	if group {
		return p.SignalGroup(sig)
	}
	return p.Signal(sig)
}

// Stopped reports whether a process is stopped (SIGSTOP).
func Stopped(id ID) bool {
	p := Process{id: id}
	return Alive(id) && p.Stopped()
}

// Alive reports whether the process still runs; a zombie does not.
func Alive(id ID) bool {
	now, err := identify(id.PID)
	if err != nil || now != id {
		return false
	}
	state, err := state(id.PID)
	return err == nil && state != 'Z' && state != 'X'
}

// end records how the process ended. What is left of its group, such as a
// worker that lost its master, goes with it.
func (p *Process) end(how string) {
	p.exit = how
	syscall.Kill(-p.id.PID, syscall.SIGKILL)
	close(p.done)
}

// ID answers the identity to adopt the process by.
func (p *Process) ID() ID { return p.id }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how the process ended. It is empty before Done is closed.
func (p *Process) Exit() string {
	select {
	case <-p.done:
		return p.exit
	default:
		return ""
	}
}

// Signal sends a signal to the process alone: what asks it to end.
func (p *Process) Signal(sig syscall.Signal) error {
	return p.kill(p.id.PID, sig)
}

// SignalGroup sends a signal to the process and its children: SIGKILL,
// SIGSTOP, SIGCONT.
func (p *Process) SignalGroup(sig syscall.Signal) error {
	return p.kill(-p.id.PID, sig)
}

func (p *Process) kill(pid int, sig syscall.Signal) error {
	if !Alive(p.id) {
		return ErrGone
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("send %v to process %d: %w", sig, p.id.PID, err)
	}
	return nil
}

// Stopped reports whether the process is stopped (SIGSTOP).
func (p *Process) Stopped() bool {
	s, err := state(p.id.PID)
	return err == nil && (s == 'T' || s == 't')
}
