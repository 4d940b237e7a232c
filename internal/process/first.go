package process

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"holdfast/internal/clock"
)

// First does the duties of the first process of a container: it waits for every
// process that has lost its parent, and forwards signals. The actual work is done by a
// child, so that nothing else in this process waits for children.
type First struct {
	Path string
	Args []string // without the program's name
	Env  []string
	// Say is called with messages about the child. It must not block.
	Say func(text string)
}

const (
	// A child that has died is started again at once. If it dies again within firstCalm,
	// there is a pause, which grows from firstPause up to firstPauseMost.
	firstCalm      = 10 * time.Second
	firstPause     = 100 * time.Millisecond
	firstPauseMost = 5 * time.Second
	// firstLinger is how long the nodes of a child that failed may take to end, after
	// the child has told them to.
	firstLinger = 3 * time.Second
	// firstHandlers is how long a child may take after its start until it handles
	// signals. A signal before that would kill it.
	firstHandlers = 500 * time.Millisecond
	// firstEnds is how many children may try to take down the nodes that a former child
	// has left.
	firstEnds = 4
)

// Run starts the child, and starts it again if a signal has killed it, or if it has failed
// and left processes behind, which need a supervisor. It returns the exit status of a child
// that ended in another way. Whatever still runs then ends with this process.
//
// SIGTERM, SIGINT, SIGHUP and SIGQUIT are all forwarded as SIGTERM: each of them tells a
// container to end, and at SIGQUIT a Go program would print its stacks. If the child dies
// before it has ended the nodes, another one is started to take them down.
func (f First) Run() (status int, err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	told, ends := false, 0
	pauses := clock.Backoff{Min: firstPause, Max: firstPauseMost, AtOnce: true}
	for ran := false; ; ran = true {
		began := time.Now()
		how, err := f.live(signals, &told)
		switch {
		case err != nil && !ran && !told:
			return 0, err // it has never run
		case err != nil:
			f.Say(fmt.Sprintf("the supervisor cannot be started: %v", err))
		case told:
			if ends++; ends == firstEnds || !orphansAfter(firstLinger) {
				return statusOf(how), nil
			}
			f.Say("the supervisor died before it had ended the nodes, and is started again for that")
		case how.Signaled():
			f.Say(fmt.Sprintf("the supervisor was killed (%v) and is started again", how.Signal()))
		case how.ExitStatus() == 0:
			return 0, nil
		case time.Since(began) < firstCalm && !orphansAfter(firstLinger), !orphans():
			return statusOf(how), nil
		default:
			f.Say(fmt.Sprintf("the supervisor failed (exit status %d) while nodes run, and is started again", how.ExitStatus()))
		}

		if time.Since(began) > firstCalm {
			pauses.Reset()
		}
		select {
		case <-signals:
			told = true
		case <-time.After(pauses.Next()):
		}
	}
}

// live starts the child and forwards signals until the child has ended. Told reports
// whether a signal has come, during this child or before.
func (f First) live(signals <-chan os.Signal, told *bool) (how syscall.WaitStatus, err error) {
	pid, err := f.start()
	if err != nil {
		return 0, err
	}
	ended := make(chan syscall.WaitStatus, 1)
	go reapUntil(pid, ended)

	tell := func() { _ = syscall.Kill(pid, syscall.SIGTERM) } // an error means that the child has just ended
	handles := time.After(firstHandlers)
	for {
		select {
		case <-signals:
			*told = true
			if handles == nil {
				tell()
			}
		case <-handles:
			if handles = nil; *told {
				tell()
			}
		case how = <-ended:
			return how, nil
		}
	}
}

// start starts the child in a process group of its own. So a terminal's signals reach
// it only through this process, and only once.
func (f First) start() (pid int, err error) {
	pid, err = syscall.ForkExec(f.Path, append([]string{f.Path}, f.Args...), &syscall.ProcAttr{
		Env: f.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", f.Path, err)
	}
	return pid, nil
}

// reapUntil waits for all children, including adopted ones, until the child pid has
// ended, and sends how.
func reapUntil(pid int, ended chan<- syscall.WaitStatus) {
	for {
		var how syscall.WaitStatus
		switch got, err := syscall.Wait4(-1, &how, 0, nil); {
		case err == syscall.EINTR:
		case err != nil: // there is no child at all
			ended <- how
			return
		case got == pid:
			ended <- how
			return
		}
	}
}

// orphans collects the children that have ended, and reports whether others are left.
// It is called after the child that does the work has ended, so the others are orphans.
func orphans() bool {
	for {
		switch got, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); {
		case err == syscall.EINTR || err == nil && got > 0:
		default:
			return err == nil
		}
	}
}

// orphansAfter waits until no orphans are left, for at most limit, and reports whether
// some still are.
func orphansAfter(limit time.Duration) bool {
	return !clock.Within(limit, 20*time.Millisecond, func() bool { return !orphans() })
}

// statusOf returns a child's exit status as a shell would: 128 + the signal that ended it.
func statusOf(how syscall.WaitStatus) int {
	if how.Signaled() {
		return 128 + int(how.Signal())
	}
	return how.ExitStatus()
}
