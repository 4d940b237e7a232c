package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// A replica that starts without data gets a copy of all data from the master. Until the copy is in its
// memory, no Sentinel may promote the replica: if the master died meanwhile, and no other replica were
// there, the stack would go on empty, and the master would be emptied too when it is back. So such a
// replica starts with a priority that forbids its promotion (redis.conf, replica-priority), and gets
// the usual one when it is in step with the master.
//
// A file in its data directory says that the copy is not on its disk yet, because from its start the
// node has an append-only file, which looks like data. Redis writes that file anew after the copy, and
// until then a restart would load the former one.

// firstCopy returns the name of the file that is there until a redis node has its first copy on disk.
func firstCopy(node string) string { return path.Join(dataOf(node), "first-copy") }

const firstCopyText = "This node has not yet had a complete copy of the master's data. The file is removed when it has.\n"

// awaitsFirstCopy reports whether a redis node has no copy of the data on its disk yet.
func (h home) awaitsFirstCopy(ctx context.Context, node string) (bool, error) {
	_, err := h.Stat(ctx, firstCopy(node))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// hasFirstCopy reports whether it is certain that a redis node has had its first copy. What the look
// at the node's host finds is kept, because a node loses its data only while it does not run.
func (s *Supervisor) hasFirstCopy(ctx context.Context, node string) bool {
	if has, known := s.firstCopies.Load(node); known {
		return has == true
	}
	if s.isElsewhere(node) || s.hosts.isAbsent(s.home(node).name) {
		return false
	}
	awaits, err := s.home(node).awaitsFirstCopy(ctx, node)
	if err != nil {
		return false
	}
	has, _ := s.firstCopies.LoadOrStore(node, !awaits) // a start may have begun meanwhile
	return has == true
}

// untilFilled returns the arguments of a redis node that is about to start as a replica. If it has no
// data, they keep the Sentinels from promoting it until followFirstCopy allows that. At the first boot
// of a stack there is no data that could be lost.
func (s *Supervisor) untilFilled(ctx context.Context, host home, node string, args []string) ([]string, error) {
	s.firstCopies.Store(node, false) // what was known is of the former process
	if !s.booted.Load() {
		s.firstCopies.Store(node, true)
		return args, nil
	}
	empty, err := host.empty(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("it is not known whether it has data: %w", err)
	}
	if !empty {
		s.firstCopies.Store(node, true)
		return args, nil
	}
	if err := host.MakeDir(ctx, dataOf(node)); err != nil {
		return nil, err
	}
	if err := host.Write(ctx, machine.File{Name: firstCopy(node), Mode: 0o600, Content: []byte(firstCopyText)}); err != nil {
		return nil, fmt.Errorf("note that it has no data yet: %w", err)
	}
	return slices.Concat(args, []string{"--replica-priority", strconv.Itoa(never)}), nil
}

// firstCopyEvery is the time between two looks for first copies.
const firstCopyEvery = 200 * time.Millisecond

// keepFirstCopies allows the Sentinels to promote the redis nodes that get their first copy.
func (s *Supervisor) keepFirstCopies() {
	for clock.Sleep(s.ctx, firstCopyEvery) {
		await(s.each(s.withoutFirstCopy(), func(node string) error {
			ctx, cancel := context.WithTimeout(s.ctx, fenceLimit)
			defer cancel()
			if !s.hasFirstCopy(ctx, node) {
				s.followFirstCopy(ctx, node)
			}
			return nil
		}))
	}
}

// withoutFirstCopy returns the redis nodes of this supervisor that run, and of which it is not known that
// they have had their first copy.
func (s *Supervisor) withoutFirstCopy() (nodes []string) {
	if s.copying.Load() {
		return nil // see untilCopied
	}
	for _, node := range s.nodesOfKind(plan.Redis) {
		if has, _ := s.firstCopies.Load(node); has == true || s.isElsewhere(node) || s.hosts.isAbsent(s.home(node).name) {
			continue
		}
		if st, _ := s.statusBoard.snapshot().Node(node); st.PID != 0 {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// followFirstCopy looks how far a redis node's first copy is. When it is in the node's memory, the node
// may be promoted; when it is on its disk, the file firstCopy goes.
func (s *Supervisor) followFirstCopy(ctx context.Context, node string) {
	switch awaits, err := s.home(node).awaitsFirstCopy(ctx, node); {
	case err != nil:
		return
	case !awaits && s.admin(node) != nil: // an operator has removed the file
		s.endFirstCopy(ctx, node)
		return
	}
	info, inMemory, err := s.copyInMemory(ctx, node)
	if err != nil {
		return
	}
	if s.switching.TryLock() { // a switchover sets priorities of its own
		s.setPromotion(ctx, node, inMemory)
		s.switching.Unlock()
	}
	if !inMemory {
		return
	}
	if info["aof_enabled"] != "1" || info["aof_rewrite_in_progress"] != "0" || info["aof_rewrite_scheduled"] != "0" ||
		info["aof_last_bgrewrite_status"] != "ok" {
		return
	}
	if err := s.home(node).Remove(ctx, firstCopy(node)); err == nil {
		s.endFirstCopy(ctx, node)
	}
}

// endFirstCopy notes that a redis node has had its first copy. From now on settleRedis looks after its
// priority, which may be one that a switchover left.
func (s *Supervisor) endFirstCopy(ctx context.Context, node string) {
	s.firstCopies.Store(node, true)
	if is, err := s.admin(node).Setting(ctx, "replica-priority"); err != nil || is != strconv.Itoa(usual) {
		s.unsettled.Store(true)
	}
}

// copyInMemory reports whether a redis node has had a complete copy of the data since its start, and
// returns its INFO. The offset of a replica that was never in step is 1 (Redis 7.0,
// genRedisInfoString); one that has lost its master keeps the offset that it had.
func (s *Supervisor) copyInMemory(ctx context.Context, node string) (info map[string]string, is bool, err error) {
	admin := s.admin(node)
	if admin == nil {
		return nil, false, errors.New("it is no node of the stack any more")
	}
	if info, err = admin.Info(ctx); err != nil {
		return nil, false, err
	}
	offset, _ := strconv.ParseInt(info["slave_repl_offset"], 10, 64)
	return info, info["role"] == "master" || info["master_sync_in_progress"] == "0" && (info["master_link_status"] == "up" || offset > 1), nil
}

// setPromotion has the Sentinels promote a redis node that awaits its first copy, or not. The caller
// holds switching.
func (s *Supervisor) setPromotion(ctx context.Context, node string, may bool) {
	is, err := s.admin(node).Setting(ctx, "replica-priority")
	if err != nil || (is != strconv.Itoa(never)) == may {
		return
	}
	want := never
	if may {
		want = usual
	}
	if err := s.admin(node).Prefer(ctx, want); err == nil {
		s.log.Info("a redis node started without data", "node", node, "has_a_copy", may, "priority", want)
	}
}

// mayPromote reports whether a redis node may be promoted as far as its first copy goes: it has had
// that, or has it in its memory. An error means that this is not known.
func (s *Supervisor) mayPromote(ctx context.Context, node string) (bool, error) {
	if s.hasFirstCopy(ctx, node) {
		return true, nil
	}
	_, inMemory, err := s.copyInMemory(ctx, node)
	return inMemory, err
}

// putPriorityBack gives a redis node the usual priority, unless it may still await its first copy.
func (s *Supervisor) putPriorityBack(ctx context.Context, node string) error {
	if may, err := s.mayPromote(ctx, node); err != nil || !may {
		return err
	}
	return s.admin(node).Prefer(ctx, usual)
}
