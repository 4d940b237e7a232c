package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/redis"
)

// How a master whose process has ended is replaced at once. Sentinels wait until it has been
// silent for down-after. The supervisor owns the process and would start it again, so it knows
// of the end at once. It has one Sentinel fail over immediately, with the votes of a majority,
// and has the other replicas follow.
//
// It does so only for a process that has ended, because nobody can know whether a silent master
// is dead. If anything is not as it should be, the failover is left to the Sentinels.

// Time limits of a failover.
const (
	// lastDataLimit is how long the replicas may take to read what the dead master sent them, and
	// then to see the end of the connection.
	lastDataLimit = 200 * time.Millisecond
	// lookLimit is how long the nodes and Sentinels may take to reply.
	lookLimit = 150 * time.Millisecond
	// leadLimit is how long a Sentinel may take until its replica is the master, before it is
	// asked whether it is well. Usually it takes 0.2 s.
	leadLimit = 700 * time.Millisecond

	// never is the replica-priority of a replica that no Sentinel promotes.
	never = 0
)

// errNotMaster is the error of a redis node that has ended and was not the master.
var errNotMaster = errors.New("it was not the master")

// errApart is the error where the replicas and Sentinels have supervisors of their own. Then it
// is not known here which of them run, and this supervisor could not help if one fails.
var errApart = errors.New("other supervisors look after the other nodes")

// redisEnded is called when the process of a redis node has ended, and has the node replaced if
// it was the master. In pods nothing is done for a replica. The supervisor of another pod may be
// in the middle of a switchover, and Sentinels that poll faster see its promotion later.
func (s *Supervisor) redisEnded(node string) {
	if st, _ := s.statusBoard.snapshot().Node(node); s.hosts.apart && st.Role == "replica" {
		return
	}
	s.tasks.Go(func() {
		err := s.failOver(s.ctx, node)
		switch {
		case err == nil || errors.Is(err, errNotMaster):
		default:
			s.log.Info("the Sentinels are left to replace the master, if it was the master", "node", node, "why", err)
			s.speedUpFailover()
		}
	})
}

// failOver replaces a master whose process has ended. An error means that the failover was not
// begun.
func (s *Supervisor) failOver(ctx context.Context, dead string) error {
	if s.hosts.apart {
		return errApart
	}
	if !s.switching.TryLock() {
		return errors.New("a switchover is under way")
	}
	defer s.switching.Unlock()

	w := &failover{succession: succession{sup: s, from: dead, log: s.log.With("from", dead)}, begun: time.Now()}

	if err := w.checkDeadMaster(ctx); err != nil {
		return err
	}
	defer w.putBack()
	if err := w.chooseBest(ctx); err != nil {
		return err
	}
	if err := w.begin(ctx); err != nil {
		return err
	}

	w.carryThrough(ctx)
	return nil
}

// failover is a failover that is under way.
type failover struct {
	succession
	begun time.Time
	// leader is the Sentinel that carries the failover out, since the time led. pid is the
	// leader's process then.
	leader string
	pid    int
	led    time.Time
	// offsets holds the replication offset of each replica: how much of the dead master's data
	// it has.
	offsets map[string]int64
	// prioritiesSet is true when replica-priority was changed at the replicas.
	prioritiesSet bool
}

