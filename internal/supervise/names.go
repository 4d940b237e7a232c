package supervise

import (
	"net"
	"strconv"
	"strings"
	"syscall"

	"holdfast/internal/plan"
)

// signals has the signals that a stack file can name.
var signals = map[string]syscall.Signal{
	"SIGTERM": syscall.SIGTERM,
	"SIGINT":  syscall.SIGINT,
	"SIGQUIT": syscall.SIGQUIT,
	"SIGHUP":  syscall.SIGHUP,
	"SIGUSR1": syscall.SIGUSR1,
	"SIGUSR2": syscall.SIGUSR2,
}

// splitAddress splits an address that the plan made.
func splitAddress(address string) (host, port string) {
	host, port, _ = net.SplitHostPort(address)
	return host, port
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// numberOf returns the number at the end of a node's name.
func numberOf(node string) int { return atoi(node[strings.LastIndexByte(node, '-')+1:]) }

func joinNames(names []string) string { return strings.Join(names, ", ") }

// stages groups processes by stage. The processes have to be in the order of their stages.
func stages(processes []plan.Process) [][]plan.Process {
	var groups [][]plan.Process
	for i, p := range processes {
		if i == 0 || p.Stage != processes[i-1].Stage {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], p)
	}
	return groups
}
