package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/internal/plan"
)

// ErrSeveralHosts is the error of a stack whose file has hosts.
var ErrSeveralHosts = errors.New("hosts: a stack of several hosts cannot be started by this version; 'holdfast config check' and 'holdfast plan' show what it would be")

// together is all that one supervisor has to carry out when it looks after
// several hosts, in one order: a stage is one stage on all of them.
func together(hosts []plan.Host) plan.Host {
	all := plan.Host{Name: hosts[0].Name}
	for _, h := range hosts {
		for _, d := range h.Dirs {
			if !slices.Contains(all.Dirs, d) {
				all.Dirs = append(all.Dirs, d)
			}
		}
		all.Files = append(all.Files, h.Files...)
		all.Processes = append(all.Processes, h.Processes...)
	}
	slices.SortStableFunc(all.Processes, func(a, b plan.Process) int { return cmp.Compare(a.Stage, b.Stage) })
	return all
}

// obstacle says what a node's start has to wait for, besides Redis' part in the
// replication; empty: nothing.
func (n *node) obstacle(ctx context.Context) string {
	if !n.home().Present(ctx) {
		return "its host is away; it starts when the host is back"
	}
	if pid := n.sup.squatter(ctx, *n.spec()); pid != 0 {
		return fmt.Sprintf("a HAProxy that no record tells of (pid %d) still serves in its place; it starts when that has ended", pid)
	}
	return ""
}
