//go:build linux

package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const groupsDir = "/sys/fs/cgroup"

// hierarchies returns the directories of control groups version 1, one for each controller.
func hierarchies() []string {
	files, _ := filepath.Glob(filepath.Join(groupsDir, "*", "tasks"))
	var dirs []string
	for _, file := range files {
		dirs = append(dirs, filepath.Dir(file))
	}
	return dirs
}

// nodeGroup returns the control group of a node, and of all its pods.
func nodeGroup(cluster string, node int) string { return fmt.Sprintf("%s/node%d", cluster, node) }

// makeGroups makes the control groups of a cluster and its nodes.
func makeGroups(cluster string, nodes int) error {
	groups := []string{cluster}
	for node := 1; node <= nodes; node++ {
		groups = append(groups, nodeGroup(cluster, node))
	}
	for _, hierarchy := range hierarchies() {
		for _, group := range groups {
			if err := makeGroup(filepath.Join(hierarchy, group)); err != nil {
				return fmt.Errorf("make a control group: %w", err)
			}
		}
	}
	return nil
}

// makeGroup makes one group. A new cpuset group has no processors, and accepts no process until it
// has some.
func makeGroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// joinGroup moves a process into a group in each hierarchy; 0 is the caller.
func joinGroup(group string, pid int) error {
	for _, hierarchy := range hierarchies() {
		if err := os.WriteFile(filepath.Join(hierarchy, group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("join a control group: %w", err)
		}
	}
	return nil
}

// JoinNode moves the caller into the group of a node.
func JoinNode(cluster string, node int) error { return joinGroup(nodeGroup(cluster, node), 0) }

// groupPIDs returns the processes of a group and of the groups below it.
func groupPIDs(group string) (pids []int) {
	for _, hierarchy := range hierarchies() {
		// A group that is removed during the walk has no processes.
		_ = filepath.WalkDir(filepath.Join(hierarchy, group), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return nil
			}
			text, _ := os.ReadFile(path)
			for _, field := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// killGroup kills the processes of a group until there are none, for at most 30 s.
func killGroup(group string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		pids := groupPIDs(group)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
		}
	}
}

// removeGroups removes a group, with those below it, in each hierarchy. They must not contain any
// process.
func removeGroups(group string) error {
	for _, hierarchy := range hierarchies() {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(hierarchy, group), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, dir := range slices.Backward(dirs) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// findProcess returns the process of a group whose program is "inside", with these arguments.
func findProcess(group string, args ...string) (int, error) {
	for _, pid := range groupPIDs(group) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		words := strings.Split(string(line), "\x00")
		if filepath.Base(words[0]) == "inside" && len(words) > len(args) && slices.Equal(words[1:1+len(args)], args) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s does not run", strings.Join(args, " "))
}
