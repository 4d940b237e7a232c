// Package process handles single processes: it starts them, adopts those that have
// outlived their parent, sends signals, and waits for their end. It also has the
// duties of a container's first process (first.go), what a node's processes use
// (figures.go), and why a program cannot be started (runnable.go). What to run, and
// when to run it again, is decided in package supervise.
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

// ID identifies a process. A later process with the same pid has another ID.
type ID struct {
	PID int `json:"pid"`
	// Start is when the process was started, in the kernel's own unit.
	Start uint64 `json:"start"`
	// Boot identifies the boot of the machine, from which Start is counted.
	Boot string `json:"boot"`
}

// Spec is a process to start.
type Spec struct {
	Path string // absolute path of the program
	Args []string
	Env  []string // the whole environment
	Dir  string
	// Output receives standard output and error. The caller keeps it and has to
	// close it. The process must be able to write to it after the caller's end, so
	// it cannot be an ordinary pipe.
	Output *os.File
	// Log is the file that they are appended to if Output is nil.
	Log string
	// Private keeps the files that it makes from other users (umask 077).
	Private bool
}

// umask is held during each start, because Private changes the umask of this whole
// process for a moment.
var umask sync.Mutex

// ErrGone means that a process has ended.
var ErrGone = errors.New("process has ended")

// ErrNoNetwork means that there is no such network namespace.
var ErrNoNetwork = errors.New("no such network namespace")

// Process is a process, running or ended, that has a process group of its own. It
// is safe for concurrent use.
type Process struct {
	id   ID
	done chan struct{}
	exit string // set before done is closed
}

// Start starts a process in a session, and so a process group, of its own. It
// outlives this process and can be signalled together with its children.
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
	// A process group alone is not enough. When this process dies, the kernel would
	// send SIGHUP and SIGCONT to a stopped process in the same session (setpgid(2),
	// orphaned process groups).
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

	// If it has ended already, it is a zombie until the Wait below, so its identity
	// can be read in any case.
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

// Adopt takes over a process that another process has started. The error is ErrGone
// if it has ended; a zombie counts as ended.
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

// started has the pids of the processes that Start has started and waits for.
var started sync.Map

// reap returns how an adopted process ended. The kernel tells that only to its parent.
// This process may be the parent although it has adopted the process: it may have
// started it before it replaced its own program (exec). Then it also has to wait for
// the child, which would stay a zombie.
func reap(pid int) string {
	if _, ours := started.Load(pid); ours {
		return "ended" // the Wait of Start gets the status
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

// Identify returns the ID of a running process. The error is ErrGone if there is none.
func Identify(pid int) (ID, error) {
	id, err := identify(pid)
	if err != nil || !Alive(id) {
		return ID{}, ErrGone
	}
	return id, nil
}

// Signal sends a signal to a process that was not started or adopted here, and with
// group also to its children. The error is ErrGone if it has ended.
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

// Alive reports whether a process still runs; a zombie does not.
func Alive(id ID) bool {
	now, err := identify(id.PID)
	if err != nil || now != id {
		return false
	}
	state, err := state(id.PID)
	return err == nil && state != 'Z' && state != 'X'
}

// end records how the process ended. It kills what is left of the process group, such
// as a worker that has lost its master.
func (p *Process) end(how string) {
	p.exit = how
	syscall.Kill(-p.id.PID, syscall.SIGKILL)
	close(p.done)
}

// ID returns the identity by which the process can be adopted.
func (p *Process) ID() ID { return p.id }

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit returns how the process ended. It is empty before Done is closed.
func (p *Process) Exit() string {
	select {
	case <-p.done:
		return p.exit
	default:
		return ""
	}
}

// Signal sends a signal to the process alone, such as one that asks it to end.
func (p *Process) Signal(sig syscall.Signal) error {
	return p.kill(p.id.PID, sig)
}

// SignalGroup sends a signal to the process and its children, such as SIGKILL,
// SIGSTOP or SIGCONT.
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
