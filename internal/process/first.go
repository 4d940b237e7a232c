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
	// Say tells what happens to the child.
	Say func(text string)
}

const (
	// A child that was killed is started again at once; one that is killed again within
	// firstCalm, after a pause that grows up to firstPauseMost.
	firstCalm      = 10 * time.Second
	firstPause     = 100 * time.Millisecond
	firstPauseMost = 5 * time.Second
)

// Run starts the child, and starts it again when it was killed by a signal. It returns the
// exit status of a child that ended otherwise, or after a signal asked for the end. What
// still runs then ends with this process.
//
// SIGTERM, SIGINT, SIGHUP and SIGQUIT are all handed on as SIGTERM: to a container
// each of them means the end, and SIGQUIT would have a Go program write out its stacks.
func (f First) Run() (status int, err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	ending := false
	for pause := time.Duration(0); ; {
		began := time.Now()
		pid, err := f.start()
		if err != nil {
			return 0, err
		}
		ended := make(chan syscall.WaitStatus, 1)
		go reapUntil(pid, ended)
		how, told := f.attend(pid, signals, ended)
		ending = ending || told
		if ending || !how.Signaled() {
			return statusOf(how), nil
		}

		if time.Since(began) > firstCalm {
			pause = 0
		}
		f.Say(fmt.Sprintf("the supervisor was killed (%v) and is started again", how.Signal()))
		select {
		case <-signals:
			return statusOf(how), nil
		case <-time.After(pause):
		}
		pause = min(max(2*pause, firstPause), firstPauseMost)
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

// attend hands signals on until the child has ended, and reports whether there were any.
func (f First) attend(pid int, signals <-chan os.Signal, ended <-chan syscall.WaitStatus) (how syscall.WaitStatus, told bool) {
	for {
		select {
		case <-signals:
			told = true
			_ = syscall.Kill(pid, syscall.SIGTERM) // it may just have ended
		case how = <-ended:
			return how, told
		}
	}
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

// statusOf is a child's exit status, as a shell has it.
func statusOf(how syscall.WaitStatus) int {
	if how.Signaled() {
		return 128 + int(how.Signal())
	}
	return how.ExitStatus()
}
