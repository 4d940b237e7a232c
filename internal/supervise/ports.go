package supervise

import (
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// Ports that the stack file leaves open are taken from below the range that
// the kernel gives to outgoing connections (32768 and up on Linux): a port out
// of that range may be somebody's connection when a node wants it back.
const (
	firstPort = 20000
	lastPort  = 32000
)

// choosePorts gives a port to every need: the fixed one, else the one it had
// before, else the preferred one when it is free, else any free one. A port that
// is kept for a node which the stack does not have now is given to nobody, unless
// the stack file names it. Two stacks start looking at different places.
func choosePorts(stackName string, needs []plan.PortNeed, kept map[string]int) (map[string]int, error) {
	ports := map[string]int{}
	taken := map[int]bool{}
	for _, n := range needs {
		if p := n.Fixed; p != 0 {
			ports[n.Node], taken[p] = p, true
		}
	}
	for _, n := range needs {
		if p := kept[n.Node]; n.Fixed == 0 && p != 0 && !taken[p] {
			ports[n.Node], taken[p] = p, true
		}
	}
	for _, p := range kept {
		taken[p] = true
	}
	h := fnv.New32a()
	h.Write([]byte(stackName))
	next := firstPort + int(h.Sum32())%(lastPort-firstPort)
	for _, n := range needs {
		if ports[n.Node] != 0 {
			continue
		}
		if p := n.Preferred; p != 0 && !taken[p] && portFree(p) {
			ports[n.Node], taken[p] = p, true
			continue
		}
		for range lastPort - firstPort {
			p := next
			if next++; next >= lastPort {
				next = firstPort
			}
			if !taken[p] && portFree(p) {
				ports[n.Node], taken[p] = p, true
				break
			}
		}
		if ports[n.Node] == 0 {
			return nil, fmt.Errorf("no free port for %s between %d and %d", n.Node, firstPort, lastPort)
		}
	}
	return ports, nil
}

func portFree(port int) bool {
	return addressFree(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) == nil
}

// addressFree reports whether an address can be listened on. It does not share
// the port (SO_REUSEPORT), so it sees also those who would.
func addressFree(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// holder names the process that listens on a TCP port, as "redis-server (pid
// 42)"; empty when that cannot be seen, as for another user's process.
func holder(port int) string {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, _ := os.ReadFile(table)
		for line := range strings.Lines(string(b)) {
			// proc(5): sl local_address rem_address st … uid timeout inode
			f := strings.Fields(line)
			const listen = "0A"
			if len(f) < 10 || f[3] != listen {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if p, err := strconv.ParseUint(hex, 16, 16); err == nil && int(p) == port {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && inodes[target] {
			pid := strings.Split(fd, "/")[2]
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("%s (pid %s)", quote.Text(strings.TrimSpace(string(name))), pid)
		}
	}
	return ""
}
