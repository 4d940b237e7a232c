package supervise

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// A switchover makes a replica the master while the old master works. SENTINEL FAILOVER alone
// would lose what is written to the old master until it learns about its successor, about five
// seconds later. So first the old master refuses every write, then the replica gets all data,
// and the old master follows the new one as soon as that is promoted. Web nodes hold their
// requests meanwhile.

// Time limits of a switchover.
const (
	// steerLimit is how long the Sentinels may take to learn the replicas' priorities. No write
	// waits for that.
	steerLimit = 3 * time.Second
	// fenceLimit is how long writes wait for the replicas to have all data, and again how long
	// they wait for the promotion. After that, writes go on at the old master.
	fenceLimit = 500 * time.Millisecond
	// promoteLimit is how long a late promotion may take. If a Sentinel is still trying then, the
	// switchover waits until it gives up.
	promoteLimit = 5 * time.Second
	// nameLimit is how long one Sentinel's failover may take until a majority of them names the
	// new master. After that, another Sentinel is asked.
	nameLimit = 2 * time.Second
	// joinLimit is how long the other nodes may take to be in step with the new master.
	joinLimit = 10 * time.Second

	// switchPoll is how often a node is asked while writes wait, and verifyPoll how often all
	// nodes are asked afterwards.
	switchPoll, verifyPoll = 5 * time.Millisecond, 25 * time.Millisecond

	// preferred and usual are values of replica-priority; usual is Redis' default.
	preferred, usual = 1, 100
	// beforeFailover is timed so that the leading Sentinel asks for INFO just after the promotion:
	// it asks a second after the last time (see infoPeriod).
	beforeFailover = 650 * time.Millisecond
)

// Switched is the outcome of a switchover.
type Switched struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Waited is how long no node accepted writes, in milliseconds.
	Waited int64 `json:"waited_ms"`
}

// RefusedError is the reason why something did not begin, such as a switchover; nothing was
// changed.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }

