package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/process"
)

// ticksPerSecond is the unit of times in /proc/PID/stat: USER_HZ, which is 100
// on every architecture that Go runs on (proc(5)).
const ticksPerSecond = 100

// usage is what a process has used so far.
type usage struct {
	cpu time.Duration // user and system time, including ended children that were waited for
	rss int64         // bytes
}

// stat is the part of /proc/PID/stat that is used here.
type stat struct {
	parent int
	usage
}

// parseStat parses /proc/PID/stat (proc(5)). The name is in parentheses, and may contain blanks and
// parentheses itself.
func parseStat(line string, pageSize int) (stat, error) {
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("no name in %q", line)
	}
	fields := strings.Fields(line[end+1:]) // from field 3 (state) on
	if len(fields) < 22 {
		return stat{}, fmt.Errorf("%d fields after the name in %q", len(fields), line)
	}
	var numbers [6]int64
	for i, field := range []int{4, 14, 15, 16, 17, 24} { // ppid, utime, stime, cutime, cstime, rss
		n, err := strconv.ParseInt(fields[field-3], 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("field %d in %q: %w", field, line, err)
		}
		numbers[i] = n
	}
	ticks := numbers[1] + numbers[2] + numbers[3] + numbers[4]
	return stat{
		parent: int(numbers[0]),
		usage:  usage{cpu: time.Duration(ticks) * time.Second / ticksPerSecond, rss: numbers[5] * int64(pageSize)},
	}, nil
}

// readStats reads all processes of this machine, by pid.
func readStats() (map[int]stat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	stats := map[int]stat{}
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended
		}
		s, err := parseStat(string(line), os.Getpagesize())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		stats[pid] = s
	}
	return stats, nil
}

// usageOf sums up the usage of processes and their living descendants.
func usageOf(stats map[int]stat, roots []int) usage {
	children := map[int][]int{}
	for pid, s := range stats {
		children[s.parent] = append(children[s.parent], pid)
	}
	var sum usage
	for next := roots; len(next) > 0; next = next[1:] {
		s := stats[next[0]]
		sum.cpu += s.cpu
		sum.rss += s.rss
		next = append(next[:len(next):len(next)], children[next[0]]...)
	}
	return sum
}

// stopProcess ends a process: by a signal, and by SIGKILL to its group if it has not ended after
// grace.
func stopProcess(p *process.Process, ask syscall.Signal, grace time.Duration) error {
	if err := p.Signal(ask); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	select {
	case <-p.Done():
		return nil
	case <-time.After(grace):
	}
	if err := p.SignalGroup(syscall.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	<-p.Done()
	return nil
}
