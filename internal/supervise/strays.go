package supervise

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"holdfast/internal/machine"
)

// stray is a process of this stack that runs although the stack declares it no
// more.
type stray struct {
	node    string
	address string
	host    home
	proc    machine.Process
}

// strayGrace is how long a stray may take to end before it is killed.
const strayGrace = 10 * time.Second

// findStrays looks for nodes of an earlier stack file that still run.
func (s *Supervisor) findStrays() error {
	nodes, err := s.hosts.recorded(s.ctx)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if s.node(node) != nil {
			continue
		}
		host := s.home(node)
		r, err := host.readRecord(s.ctx, node)
		if err != nil {
			return err
		}
		if proc, err := host.Adopt(s.ctx, r.Process); err == nil {
			s.strays = append(s.strays, stray{node: node, address: r.Address, host: host, proc: proc})
			if s.left == nil {
				s.left = map[string]stray{}
			}
			s.left[r.Address] = stray{node: node, address: r.Address, host: host, proc: proc}
			if isRedis(node) {
				s.former[node] = r.Address
			}
		}
	}
	return nil
}

// endStrays ends them, but not the one that the Sentinels name master: its
// data is the stack's.
func (s *Supervisor) endStrays(ctx context.Context) error {
	if len(s.strays) == 0 {
		return nil
	}
	master, _, _ := s.gather(ctx, time.Second).master()
	var kept []stray
	for _, st := range s.strays {
		if st.address != "" && st.address == master && !s.stopping.Load() {
			kept = append(kept, st)
			continue
		}
		s.log.Info("not in the stack any more: ended", "node", st.node, "pid", st.proc.ID().PID)
		st.proc.Signal(syscall.SIGTERM)
		st.proc.SignalGroup(syscall.SIGCONT)
		select {
		case <-st.proc.Done():
			continue
		case <-time.After(strayGrace):
		case <-ctx.Done():
		}
		st.proc.SignalGroup(syscall.SIGKILL)
		<-st.proc.Done()
	}
	if s.strays = kept; len(kept) > 0 {
		return fmt.Errorf("%s is the Redis master and still runs, but is not in the stack file any more; put it back, or make another node the master first", kept[0].node)
	}
	return nil
}
