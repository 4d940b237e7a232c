package supervise

import (
	"fmt"
	"hash/fnv"

	"holdfast/internal/plan"
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
func choosePorts(stackName string, needs []plan.PortNeed, kept map[string]int, free func(port int) bool) (map[string]int, error) {
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
		if p := n.Preferred; p != 0 && !taken[p] && free(p) {
			ports[n.Node], taken[p] = p, true
			continue
		}
		for range lastPort - firstPort {
			p := next
			if next++; next >= lastPort {
				next = firstPort
			}
			if !taken[p] && free(p) {
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