func refused(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// Switchover makes the redis node to the master; if to is empty, it takes the node that
// chooseSuccessor returns. It returns when every node and Sentinel knows the new master. Its
// error is a *RefusedError if the switchover did not begin. It may take some seconds, but
// writes wait only for a fraction of a second.
func (s *Supervisor) Switchover(ctx context.Context, to string) (Switched, error) {
	return asTask(s, func() (Switched, error) { return s.switchOver(ctx, "", to) })
}

// asTask runs do as a task that Close waits for, so that the supervisor leaves nothing half
// done to a program that takes its place.
func asTask[T any](s *Supervisor, do func() (T, error)) (done T, err error) {
	ended := make(chan struct{})
	s.tasks.Go(func() {
		defer close(ended)
		done, err = do()
	})
	<-ended
	return done, err
}

// switchPatience is how long a caller that needs switching waits for it. Not only switchovers
// hold it, and some only for a moment.
const switchPatience = 2 * time.Second

// awaitSwitching locks switching, and returns false if it could not, because a switchover is
// under way. The caller unlocks switching.
func (s *Supervisor) awaitSwitching(ctx context.Context) bool {
	return within(ctx, switchPatience, 20*time.Millisecond, func(context.Context) bool { return s.switching.TryLock() })
}

// switchOver is Switchover, but does nothing if the master is not the node only. If only is
// empty, it replaces any master.
func (s *Supervisor) switchOver(ctx context.Context, only, to string) (_ Switched, err error) {
	defer func() { s.tally.switched(err) }()
	if s.stopping.Load() {
		return Switched{}, errStopping
	}
	if !s.stack().Redis.Enabled {
		return Switched{}, refused("the stack has no Redis")
	}
	if to != "" && !slices.Contains(s.nodesOfKind(plan.Redis), to) {
		return Switched{}, &UnknownNodeError{Node: to, Kind: plan.Redis, Nodes: s.nodesOfKind(plan.Redis)}
	}
	if !s.awaitSwitching(ctx) {
		return Switched{}, refused("another switchover is under way")
	}
	defer s.switching.Unlock()

	f := s.gather(ctx, time.Second)
	f.WrongClocks = s.wrongClocks(ctx, s.nodesOfKind(plan.Redis))
	from, heir, err := chooseSuccessor(f, to)
	if err != nil {
		return Switched{}, err
	}
	if only != "" && from != only {
		return Switched{From: only, To: from}, nil
	}

	w := s.newSwitchover(f, from, heir)
	s.tally.switches(heir)
	defer s.tally.ended()
	w.log.Info("switchover begins")
	waited, err := w.run(ctx)
	if err != nil {
		w.log.Warn("switchover failed", "error", err)
		return Switched{}, err
	}
	w.log.Info("switchover done", "master", w.to, "waited", waited)
	if to != "" && w.to != to {
		return Switched{}, fmt.Errorf("the Sentinels made %s the master, and not %s", w.to, to)
	}
	return Switched{From: from, To: w.to, Waited: waited.Milliseconds()}, nil
}

// switchover is a switchover that is under way.
type switchover struct {
	succession
	fencedAt time.Time
	// open is how long the fence was lifted in between.
	open time.Duration
	// turned is true once the old master follows the new one.
	turned bool
	// endBlocking stops keeping programs away from the old master; nil: they are not kept away.
	endBlocking func()
	// routedAt is when programs were directed to the new master.
	routedAt time.Time
	// behind are replicas that did not get all data while writes waited.
	behind []string
}

func (s *Supervisor) newSwitchover(f redisFacts, from, to string) *switchover {
	w := &switchover{succession: succession{sup: s, from: from, to: to, facts: f, log: s.log.With("from", from, "to", to)}}
	for _, name := range replicasOf(f, from) {
		if f.Standings[name].Linked && w.admin(name) != nil {
			w.inStep = append(w.inStep, name)
		}
	}
	return w
}

// run carries the switchover out. It undoes its temporary changes in any case, also when ctx
// has ended.
func (w *switchover) run(ctx context.Context) (waited time.Duration, err error) {
	// If the operator's request ends in the middle, the switchover goes on; from here on only the
	// end of the supervisor stops it.
	ctx = context.WithoutCancel(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.sup.ctx, cancel)()

	endGuard, err := w.sup.startGuard()
	if err != nil {
		return 0, refused("the process that would lift the stop of writes, should this supervisor die, cannot be started: %v", err)
	}
	defer endGuard()
	defer w.putBack()
	leaders, err := w.preferSuccessor(ctx)
	if err != nil {
		return 0, err
	}
	if err := w.fence(ctx); err != nil {
		return 0, err
	}
	if err := w.awaitSameData(ctx); err != nil {
		return 0, err
	}
	if err := w.askForFailover(ctx, leaders); err != nil {
		return 0, err
	}
	if err := w.awaitPromotion(ctx); err != nil {
		return 0, err
	}
	w.writeDown(ctx)
	w.redirectReplicas(ctx)
	waited = (time.Since(w.fencedAt) - w.open).Round(time.Millisecond)
	w.routeToNewMaster()
	return waited, w.verify(ctx, leaders)
}

// setsPriority reports whether the switchover sets a replica's priority. One that is not in step with
// the master may await its first copy, and keeps the one that it has.
func (w *switchover) setsPriority(name string) bool {
	return w.facts.answers(name) && w.admin(name) != nil && (name == w.to || w.facts.Standings[name].Linked)
}

// preferSuccessor makes the Sentinels prefer the successor, and returns the Sentinels that can
// carry the failover out.
func (w *switchover) preferSuccessor(ctx context.Context) (leaders []string, err error) {
	for _, name := range replicasOf(w.facts, w.from) {
		priority := usual
		if name == w.to {
			priority = preferred
		}
		if !w.setsPriority(name) {
			continue
		}
		if err := w.admin(name).Prefer(ctx, priority); err != nil && name == w.to {
			return nil, refused("%s cannot become the master: %v", name, err)
		}
	}
	asked := time.Now()
	w.sup.applyPeriodSteps([]periodStep{{askPeriod, oneTick}, {holdPeriod, 2 * holdPeriod}})
	var known int
	ready := func(ctx context.Context) bool {
		known, leaders = w.countInformed(ctx)
		return known > w.facts.Sentinels/2 && len(leaders) > 0
	}
	switch is := within(ctx, steerLimit, 50*time.Millisecond, ready); {
	case !is && known > w.facts.Sentinels/2:
		return nil, refused("every Sentinel is in TILT mode: its clock jumped, or it did not run for a while; try again in half a minute")
	case !is:
		return nil, refused("the Sentinels did not hear within %v that %s is to be preferred", steerLimit, w.to)
	}
	clock.Sleep(w.sup.ctx, time.Until(asked.Add(beforeFailover)))
	return leaders, nil
}

// countInformed returns how many Sentinels know that the successor is preferred, and which of them
// would promote it at once.
func (w *switchover) countInformed(ctx context.Context) (known int, leaders []string) {
	// A Sentinel that hangs must not delay the answers of the others.
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	names := w.sup.sentinels()
	knows, leads := make([]bool, len(names)), make([]bool, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { knows[i], leads[i] = w.isInformed(ctx, name) })
	}
	all.Wait()

	for i, name := range names {
		if knows[i] {
			known++
		}
		if leads[i] {
			leaders = append(leaders, name)
		}
	}
	return known, leaders
}

