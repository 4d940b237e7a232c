package process

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// First is what the first process of a container does beside its work: it waits for
// every process that lost its parent, and hands signals on. The work itself is done by
// a child, so that nothing else in this process waits for children.
type First struct {
	Path string
	Args []string // without the program's name
	Env  []string
	// Say tells what happens to the child. It must not block.
	Say func(text string)
}

const (
	// A child that died is started again at once; one that dies again within firstCalm,
	// after a pause that grows up to firstPauseMost.
	firstCalm      = 10 * time.Second
	firstPause     = 100 * time.Millisecond
	firstPauseMost = 5 * time.Second
	// firstLinger is how long the nodes of a child that failed at its start may take to
	// end: it has told them to.
	firstLinger = 3 * time.Second
	// firstHandlers is how long a child that has just begun may take until it handles
	// signals. Before that they would kill it.
	firstHandlers = 500 * time.Millisecond
	// firstEnds is how many children may try to take down what a former one left.
	firstEnds = 4
)

// Run starts the child, and starts it again when it dies: when a signal killed it, or when it
// failed and left processes behind, which need somebody who looks after them. It returns the
// exit status of a child that ended otherwise. What still runs then ends with this process.
//
// SIGTERM, SIGINT, SIGHUP and SIGQUIT are all handed on as SIGTERM: to a container
// each of them means the end, and SIGQUIT would have a Go program write out its stacks.
// If the child has died, another one is started to take down what it left.
func (f First) Run() (status int, err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	told, ends := false, 0
	for pause := time.Duration(0); ; {
		began := time.Now()
		how, err := f.live(signals, &told)
		switch {
		case err != nil && pause == 0 && !told:
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
			pause = 0
		}
		select {
		case <-signals:
			told = true
		case <-time.After(pause):
		}
		pause = min(max(2*pause, firstPause), firstPauseMost)
	}
}

// live starts the child and hands signals on until it has ended. Told is whether there
// were any, now or before.
func (f First) live(signals <-chan os.Signal, told *bool) (how syscall.WaitStatus, err error) {
	pid, err := f.start()
	if err != nil {
		return 0, err
	}
	ended := make(chan syscall.WaitStatus, 1)
	go reapUntil(pid, ended)

	tell := func() { _ = syscall.Kill(pid, syscall.SIGTERM) } // it may just have ended
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

// start starts the child in a process group of its own: a terminal's signals reach it
// by this process alone, and so once.
func (f First) start() (pid int, err error) {
	pid, err = syscall.ForkExec(f.Path, append([]string{f.Path}, f.Args...), &syscall.ProcAttr{
		Env: f.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", f.Path, err)
	}
	return pid, nil
}

// reapUntil waits for every child, adopted ones included, until one has ended.
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

// orphans waits for the children that have ended, and reports whether others are left. None
// of them is the one that does the work: that has ended.
func orphans() bool {
	for {
		switch got, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); {
		case err == syscall.EINTR || err == nil && got > 0:
		default:
			return err == nil
		}
	}
}

// orphansAfter reports whether some are left after that time at most.
func orphansAfter(limit time.Duration) bool {
	for end := time.Now().Add(limit); orphans(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return true
		}
	}
	return false
}

// statusOf is a child's exit status, as a shell has it.
func statusOf(how syscall.WaitStatus) int {
	if how.Signaled() {
		return 128 + int(how.Signal())
	}
	return how.ExitStatus()
}
