package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
)

// When restored data is in its place, one host of several has it, and every other redis node is
// empty. If that host were lost now, the stack would have no data. So the decision for the
// restore stands until another host has a copy: until then the restore can be given up, and the
// former data put back. No write may be acknowledged meanwhile, because it would be lost then.
// Every redis node that starts before there is a copy refuses writes, and web nodes hold them.

// untilCopied returns the arguments of a redis node that is about to start. While no other host
// has a copy of restored data, the node refuses writes from its start, because it needs more
// replicas than any stack has (redis.conf, min-replicas-to-write). Nor does a Sentinel promote it,
// because it may have no data yet (redis.conf, replica-priority).
func (s *Supervisor) untilCopied(args []string) []string {
	if !s.copying.Load() {
		return args
	}
	return slices.Concat(args, []string{"--min-replicas-to-write", "1000", "--replica-priority", "0"})
}

// copyEvery is the time between two looks for a copy of restored data. copierPatience is how long the
// stack waits for a host with a copier while all of these hosts are away.
const (
	copyEvery      = 50 * time.Millisecond
	copierPatience = time.Minute
)

// errLost is the error of a restore whose data was lost with its host before another one had a
// copy.
var errLost = errors.New("the host with the restored data was lost before another host had a copy")

// finishRestore waits until one of the copiers, which are redis nodes on other hosts, has a copy
// of the data that a restore has put into its place. Then it forgets the decision, and has the
// redis nodes take writes again. Its error is errLost, or another reason why the next supervisor
// has to go on with the restore or to give it up.
func (s *Supervisor) finishRestore(ctx context.Context, r decidedRestore, copiers []string) error {
	x := restoring{s.dir, s.hosts}
	if len(copiers) > 0 {
		if err := s.awaitCopy(ctx, r, copiers); err != nil {
			return err
		}
	}
	if err := x.end(ctx, r); err != nil {
		return err
	}
	s.copying.Store(false)
	s.takeWrites(ctx)
	s.restoring.Store(false)
	return nil
}

// notOn returns those of the nodes that are on other hosts than this one.
func (s *Supervisor) notOn(host string, nodes []string) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(name string) bool { return s.home(name).name == host })
}

// awaitCopy waits until one of the copiers is in step with the node that has the restored data. It
// waits for loadLimit at most, and for copierPatience if the hosts of all copiers are away. The stack
// goes on without a copy then: its operator may have to replace the other hosts, which a restore that
// is under way would not allow.
func (s *Supervisor) awaitCopy(ctx context.Context, r decidedRestore, copiers []string) error {
	from := restoring{s.dir, s.hosts}.at(r.Host)
	waiting, end := s.whileReached(ctx, from)
	defer end()
	waiting, cancel := context.WithTimeout(waiting, loadLimit)
	defer cancel()

	began, heard := time.Now(), time.Now() // heard is when the host of a copier was last there
	copied := false
	goOn := func() bool {
		copied = slices.ContainsFunc(copiers, func(name string) bool {
			if s.hosts.isAbsent(s.home(name).name) || s.node(r.Node) == nil {
				return false
			}
			heard = time.Now()
			look, cancel := context.WithTimeout(waiting, time.Second)
			defer cancel()
			st, err := s.admin(name).Standing(look)
			return err == nil && st.Linked && st.MasterAddress == s.node(r.Node).spec().Address
		})
		return copied || time.Since(heard) > copierPatience
	}
	switch clock.Poll(waiting, copyEvery, goOn); {
	case copied:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(context.Cause(waiting), errUnreached):
		return fmt.Errorf("host %s: %w", from.name, errLost)
	}
	s.log.Error("no other host has a copy of the restored data yet: the stack goes on without", "waited", time.Since(began).Round(time.Second))
	return nil
}

// takeWrites gives the redis nodes their usual settings, after untilCopied. A node that cannot be
// reached gets them from keepSettled.
func (s *Supervisor) takeWrites(ctx context.Context) {
	failures := await(s.each(s.nodesOfKind(plan.Redis), func(name string) error {
		if s.hosts.isAbsent(s.home(name).name) {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, fenceLimit)
		defer cancel()
		// The restored data may be lost with its host from now on, so a copy may be promoted before writes
		// are taken.
		if err := s.putPriorityBack(ctx, name); err != nil {
			return err
		}
		return s.admin(name).Configure(ctx, s.usualSettings(ctx, name))
	}))
	if len(failures) > 0 {
		s.unsettled.Store(true)
	}
}

// goOnRestoring finishes a restore that an earlier supervisor has decided, and that this one has
// carried through as far as the data's place. If it cannot be finished, the supervisor begins
// anew and gives the restore up.
func (s *Supervisor) goOnRestoring() {
	s.switching.Lock() // a switchover would have a master take writes again
	defer s.switching.Unlock()
	var r decidedRestore
	err := s.dir.readJSON(restoreFile, &r)
	if err == nil {
		wanted := slices.DeleteFunc(s.nodesOfKind(plan.Redis), func(name string) bool { return s.node(name).keepDown.Load() })
		err = s.finishRestore(s.ctx, r, s.notOn(r.Host, wanted))
	}
	if err != nil && s.ctx.Err() == nil {
		s.askToReopen(&RestoreCutError{err})
	}
}

// awaitCopied waits until the restored data has a copy, or ctx ends. No node may be restarted
// before: the one with the data could come back to an empty master.
func (s *Supervisor) awaitCopied(ctx context.Context) {
	clock.Poll(ctx, copyEvery, func() bool { return !s.copying.Load() })
}

// askToReopen asks the owner of the supervisor to close it and to open another one.
func (s *Supervisor) askToReopen(why error) {
	select {
	case s.reopen <- why:
	default: // it was asked already
	}
}

// Reopen receives the reason when the supervisor of a stack of several hosts has to be closed and
// another one opened: Open does what has to be done about a restore that was decided and cut off.
func (s *Supervisor) Reopen() <-chan error { return s.reopen }