// checkDeadMaster checks that the node was the master, and waits until its replicas have seen its
// end. Then they have all that they will ever have from it.
func (w *failover) checkDeadMaster(ctx context.Context) error {
	f := w.sup.gather(ctx, lookLimit)
	w.facts = f

	address, _, err := f.master()
	name := f.nameOf(address)
	switch {
	case err != nil:
		return err
	case name != w.from && f.Standings[name].Master:
		return errNotMaster
	case name != w.from:
		return fmt.Errorf("the Sentinels name %s master", address)
	case f.otherMaster(w.from) != "":
		return fmt.Errorf("%s calls itself master already", f.otherMaster(w.from))
	case f.failing():
		return errors.New("a failover is under way")
	case len(w.sup.formerRedisAddresses) > 0:
		return errors.New("redis nodes run that are not in the stack any more")
	}

	fit, err := w.withData(ctx, replicasOf(f, w.from))
	if err != nil {
		return err
	}
	for _, name := range replicasOf(f, w.from) {
		switch st := f.Standings[name]; {
		case f.answers(name) && !fit[name]:
		case f.answers(name) && st.MasterAddress != address:
			return fmt.Errorf("%s follows %s", name, st.MasterAddress)
		case f.answers(name):
			w.inStep = append(w.inStep, name)
		case f.Running[name]:
			// It may have data that the others lack.
			return fmt.Errorf("%s does not answer", name)
		}
	}

	if len(w.inStep) == 0 {
		return errors.New("no replica answers")
	}
	if !within(ctx, lastDataLimit, switchPoll, w.sawTheEnd) {
		return fmt.Errorf("not every replica has seen its end within %v", lastDataLimit)
	}
	return w.compareHistories(ctx)
}

// compareHistories notes how much data each replica has, and returns an error if their offsets
// cannot be compared: a replica that was not yet in step with the dead master may have a higher
// offset of another history.
func (w *failover) compareHistories(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	w.offsets = map[string]int64{}
	histories, failed := make([]redis.History, len(w.inStep)), make([]error, len(w.inStep))
	var all sync.WaitGroup
	for i, name := range w.inStep {
		all.Go(func() { histories[i], failed[i] = w.admin(name).History(ctx) })
	}
	all.Wait()
	for i, name := range w.inStep {
		if failed[i] == nil && histories[i].ID != histories[0].ID {
			return fmt.Errorf("%s was not in step with the same master as %s", name, w.inStep[0])
		}
		w.offsets[name] = histories[i].Offset
	}
	return errors.Join(failed...)
}

// sawTheEnd reports whether every replica followed the dead master and has lost the connection
// to it.
func (w *failover) sawTheEnd(ctx context.Context) bool {
	saw := make([]bool, len(w.inStep))
	var all sync.WaitGroup
	for i, name := range w.inStep {
		all.Go(func() {
			st, err := w.admin(name).Standing(ctx)
			saw[i] = err == nil && !st.Master && !st.Linked && st.MasterAddress == w.address(w.from)
		})
	}
	all.Wait()
	return !slices.Contains(saw, false)
}

// chooseBest has the Sentinels promote the replica with the most data, and among several of
// those one whose clock is right. If any replica has every acknowledged write, that one has.
// Usually all replicas have the same, and there is nothing to do: the Sentinels may know old
// offsets, but then that does not matter. If this supervisor dies now, the next one puts the
// priorities back.
func (w *failover) chooseBest(ctx context.Context) error {
	offset := func(name string) int64 { return w.offsets[name] }
	wrong := w.sup.wrongClocks(ctx, w.inStep)
	right := func(name string) int {
		if wrong[name] {
			return 0
		}
		return 1
	}

	best := slices.MaxFunc(w.inStep, func(a, b string) int {
		return cmp.Or(cmp.Compare(offset(a), offset(b)), cmp.Compare(right(a), right(b)))
	})

	if !slices.ContainsFunc(w.inStep, func(name string) bool { return offset(name) < offset(best) || right(name) < right(best) }) {
		return nil
	}

	w.to = best
	return w.setPriorities(ctx, func(name string) int {
		if name == best {
			return preferred
		}
		return never // a Sentinel may not see the best replica for a moment
	})
}

