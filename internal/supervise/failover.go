package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/redis"
)

// A master whose process has ended need not be waited for. Sentinels wait until it
// has been silent for down-after; the supervisor, which owns the process, knows of its
// end at once and starts it again itself. So it has one Sentinel fail over there and
// then, with the votes of a majority, and has the other replicas follow. Only of a
// process that has ended: whether a master that is silent is dead, nobody can know.
// Where anything is not as it should be, the Sentinels are left to it.

// Time limits of a failover.
const (
	// lastWords is how long the replicas may take to read what the dead master sent
	// them, until they see its end.
	lastWords = 200 * time.Millisecond
	// lookLimit is how long the nodes and Sentinels may take to tell how things are.
	lookLimit = 150 * time.Millisecond
	// leadLimit is how long a Sentinel may take until its replica is the master,
	// before it is asked whether it is well. Mostly it takes 0.2 s.
	leadLimit = 700 * time.Millisecond

	// never is a replica-priority with which no Sentinel promotes a replica.
	never = 0
)

// errNotMaster reports that a redis node that has ended was not the master.
var errNotMaster = errors.New("it was not the master")

// errApart reports that the replicas and Sentinels have supervisors of their own: which of
// them run is not known here, and none could be helped where it fails.
var errApart = errors.New("other supervisors look after the other nodes")

// redisEnded has a redis node replaced whose process has ended, if it was the master. Where
// others look after the other nodes, nothing is done for a replica: one of them may be in the
// middle of a switchover, and hurried Sentinels see its promotion later.
func (s *Supervisor) redisEnded(node string) {
	if st, _ := s.board.snapshot().Node(node); s.hosts.apart && st.Role == "replica" {
		return
	}
	s.tasks.Go(func() {
		err := s.failOver(s.ctx, node)
		switch {
		case err == nil || errors.Is(err, errNotMaster):
		default:
			s.log.Info("the Sentinels are left to replace the master, if it was the master", "node", node, "why", err)
			s.hurry()
		}
	})
}

// failOver replaces a master whose process has ended. Its error says why that was
// not begun.
func (s *Supervisor) failOver(ctx context.Context, dead string) error {
	if s.hosts.apart {
		return errApart
	}
	if !s.switching.TryLock() {
		return errors.New("a switchover is under way")
	}
	defer s.switching.Unlock()

	w := &failover{succession: succession{sup: s, from: dead, log: s.log.With("from", dead)}, begun: time.Now()}
	if err := w.look(ctx); err != nil {
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

// failover is one that is under way.
type failover struct {
	succession
	begun time.Time
	// leader is the Sentinel that carries it out since led; its process was pid.
	leader string
	pid    int
	led    time.Time
	// offsets are how much data of the dead master each replica has.
	offsets map[string]int64
	// steered is true when replica-priority was changed.
	steered bool
}

// look finds out whether the node was the master, and waits until its replicas have
// seen its end: then they have all that they will ever have of it.
func (w *failover) look(ctx context.Context) error {
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
	case len(w.sup.former) > 0:
		return errors.New("redis nodes run that are not in the stack any more")
	}
	for _, name := range replicasOf(f, w.from) {
		switch st := f.Standings[name]; {
		case f.answers(name) && st.MasterAddress != address:
			return fmt.Errorf("%s follows %s", name, st.MasterAddress)
		case f.answers(name):
			w.inStep = append(w.inStep, name)
		case f.Running[name]:
			// It may have what the others have not.
			return fmt.Errorf("%s does not answer", name)
		}
	}
	if len(w.inStep) == 0 {
		return errors.New("no replica answers")
	}
	if !within(ctx, lastWords, switchPoll, w.sawTheEnd) {
		return fmt.Errorf("not every replica has seen its end within %v", lastWords)
	}
	return w.compareHistories(ctx)
}

// compareHistories takes in how much data each replica has, and makes sure that the
// offsets can be compared: one that was not in step with the dead master yet may have a
// higher offset of another history.
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

// sawTheEnd reports whether every replica followed the dead master and has lost the
// connection.
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

// chooseBest has the Sentinels promote the replica with the most data, which has every
// write that was acknowledged, or none, and of several one whose clock is right. Mostly all
// have the same, and it takes nothing:
// what the Sentinels know of the offsets may be old, and it does not matter then.
// Should this supervisor die now, the next one lets the others be promoted again.
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
	return w.steer(ctx, func(name string) int {
		if name == best {
			return preferred
		}
		return never // the best one may be out of a Sentinel's sight for a moment
	})
}

