package process

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the kernel's unit of processor time and of the start of a process in
// /proc: USER_HZ, which is 100 on every architecture that Go runs on (time(7)).
const tick = 10 * time.Millisecond

// Indexes of fields of /proc/pid/stat (proc(5)), counted from the one after the
// command: the session, the processor times, the start and the resident pages.
const (
	sessionField            = 3
	firstTime, lastTime     = 11, 14
	startField, memoryField = 19, 21
)

// FiguresOf returns the figures of nodes, by the pid of each node's first process,
// which is the leader of a session of its own (Start).
func FiguresOf(pids ...int) map[int]Figures {
	all := map[int]Figures{}
	for _, pid := range pids {
		all[pid] = Figures{}
	}

	up := uptime()
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}

		fields, err := stat(pid)
		if err != nil || len(fields) <= memoryField {
			continue // it has ended meanwhile
		}
		number := func(i int) int64 {
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			return n
		}

		leader := int(number(sessionField))
		f, wanted := all[leader]
		if !wanted {
			continue
		}

		for i := firstTime; i <= lastTime; i++ {
			f.CPU += time.Duration(number(i)) * tick
		}
		f.Memory += number(memoryField) * int64(os.Getpagesize())
		if open, most := files(pid); open > f.OpenFiles || f.MaxFiles == 0 {
			f.OpenFiles, f.MaxFiles = open, most
		}

		if pid == leader {
			f.Age = max(0, up-time.Duration(number(startField))*tick)
			exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			f.Replaced = strings.HasSuffix(exe, " (deleted)")
			f.HugePages = hugePages(pid)
		}
		all[leader] = f
	}
	return all
}

// uptime returns how long the machine has been up.
func uptime() time.Duration {
	b, _ := os.ReadFile("/proc/uptime")
	text, _, _ := strings.Cut(string(b), " ")
	seconds, _ := strconv.ParseFloat(text, 64)
	return time.Duration(seconds * float64(time.Second))
}

// files returns how many files a process has open, and its limit. Both are 0 for
// another user's process.
func files(pid int) (open, most int) {
	if dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		open = len(names)
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	for line := range strings.Lines(string(b)) {
		if rest, found := strings.CutPrefix(line, "Max open files"); found {
			most, _ = strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return open, most
}

// hugePages reports whether a process gets transparent huge pages if the machine gives
// them to all processes. Redis turns them off for itself (disable-thp).
func hugePages(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), "THP_enabled:"); found {
			return strings.TrimSpace(value) == "1"
		}
	}
	return false
}