// setPriorities sets the replica-priority of every replica that is not the master yet, and has the
// Sentinels poll for it.
func (w *failover) setPriorities(ctx context.Context, priority func(name string) int) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()

	w.prioritiesSet = true
	for _, name := range w.inStep {
		if w.promoted && name == w.to {
			continue
		}
		if err := w.admin(name).Prefer(ctx, priority(name)); err != nil {
			return fmt.Errorf("set the priority of %s: %w", name, err)
		}
	}

	w.sup.applyPeriodSteps([]periodStep{{askPeriod, oneTick}, {holdPeriod, 2 * holdPeriod}})
	// Wait out the short period, in which a Sentinel forgets too soon what it was told.
	if !clock.Sleep(w.sup.ctx, oneTick) {
		return ctx.Err()
	}
	return nil
}

// begin has the fittest Sentinel fail over, or the next one if that one cannot.
func (w *failover) begin(ctx context.Context) error {
	var leaders []string
	within(ctx, fenceLimit, switchPoll, func(ctx context.Context) bool {
		leaders = w.leaders(ctx)
		return len(leaders) > 0
	})

	err := errors.New("no Sentinel could carry it out now")
	for _, leader := range leaders {
		w.leader, w.pid, w.led = leader, w.process(leader), time.Now()
		if err = w.elect(ctx, leader); err == nil {
			w.log.Info("failover begins: the master's process has ended", "leader", leader, "after", time.Since(w.begun))
			return nil
		}
		w.log.Warn("a Sentinel does not carry the failover out", "sentinel", leader, "error", err)
	}
	return err
}

// leaders returns the Sentinels that could promote a fit replica now. First is the one that will
// see the promotion soonest.
func (w *failover) leaders(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	names := w.sup.sentinels()
	fit, ages := make([]bool, len(names)), make([]time.Duration, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { fit[i], ages[i] = w.canLead(ctx, name) })
	}
	all.Wait()

	var leaders []string
	sees := map[string]time.Duration{}
	for i, name := range names {
		if fit[i] {
			leaders = append(leaders, name)
			sees[name] = seesPromotion(ages[i])
		}
	}
	slices.SortStableFunc(leaders, func(a, b string) int { return cmp.Compare(sees[a], sees[b]) })
	return leaders
}

// seesPromotion returns how long after the beginning of a failover its leader will ask the
// replica that it promotes for INFO. age is how long ago it asked last. It asks one second after
// that, and, if the replica is not promoted then, again a second later.
func seesPromotion(age time.Duration) time.Duration {
	if age > beforeFailover {
		age -= time.Second
	}
	return time.Second - age
}

// canLead reports whether a Sentinel could promote the right replica at once, and how long ago
// it asked the replica for INFO.
func (w *failover) canLead(ctx context.Context, sentinel string) (can bool, age time.Duration) {
	if n := w.sup.node(sentinel); n == nil || !n.home().Present(ctx) || w.process(sentinel) == 0 {
		return false, 0 // it could not be helped if it fails
	}

	view, err := w.admin(sentinel).View(ctx, w.sup.name())
	if err != nil || view.Address != w.address(w.from) || view.Failing {
		return false, 0
	}
	if tilted, err := w.admin(sentinel).Tilted(ctx); err != nil || tilted {
		return false, 0
	}

	known, err := w.admin(sentinel).KnownReplicas(ctx, w.sup.name())
	if err != nil {
		return false, 0
	}

	for _, name := range w.inStep {
		replica := known[w.address(name)]
		switch {
		case replica.Eligible && (w.to == "" || name == w.to):
			can, age = true, max(age, replica.InfoAge)
		case w.to != "" && name != w.to && replica.Priority != never:
			return false, 0 // it does not know of the changed priority yet
		}
	}
	return can, age
}

// process returns the pid of a node, or 0 if it has no process.
func (w *failover) process(node string) int {
	st, _ := w.sup.statusBoard.snapshot().Node(node)
	return st.PID
}

// carryThrough brings a failover that has begun to its end, even if the Sentinel that leads it
// fails.
func (w *failover) carryThrough(ctx context.Context) {
	if !w.awaitPromotion(ctx) {
		w.log.Warn("no replica was promoted; the Sentinels go on trying")
		return
	}
	w.writeDown(ctx)
	w.redirectReplicas(ctx)
	w.log.Info("failover done", "master", w.to, "after", time.Since(w.begun))
	w.verify(ctx)
}

