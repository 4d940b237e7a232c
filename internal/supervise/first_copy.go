package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// A replica that starts without data gets a copy of all data from the master. Until the copy is
// complete, no Sentinel may promote the replica: if the master died meanwhile, and no other replica
// were there, the stack would go on empty, and the master would be emptied too when it is back. So
// such a replica starts with a priority that forbids its promotion (redis.conf, replica-priority), and
// a file in its data directory says so to later starts and supervisors, because from its start the
// node has an append-only file, which looks like data.

// firstCopy returns the name of the file that is there until a redis node has had its first copy.
func firstCopy(node string) string { return path.Join(dataOf(node), "first-copy") }

const firstCopyText = "This node has not yet had a complete copy of the master's data. It is removed when it has.\n"

// awaitsFirstCopy reports whether a redis node has not had a complete copy of the data yet, as far as
// this supervisor knows. Redis nodes of other supervisors, in pods, have not been looked at.
func (s *Supervisor) awaitsFirstCopy(node string) bool {
	awaits, _ := s.firstCopies.Load(node)
	return awaits == true
}

// unfilled returns the redis nodes that await their first copy.
func (s *Supervisor) unfilled() map[string]bool {
	awaiting := map[string]bool{}
	for _, node := range s.nodesOfKind(plan.Redis) {
		if s.awaitsFirstCopy(node) {
			awaiting[node] = true
		}
	}
	return awaiting
}

// untilFilled returns the arguments of a redis node that is about to start as a replica. If it has no
// data, they keep the Sentinels from promoting it until followFirstCopies allows that. At the first
// boot of a stack there is no data that could be lost.
func (s *Supervisor) untilFilled(ctx context.Context, host home, node string, args []string) ([]string, error) {
	if !s.booted.Load() {
		return args, nil
	}
	empty, err := host.empty(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("it is not known whether it has data: %w", err)
	}
	if !empty {
		s.firstCopies.Store(node, false)
		return args, nil
	}
	if err := host.MakeDir(ctx, dataOf(node)); err != nil {
		return nil, err
	}
	if err := host.Write(ctx, machine.File{Name: firstCopy(node), Mode: 0o600, Content: []byte(firstCopyText)}); err != nil {
		return nil, fmt.Errorf("note that it has no data yet: %w", err)
	}
	s.firstCopies.Store(node, true)
	return slices.Concat(args, []string{"--replica-priority", strconv.Itoa(never)}), nil
}

// followFirstCopies allows the Sentinels to promote the redis nodes that have had their first copy. It
// is called again and again.
func (s *Supervisor) followFirstCopies(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	for _, node := range s.nodesOfKind(plan.Redis) {
		if s.isElsewhere(node) {
			continue
		}
		if _, known := s.firstCopies.Load(node); !known { // an earlier supervisor may have started it
			_, err := s.home(node).Stat(ctx, firstCopy(node))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				continue // its host is away
			}
			s.firstCopies.Store(node, err == nil)
		}
		if s.awaitsFirstCopy(node) && !s.copying.Load() && s.isFilled(ctx, node) {
			s.endFirstCopy(ctx, node)
		}
	}
}

// isFilled reports whether a redis node has all data in its memory and in its append-only file. After
// a copy Redis writes that file anew, and until then a restart would load the former one.
func (s *Supervisor) isFilled(ctx context.Context, node string) bool {
	standing, err := s.admin(node).Standing(ctx)
	if err != nil || !standing.Master && !standing.Linked {
		return false
	}
	info, err := s.admin(node).Info(ctx)
	return err == nil && info["aof_enabled"] == "1" && info["aof_rewrite_in_progress"] == "0" && info["aof_rewrite_scheduled"] == "0" &&
		info["aof_last_bgrewrite_status"] == "ok"
}

func (s *Supervisor) endFirstCopy(ctx context.Context, node string) {
	if err := s.home(node).Remove(ctx, firstCopy(node)); err != nil {
		s.log.Warn("a redis node has all data now, and this cannot be noted", "node", node, "error", err)
		return
	}
	s.firstCopies.Store(node, false)
	s.log.Info("a redis node that started without data has all data now", "node", node)
	if err := s.admin(node).Prefer(ctx, usual); err != nil {
		s.unsettled.Store(true)
	}
}