// steer sets the priority of every replica that is no master yet, and has the
// Sentinels ask for it.
func (w *failover) steer(ctx context.Context, priority func(name string) int) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	w.steered = true
	for _, name := range w.inStep {
		if w.promoted && name == w.to {
			continue
		}
		if err := w.admin(name).Prefer(ctx, priority(name)); err != nil {
			return fmt.Errorf("set the priority of %s: %w", name, err)
		}
	}
	w.sup.pacedBy([]step{{askPeriod, oneTick}, {holdPeriod, 2 * holdPeriod}})
	// After the short period, in which a Sentinel forgets too soon what it was told.
	if !w.sup.wait(oneTick) {
		return ctx.Err()
	}
	return nil
}

// begin has the fittest Sentinel fail over, or the next one where that cannot.
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

// leaders returns the Sentinels that could promote a fit replica now, first the one
// that will see its promotion soonest.
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

// seesPromotion is how long after the beginning of a failover its leader asks the
// replica that it promotes for INFO, which it did so long ago: a second after that,
// and if it is not promoted then, a second later.
func seesPromotion(age time.Duration) time.Duration {
	if age > beforeFailover {
		age -= time.Second
	}
	return time.Second - age
}

// canLead reports whether a Sentinel could promote the right replica at once, and how
// long ago it has asked for INFO.
func (w *failover) canLead(ctx context.Context, sentinel string) (can bool, age time.Duration) {
	if n := w.sup.node(sentinel); n == nil || !n.home().Present(ctx) || w.process(sentinel) == 0 {
		return false, 0 // nobody could help where it fails
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
			return false, 0 // it has not heard yet
		}
	}
	return can, age
}

// process is the pid of a node; 0: it has none.
func (w *failover) process(node string) int {
	st, _ := w.sup.board.snapshot().Node(node)
	return st.PID
}

// carryThrough sees to it that a failover that has begun comes to its end, whatever
// becomes of the Sentinel that leads it.
func (w *failover) carryThrough(ctx context.Context) {
	if !w.awaitPromotion(ctx) {
		w.log.Warn("no replica was promoted; the Sentinels go on trying")
		return
	}
	w.writeDown(ctx)
	w.turnOthers(ctx)
	w.log.Info("failover done", "master", w.to, "after", time.Since(w.begun))
	w.verify(ctx)
}

// awaitPromotion waits until a replica is the master. Where the leader ends or hangs,
// another Sentinel leads.
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

// leaderIsGone reports whether the leader has ended, also where it was started again,
// or has given up. One that hangs for too long is ended: it would go on with its
// failover later, beside whichever is next.
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

// turnOthers has the other replicas follow the new master, which takes no write until
// one does.
func (w *failover) turnOthers(ctx context.Context) {
	var all sync.WaitGroup
	for _, name := range w.others() {
		all.Go(func() {
			if err := w.turn(ctx, name); err != nil {
				w.log.Warn("cannot turn a replica; the Sentinels will", "node", name, "error", err)
			}
		})
	}
	all.Wait()
}

// verify waits until a majority of the Sentinels names the new master. Where the
// leader ends before the others have heard, another Sentinel leads, and has to choose
// the same replica.
func (w *failover) verify(ctx context.Context) {
	within(ctx, nameLimit, verifyPoll, func(ctx context.Context) bool {
		return w.named(ctx) || w.process(w.leader) != w.pid
	})
	if w.named(ctx) {
		return
	}
	w.log.Warn("the Sentinels do not name the new master yet: another one is asked", "not", w.leader)
	err := w.steer(ctx, func(string) int { return never })
	if err == nil {
		err = w.begin(ctx)
	}
	if err != nil || !within(ctx, nameLimit, verifyPoll, w.named) {
		w.log.Warn("no majority of the Sentinels names the new master yet", "master", w.to, "error", err)
	}
}

// putBack ends what the failover changed for the time being.
func (w *failover) putBack() {
	if !w.steered {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, name := range w.inStep {
		if err := w.admin(name).Prefer(ctx, usual); err != nil {
			w.sup.unsettled.Store(true)
		}
	}
}