func (w *switchover) isInformed(ctx context.Context, sentinel string) (knows, leads bool) {
	view, err := w.admin(sentinel).View(ctx, w.sup.name())
	if err != nil || view.Address != w.address(w.from) || view.Failing || view.Down {
		return false, false
	}
	replicas, err := w.admin(sentinel).KnownReplicas(ctx, w.sup.name())
	if err != nil || replicas[w.address(w.to)].Priority != preferred {
		return false, false
	}
	tilted, err := w.admin(sentinel).Tilted(ctx)
	return true, err == nil && !tilted
}

// fence makes the old master refuse writes.
func (w *switchover) fence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	w.blockMasterRoute()
	if w.fencedAt.IsZero() {
		w.fencedAt = time.Now()
	}
	if err := w.admin(w.from).Fence(ctx); err != nil {
		return fmt.Errorf("stop writes at %s: %w", w.from, err)
	}
	// The pause ends by itself if the supervisor dies. Writes are refused by the fence; but
	// without the pause, the old master would be ahead of its successor.
	if err := w.admin(w.from).PauseWrites(ctx, 2*fenceLimit); err != nil {
		return fmt.Errorf("pause %s: %w", w.from, err)
	}
	return nil
}

// awaitSameData waits until every replica that was in step has all data of the old master,
// which accepts no more writes.
func (w *switchover) awaitSameData(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	old, err := w.admin(w.from).Standing(ctx)
	if err != nil {
		return fmt.Errorf("ask %s for its offset: %w", w.from, err)
	}
	if !old.Master {
		return fmt.Errorf("%s is not the master any more: the Sentinels were faster", w.from)
	}

	replicas := w.inStep
	has := make([]bool, len(replicas))
	var all sync.WaitGroup
	for i, name := range replicas {
		all.Go(func() {
			has[i] = within(ctx, fenceLimit, switchPoll, func(ctx context.Context) bool {
				st, err := w.admin(name).Standing(ctx)
				return err == nil && st.Offset >= old.Offset
			})
		})
	}
	all.Wait()

	// One of the other replicas may have died just now, but the successor has to have all data.
	for i, name := range replicas {
		switch {
		case has[i]:
		case name == w.to:
			return fmt.Errorf("%s has not taken in all data of %s within %v: %s stays the master", w.to, w.from, fenceLimit, w.from)
		default:
			w.behind = append(w.behind, name)
		}
	}
	return nil
}

// askForFailover asks one Sentinel to promote the successor. It skips a Sentinel that died just
// now.
func (w *switchover) askForFailover(ctx context.Context, leaders []string) (err error) {
	for _, leader := range leaders {
		if err = w.askOne(ctx, leader); err == nil {
			return nil
		}
		w.log.Warn("a Sentinel does not carry the failover out", "sentinel", leader, "error", err)
		if redis.Spoke(err) {
			break // it refuses: another failover is under way, or the successor is gone
		}
	}
	return err
}

// awaitPromotion waits until the successor reports that it is the master. If that takes too
// long, writes go on at the old master, while the promotion may still happen.
func (w *switchover) awaitPromotion(ctx context.Context) error {
	if w.becomesMaster(ctx, fenceLimit) {
		return nil
	}
	w.liftFence(ctx)
	w.log.Warn("the promotion takes long: writes go on meanwhile", "limit", fenceLimit)

	begun := time.Now()
	for !w.becomesMaster(ctx, time.Second) {
		tries := w.sup.gather(ctx, fenceLimit).failing()
		if ctx.Err() != nil || time.Since(begun) > promoteLimit && !tries {
			return fmt.Errorf("the Sentinels have not promoted %s within %v: %s stays the master",
				w.to, time.Since(w.fencedAt).Round(time.Second), w.from)
		}
	}
	w.open = time.Since(begun)

	// Writes that the old master accepts from now on would be lost.
	if err := w.fence(ctx); err != nil {
		w.log.Warn("cannot stop the writes at the old master", "node", w.from, "error", err)
	}
	return nil
}

// redirectReplicas makes the other replicas follow the new master, and then the old master. The order
// matters: a write that only the old master, as a replica of the new one, has acknowledged
// would be lost if the new master died now, because the Sentinels would promote one of the
// others.
func (w *switchover) redirectReplicas(ctx context.Context) {
	var inStep sync.WaitGroup
	for _, name := range w.others() {
		turn := func() {
			if err := w.followNewMaster(ctx, name); err != nil {
				w.log.Warn("cannot turn a replica; the Sentinels will", "node", name, "error", err)
				return
			}
			within(ctx, fenceLimit, switchPoll, func(ctx context.Context) bool { return w.isInStep(ctx, name) })
		}
		if slices.Contains(w.behind, name) {
			w.sup.tasks.Go(turn) // writes do not wait for it
			continue
		}
		inStep.Go(turn)
	}
	inStep.Wait()

	if err := w.followNewMaster(ctx, w.from); err != nil {
		w.log.Warn("cannot turn the old master; the Sentinels will", "node", w.from, "error", err)
		return
	}
	w.turned = true
	if err := w.admin(w.from).Unpause(ctx); err != nil {
		w.log.Warn("cannot end the pause of the old master; it ends by itself", "node", w.from, "error", err)
	}
}

