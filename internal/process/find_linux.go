package process

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Now returns the time in the unit of ID.Start, rounded down to the kernel's clock tick.
// It is 0 if it cannot be read.
func Now() uint64 {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	whole, part, _ := strings.Cut(strings.Fields(string(b))[0], ".")
	ticks, err := strconv.ParseUint(whole+part[:min(len(part), 2)], 10, 64) // USER_HZ is 100
	if err != nil {
		return 0
	}
	return ticks
}

// Find returns the processes, the oldest first, that Start has started since a time
// with a variable in their environment (NAME=VALUE), or with an output. One of the two
// is enough, because some programs overwrite their environment (Redis), and some
// redirect their output. Processes of other users are left out.
func Find(variable, output string, since uint64) (found []ID) {
	out, _ := os.Stat(output)
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range all {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		fields, err := stat(pid)
		if err != nil || fields[3] != strconv.Itoa(pid) { // field 6 of proc(5), session
			continue
		}
		id, err := Identify(pid)
		if err != nil || id.Start < since {
			continue
		}
		if has(path, variable) || out != nil && writesTo(path, out) {
			found = append(found, id)
		}
	}
	slices.SortFunc(found, func(a, b ID) int { return cmp.Compare(a.Start, b.Start) })
	return found
}

func has(path, variable string) bool {
	environ, err := os.ReadFile(filepath.Join(path, "environ"))
	return err == nil && slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(v []byte) bool { return string(v) == variable })
}

func writesTo(path string, out os.FileInfo) bool {
	for fd := 1; fd <= 2; fd++ {
		if is, err := os.Stat(fmt.Sprintf("%s/fd/%d", path, fd)); err == nil && os.SameFile(is, out) {
			return true
		}
	}
	return false
}
