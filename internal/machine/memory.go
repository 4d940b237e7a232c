package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FreeMemory returns how much memory, in bytes, the machine can still give without
// taking it from somebody: what the kernel says is available, and in a control group
// with a limit no more than what is left of that. known is false where the system does
// not say.
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

// groupMemory returns what is left of the limit of the control group that this process
// sees as the root of all (cgroup v2, as a container has it). Files that are cached count
// as left: the kernel takes them back.
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