// verify waits until a majority of the Sentinels names the new master and every node follows
// it. A Sentinel that dies in the middle of its failover would leave the others with the old
// master's name; then verify asks another Sentinel.
func (w *switchover) verify(ctx context.Context, leaders []string) error {
	is := within(ctx, nameLimit, verifyPoll, w.majorityNamesSuccessor)
	for _, leader := range leaders {
		if is {
			break
		}
		// A Sentinel that already names the new master would replace it, if asked.
		view, err := w.admin(leader).View(ctx, w.sup.name())
		if err != nil || view.Address != w.address(w.from) || view.Failing {
			continue
		}
		w.log.Warn("the Sentinels do not name the new master yet: another one is asked", "sentinel", leader)
		// While another failover is under way it refuses, which is as good.
		_ = w.askOne(ctx, leader)
		is = within(ctx, nameLimit, verifyPoll, w.majorityNamesSuccessor)
	}
	if !is && !within(ctx, nameLimit, verifyPoll, w.majorityNamesSuccessor) {
		f := w.sup.gather(ctx, time.Second)
		if address, _, err := f.master(); err == nil && f.Standings[f.nameOf(address)].Master {
			return fmt.Errorf("%s was promoted, and %s is the master now: the Sentinels replaced it", w.to, f.nameOf(address))
		}
		return fmt.Errorf("%s was promoted, and no majority of the Sentinels names it yet; look at 'holdfast status' and the Sentinels' logs", w.to)
	}

	for _, name := range append(w.others(), w.from) {
		if !within(ctx, joinLimit, verifyPoll, func(ctx context.Context) bool { return w.isInStep(ctx, name) }) {
			return fmt.Errorf("%s is the master, and %s does not follow it yet; the Sentinels bring it in", w.to, name)
		}
	}
	// Until the leading Sentinel has also seen that, it would refuse another failover.
	within(ctx, joinLimit, verifyPoll, func(ctx context.Context) bool { return !w.sup.gather(ctx, time.Second).failing() })
	return nil
}

// putBack undoes the temporary changes of a switchover.
func (w *switchover) putBack() {
	defer w.releaseMasterRoute()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	switch {
	case w.fencedAt.IsZero():
	case w.promoted && !w.turned:
		// The old master must not accept writes while another node is the master: they would be lost.
		// settleRedis lifts the fence when the Sentinels have made it a replica.
		w.sup.unsettled.Store(true)
	default:
		w.liftFence(ctx)
	}
	var all sync.WaitGroup
	defer all.Wait()
	for _, name := range replicasOf(w.facts, w.from) {
		if w.setsPriority(name) {
			all.Go(func() {
				if err := w.sup.putPriorityBack(ctx, name); err != nil {
					w.sup.unsettled.Store(true)
				}
			})
		}
	}
}

// liftFence lets the old master accept writes again, if it still is the master.
func (w *switchover) liftFence(ctx context.Context) {
	defer w.releaseMasterRoute()
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	_ = w.admin(w.from).Unpause(ctx) // it ends by itself
	if err := w.admin(w.from).Configure(ctx, w.sup.usualSettings(ctx, w.from)); err != nil {
		w.log.Warn("cannot lift the stop of writes; it is tried again", "node", w.from, "error", err)
		w.sup.unsettled.Store(true)
	}
}

// stepDown makes another redis node the master before the node is stopped or restarted, if it
// is the master. If that is impossible, the Sentinels replace it once it is gone.
func (s *Supervisor) stepDown(ctx context.Context, node string) {
	if err := s.tryStepDown(ctx, node); err != nil {
		s.log.Warn("the master is stopped without a switchover", "node", node, "why", err)
	}
}

// tryStepDown is stepDown, but returns the reason if a switchover failed.
func (s *Supervisor) tryStepDown(ctx context.Context, node string) error {
	if s.node(node).spec().Kind != plan.Redis || !s.stack().Redis.Enabled || s.stack().Redis.Sentinels == 0 {
		return nil
	}
	if st, _ := s.statusBoard.snapshot().Node(node); st.Role != "master" || st.State != Up {
		return nil
	}
	_, err := asTask(s, func() (Switched, error) { return s.switchOver(ctx, node, "") })
	return err
}

// within calls yes until it returns true, and reports whether it did within the limit. A server
// that hangs does not delay it, because the ctx of yes ends at the limit, too.
func within(ctx context.Context, limit, every time.Duration, yes func(ctx context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return clock.Poll(ctx, every, func() bool { return yes(ctx) })
}
