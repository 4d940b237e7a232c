package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FreeMemory returns how much memory is available, in bytes: the kernel's own estimate, and
// at most what is left of the limit of this process's control group. Known is false if the
// system does not report it.
func FreeMemory() (free int64, known bool) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		word := strings.Fields(line)
		if len(word) == 3 && word[0] == "MemAvailable:" {
			kilobytes, err := strconv.ParseInt(word[1], 10, 64)
			free, known = kilobytes<<10, err == nil
		}
	}
	if left, limited := groupMemory("/sys/fs/cgroup"); known && limited {
		free = min(free, left)
	}
	return free, known
}

// groupMemory returns what is left of the limit of a control group (cgroup v2). In a
// container its root is the container's own group. Cached files count as free, because the
// kernel can drop them.
func groupMemory(root string) (left int64, limited bool) {
	number := func(name string) (int64, error) {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	}
	most, err := number("memory.max") // "max": no limit
	if err != nil {
		return 0, false
	}
	used, err := number("memory.current")
	if err != nil {
		return 0, false
	}
	text, _ := os.ReadFile(filepath.Join(root, "memory.stat"))
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "inactive_file "); found {
			cached, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			used -= cached
		}
	}
	return max(0, most-used), true
}