// awaitPromotion waits until a replica is the master. If the leader ends or hangs, another
// Sentinel takes over.
func (w *failover) awaitPromotion(ctx context.Context) bool {
	for end := time.Now().Add(promoteLimit); time.Now().Before(end) && ctx.Err() == nil; {
		if w.becomesMaster(ctx, lookLimit) {
			return true
		}
		if !w.leaderIsGone(ctx) {
			continue
		}
		w.log.Warn("the Sentinel that led the failover is gone: another one leads", "sentinel", w.leader)
		if err := w.begin(ctx); err != nil {
			w.log.Warn("no other Sentinel leads", "error", err)
			return w.becomesMaster(ctx, fenceLimit)
		}
	}
	return false
}

// leaderIsGone reports whether the leader has ended (it may have been restarted since) or has
// given up. It kills a leader that hangs for too long, which would otherwise resume its failover
// later, beside the next leader's.
func (w *failover) leaderIsGone(ctx context.Context) bool {
	if w.process(w.leader) != w.pid {
		return true
	}

	if time.Since(w.led) < leadLimit {
		return false
	}

	asking, cancel := context.WithTimeout(ctx, fenceLimit/2)
	defer cancel()
	view, err := w.admin(w.leader).View(asking, w.sup.name())
	if err == nil || redis.Spoke(err) {
		return err == nil && !view.Failing && view.Address == w.address(w.from)
	}

	w.log.Error("the Sentinel that leads the failover does not answer: killed", "sentinel", w.leader)
	killing, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := w.sup.send(killing, w.leader, command{action: ActKill}); err != nil {
		w.log.Error("cannot kill it", "sentinel", w.leader, "error", err)
		return false
	}
	return w.process(w.leader) != w.pid
}

// redirectReplicas has the other replicas follow the new master, which takes no write before one
// does.
func (w *failover) redirectReplicas(ctx context.Context) {
	var all sync.WaitGroup
	for _, name := range w.others() {
		all.Go(func() {
			if err := w.followNewMaster(ctx, name); err != nil {
				w.log.Warn("cannot turn a replica; the Sentinels will", "node", name, "error", err)
			}
		})
	}
	all.Wait()
}

// verify waits until a majority of the Sentinels names the new master. If the leader ends before
// the others have heard of it, another Sentinel leads, and is made to choose the same replica.
func (w *failover) verify(ctx context.Context) {
	within(ctx, nameLimit, verifyPoll, func(ctx context.Context) bool {
		return w.majorityNamesSuccessor(ctx) || w.process(w.leader) != w.pid
	})
	if w.majorityNamesSuccessor(ctx) {
		return
	}

	w.log.Warn("the Sentinels do not name the new master yet: another one is asked", "not", w.leader)
	err := w.setPriorities(ctx, func(string) int { return never })
	if err == nil {
		err = w.begin(ctx)
	}

	if err != nil || !within(ctx, nameLimit, verifyPoll, w.majorityNamesSuccessor) {
		w.log.Warn("no majority of the Sentinels names the new master yet", "master", w.to, "error", err)
	}
}

// putBack restores the priorities that the failover changed.
func (w *failover) putBack() {
	if !w.prioritiesSet {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, name := range w.inStep {
		if err := w.sup.putPriorityBack(ctx, name); err != nil {
			w.sup.unsettled.Store(true)
		}
	}
}

// withData returns which of the replicas that answer may be promoted as far as their first copies go.
func (w *failover) withData(ctx context.Context, replicas []string) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	fit := map[string]bool{}
	for _, name := range replicas {
		if !w.facts.answers(name) {
			continue
		}
		may, err := w.sup.mayPromote(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("it is not known whether %s has all data: %w", name, err)
		}
		fit[name] = may
	}
	return fit, nil
}
