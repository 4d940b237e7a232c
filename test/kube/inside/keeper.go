//go:build linux

package main

import (
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// program is a program that is started again whenever it ends.
type program struct {
	name   string // the name of its log
	path   string
	args   []string
	spaces uintptr // namespaces of its own (CLONE_NEW...)
	off    string  // a file: while it exists, the program is not started
}

// keeper keeps programs running. It reaps every child of this process, including those inherited as
// process 1: nothing else in this process may wait for a child.
type keeper struct {
	logs    string
	running map[int]program
}

// run starts the programs and does not return. The order does not matter: a program that misses
// another one ends, and is started again 1 s later.
func (k *keeper) run(programs ...program) error {
	k.running = make(map[int]program)
	waiting := programs
	for {
		waiting = k.start(waiting)
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if err != nil || pid == 0 {
				break
			}
			if p, ok := k.running[pid]; ok {
				log.Printf("%s has ended", p.name)
				delete(k.running, pid)
				waiting = append(waiting, p)
			}
		}
		time.Sleep(time.Second)
	}
}

// start starts programs and returns those that could not be started.
func (k *keeper) start(programs []program) (left []program) {
	for _, p := range programs {
		if _, err := os.Stat(p.off); p.off != "" && err == nil {
			left = append(left, p)
			continue
		}
		pid, err := k.startOne(p)
		if err != nil {
			log.Print(err)
			left = append(left, p)
			continue
		}
		k.running[pid] = p
	}
	return left
}

func (k *keeper) startOne(p program) (int, error) {
	path, err := exec.LookPath(p.path)
	if err != nil {
		return 0, err
	}
	output, err := os.OpenFile(filepath.Join(k.logs, p.name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, fs.FileMode(0o644))
	if err != nil {
		return 0, err
	}
	defer output.Close()
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer nothing.Close()
	process, err := os.StartProcess(path, append([]string{path}, p.args...), &os.ProcAttr{
		Files: []*os.File{nothing, output, output},
		Sys:   &syscall.SysProcAttr{Setsid: true, Cloneflags: p.spaces},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", p.name, err)
	}
	pid := process.Pid // Release forgets it
	return pid, process.Release()
}

// flags turns each line into an argument, a long option.
func flags(lines string) (args []string) {
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line != "" {
			args = append(args, "--"+line)
		}
	}
	return args
}
