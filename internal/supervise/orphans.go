package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/machine"
)

// orphan is a process of this stack that still runs, although its node is no longer in the
// stack.
type orphan struct {
	node    string
	address string
	host    home
	proc    machine.Process
}

// orphanGrace is how long an orphan may take to end before it is killed.
const orphanGrace = 10 * time.Second

// findOrphans looks for nodes of an earlier stack file that still run.
func (s *Supervisor) findOrphans() error {
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
			s.orphans = append(s.orphans, orphan{node: node, address: r.Address, host: host, proc: proc})
			if s.orphanByAddress == nil {
				s.orphanByAddress = map[string]orphan{}
			}
			s.orphanByAddress[r.Address] = orphan{node: node, address: r.Address, host: host, proc: proc}
			if isRedis(node) {
				s.formerRedisAddresses[node] = r.Address
			}
		}
	}
	return nil
}

// endOrphans ends all orphans, except the one that the Sentinels name master: it has the stack's
// data. When patient ends, orphans are killed; when ctx ends, endOrphans returns. An orphan whose
// host is lost remains.
func (s *Supervisor) endOrphans(ctx, patient context.Context) error {
	if len(s.orphans) == 0 {
		return nil
	}
	master, _, _ := s.gather(ctx, time.Second).master()
	if ctx.Err() != nil {
		return ctx.Err() // nobody has said which node is the master
	}
	var masters, kept []orphan
	for i, st := range s.orphans {
		if st.address != "" && st.address == master && !s.stopping.Load() {
			masters = append(masters, st)
			continue
		}
		s.log.Info("not in the stack any more: ended", "node", st.node, "pid", st.proc.ID().PID)
		if s.endOrphan(ctx, patient, st) {
			continue
		}
		if ctx.Err() != nil {
			s.orphans = append(slices.Concat(masters, kept), s.orphans[i:]...)
			return ctx.Err()
		}
		kept = append(kept, st)
	}
	if s.orphans = slices.Concat(masters, kept); len(masters) > 0 {
		return fmt.Errorf("%s is the Redis master and still runs, but is not in the stack file any more; put it back, or make another node the master first", masters[0].node)
	}
	return nil
}

// endOrphan ends an orphan, and reports whether it has ended.
func (s *Supervisor) endOrphan(ctx, patient context.Context, st orphan) bool {
	waiting, end := s.whileReached(ctx, st.host)
	defer end()
	return st.end(waiting, patient)
}

// end ends the process, and reports whether it has ended. When patient ends, the process is
// killed.
func (st orphan) end(ctx, patient context.Context) bool {
	_ = st.proc.Signal(syscall.SIGTERM)
	_ = st.proc.SignalGroup(syscall.SIGCONT)
	select {
	case <-st.proc.Done():
		return true
	case <-time.After(orphanGrace):
	case <-patient.Done():
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return false
	}
	_ = st.proc.SignalGroup(syscall.SIGKILL)
	select {
	case <-st.proc.Done():
		return true
	case <-ctx.Done():
		return false
	}
}

// EndNodes ends the nodes of a host that is no longer part of its stack, so that nothing else
// in the stack uses them. Their data stays.
func EndNodes(ctx context.Context, stateDir string) error {
	h := hostsAt(stateDir)
	defer h.close()
	nodes, err := h.recorded(ctx)
	if err != nil {
		return err
	}
	var ending sync.WaitGroup
	defer ending.Wait()
	for _, node := range nodes {
		r, err := h.here.readRecord(ctx, node)
		if err != nil {
			return err
		}
		proc, err := h.here.Adopt(ctx, r.Process)
		if err != nil && !errors.Is(err, machine.ErrGone) {
			return fmt.Errorf("end %s: %w", node, err)
		}
		ending.Go(func() {
			if proc != nil {
				orphan{node: node, address: r.Address, host: h.here, proc: proc}.end(ctx, ctx)
			}
			_ = h.here.Remove(ctx, recordFile(node)) // otherwise the record names a process that is gone
		})
	}
	return nil
}
