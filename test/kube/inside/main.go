//go:build linux

// Command inside is the program that package kube starts in the namespaces of a cluster: process 1
// of the control plane, which in turn starts one process for each node.
//
//	inside control-plane DIR PROGRAMS GROUP NODES
//	inside node DIR NUMBER PROGRAMS GROUP NODES
package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// cluster has what both kinds of process need.
type cluster struct {
	dir      string // the cluster's files
	programs string // the directory of the compiled programs
	group    string // the control group
	nodes    int
}

func main() {
	log.SetPrefix("inside: ")
	// A control group's namespace applies to a thread, not to the whole process.
	runtime.LockOSThread()

	args := os.Args[1:]
	if len(args) == 0 {
		log.Fatal("package kube starts this")
	}
	var err error
	switch {
	case args[0] == "control-plane" && len(args) == 5:
		c := cluster{dir: args[1], programs: args[2], group: args[3], nodes: number(args[4])}
		err = c.controlPlane()
	case args[0] == "node" && len(args) == 6:
		c := cluster{dir: args[1], programs: args[3], group: args[4], nodes: number(args[5])}
		err = c.node(number(args[2]))
	default:
		err = fmt.Errorf("unknown arguments %q", args)
	}
	log.Fatal(err) // neither of them returns while all is well
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func (c cluster) key(file string) string { return filepath.Join(c.dir, "pki", file) }

// mount is one line of a list of mounts.
type mount struct {
	source, target, kind, options string
	flags                         uintptr
}

func mountAll(mounts ...mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// commands runs one command for each line. The lines cannot have quotes.
func commands(lines string) error {
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
		}
	}
	return nil
}

// setting writes a file below /proc/sys.
func setting(name, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644)
}
