package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// A switchover makes a replica the master while the old master works. SENTINEL
// FAILOVER alone would lose what is written to the old master until it learns of
// its successor, about five seconds later. So the old master first refuses every
// write, the replica gets all that there is, and the old master follows the new
// one as soon as that is promoted. Web nodes hold their requests meanwhile.

// Time limits of a switchover.
const (
	// steerLimit is how long the Sentinels may take to hear of the priorities.
	// No write waits for it.
	steerLimit = 3 * time.Second
	// fenceLimit is how long writes wait for the replicas to have everything, and
	// again how long for the promotion. After that writes go on at the old master.
	fenceLimit = 500 * time.Millisecond
	// promoteLimit is how long a promotion may take that begins late.
	promoteLimit = 5 * time.Second
	// nameLimit is how long one Sentinel's failover may take until a majority
	// names the new master, before another Sentinel is asked.
	nameLimit = 2 * time.Second
	// joinLimit is how long the others may take to be in step with the new master.
	joinLimit = 10 * time.Second

	switchPoll = 5 * time.Millisecond

	// fenced is above the number of replicas of any stack.
	fenced = 1000
	// preferred and usual are values of replica-priority; usual is Redis' default.
	preferred, usual = 1, 100
	// mostBehind is how many bytes a replica may lack before the fence: about what
	// it takes in within a tenth of a second.
	mostBehind = 8 << 20
	// beforeFailover has the leading Sentinel ask for INFO just after the
	// promotion: it asks a second after the last time (see infoPeriod).
	beforeFailover = 650 * time.Millisecond
)

// Switched says how a switchover went.
type Switched struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Waited is how long no node took writes, in milliseconds.
	Waited int64 `json:"waited_ms"`
}

// RefusedError says why a switchover cannot be made; nothing was changed.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return e.Why }

func refused(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// chooseSuccessor returns the master and the redis node that is to take its place: the
// one asked for, or else the replica with the most data.
func chooseSuccessor(f facts, to string) (from, heir string, err error) {
	address, _, err := f.master()
	from = f.nameOf(address)
	switch {
	case f.Sentinels == 0:
		return "", "", refused("the stack has no Sentinels (redis.sentinels: 0): its master is always the same")
	case err != nil:
		return "", "", refused("it is not known who is the master: %v", err)
	case f.failing():
		return "", "", refused("a failover is under way")
	case from == "" || !f.Standings[from].Master:
		return "", "", refused("the Sentinels name %s master, and it does not say so itself", address)
	case to == from:
		return "", "", refused("%s is the master already", to)
	}
	var fit []string
	why := map[string]string{}
	for name := range f.Nodes {
		st, answers := f.Standings[name]
		lacks := f.Standings[from].Offset - st.Offset
		switch {
		case name == from:
			continue
		case !answers:
			why[name] = "it does not answer"
		case st.Master:
			return "", "", refused("both %s and %s call themselves master", from, name)
		case st.MasterAddress != address || !st.Linked:
			why[name] = "it has no connection to the master"
		case lacks > mostBehind:
			why[name] = fmt.Sprintf("it lacks %d MiB of the master's data", lacks>>20)
		default:
			fit = append(fit, name)
		}
	}
	switch {
	case to != "" && f.Nodes[to] == "":
		return "", "", refused("%s is no redis node of this stack; the replicas are %s", to, join(replicasOf(f, from)))
	case to != "" && !slices.Contains(fit, to):
		return "", "", refused("%s cannot become the master: %s", to, why[to])
	case to != "":
		return from, to, nil
	case len(fit) == 0:
		reasons := []string{}
		for _, name := range slices.Sorted(maps.Keys(why)) {
			reasons = append(reasons, name+": "+why[name])
		}
		return "", "", refused("no replica can become the master (%s)", join(reasons))
	}
	return from, slices.MaxFunc(slices.Sorted(slices.Values(fit)), func(a, b string) int {
		return int(f.Standings[a].Offset - f.Standings[b].Offset)
	}), nil
}

func replicasOf(f facts, master string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		if name != master {
			names = append(names, name)
		}
	}
	return names
}

// Switchover makes the redis node to the master, or when to is empty the replica
// with the most data, and returns when every node and Sentinel knows. Its error is
// a RefusedError when it did not begin. It may take some seconds, in which writes
// wait for a fraction of one.
func (s *Supervisor) Switchover(ctx context.Context, to string) (Switched, error) {
	if s.stopping.Load() {
		return Switched{}, errStopping
	}
	if !s.cfg.Stack.Redis.Enabled {
		return Switched{}, refused("the stack has no Redis")
	}
	if n, there := s.nodes[to]; to != "" && (!there || n.spec.Kind != plan.Redis) {
		if !there {
			return Switched{}, &UnknownNodeError{Node: to, Nodes: s.redisNames()}
		}
		return Switched{}, refused("%s is no redis node; those are %s", to, join(s.redisNames()))
	}
	// settleRedis has it for a moment, too.
	if !within(ctx, 2*time.Second, 20*time.Millisecond, s.switching.TryLock) {
		return Switched{}, refused("another switchover is under way")
	}
	defer s.switching.Unlock()

	f := s.gather(ctx, time.Second)
	from, heir, err := chooseSuccessor(f, to)
	if err != nil {
		return Switched{}, err
	}
	w := &switchover{sup: s, from: from, to: heir, facts: f, log: s.log.With("from", from, "to", heir)}
	w.log.Info("switchover begins")
	waited, err := w.run(ctx)
	if err != nil {
		w.log.Warn("switchover failed", "error", err)
		return Switched{}, err
	}
	w.log.Info("switchover done", "waited", waited)
	return Switched{From: from, To: heir, Waited: waited.Milliseconds()}, nil
}

func (s *Supervisor) redisNames() (names []string) {
	for _, p := range s.host.Processes {
		if p.Kind == plan.Redis {
			names = append(names, p.Node)
		}
	}
	return names
}

// switchover is one that is under way.
type switchover struct {
	sup      *Supervisor
	from, to string
	facts    facts
	log      interface {
		Info(msg string, args ...any)
		Warn(msg string, args ...any)
	}
	fencedAt time.Time
}

func (w *switchover) admin(node string) *redis.Admin { return w.sup.admins[node] }
func (w *switchover) address(node string) string     { return w.facts.Nodes[node] }

// run carries the switchover out. What it changes for the time being it puts back,
// whatever happens, and also when ctx has ended.
func (w *switchover) run(ctx context.Context) (waited time.Duration, err error) {
	// An operator who goes away in the middle leaves the stack in one state or the
	// other: from here on only the supervisor's end stops it.
	ctx = context.WithoutCancel(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.sup.ctx, cancel)()

	defer w.putBack()
	leaders, err := w.steer(ctx)
	if err != nil {
		return 0, err
	}
	w.fencedAt = time.Now()
	if err := w.admin(w.from).LimitWrites(ctx, fenced); err != nil {
		return 0, fmt.Errorf("stop writes at %s: %w", w.from, err)
	}
	// It ends by itself if nobody is left to end it. The fence is what refuses
	// writes; without this the old master would be ahead of its successor.
	if err := w.admin(w.from).PauseWrites(ctx, 2*fenceLimit); err != nil {
		return 0, fmt.Errorf("pause %s: %w", w.from, err)
	}
	if err := w.awaitSameData(ctx); err != nil {
		return 0, err
	}
	if err := w.admin(leaders[0]).Failover(ctx, w.sup.plan.Name); err != nil {
		return 0, fmt.Errorf("ask %s for the failover: %w", leaders[0], err)
	}
	if err := w.awaitPromotion(ctx); err != nil {
		return 0, err
	}
	if err := w.turnOthers(ctx); err != nil {
		return 0, err
	}
	waited = time.Since(w.fencedAt).Round(time.Millisecond)
	return waited, w.verify(ctx, leaders)
}

// steer has the Sentinels prefer the successor, and returns those who know of it.
func (w *switchover) steer(ctx context.Context) (leaders []string, err error) {
	for _, name := range replicasOf(w.facts, w.from) {
		priority := usual
		if name == w.to {
			priority = preferred
		}
		if !w.facts.answers(name) || w.admin(name) == nil {
			continue
		}
		if err := w.admin(name).Prefer(ctx, priority); err != nil {
			return nil, fmt.Errorf("set the priority of %s: %w", name, err)
		}
	}
	asked := time.Now()
	w.sup.pacedBy([]step{{askPeriod, oneTick}, {holdPeriod, 2 * holdPeriod}})
	knows := func() bool {
		leaders = leaders[:0]
		for _, name := range slices.Sorted(maps.Keys(w.sup.paces)) {
			view, err := w.admin(name).View(ctx, w.sup.plan.Name)
			if err != nil || view.Address != w.address(w.from) || view.Failing || view.Down {
				continue
			}
			priorities, err := w.admin(name).Priorities(ctx, w.sup.plan.Name)
			if err == nil && priorities[w.address(w.to)] == preferred {
				leaders = append(leaders, name)
			}
		}
		return len(leaders) > w.facts.Sentinels/2
	}
	if !within(ctx, steerLimit, 50*time.Millisecond, knows) {
		return nil, refused("the Sentinels did not hear within %v that %s is to be preferred", steerLimit, w.to)
	}
	w.sup.wait(time.Until(asked.Add(beforeFailover)))
	return leaders, nil
}

// awaitSameData waits until every replica that was in step has all that the old
// master has, which takes no more writes.
func (w *switchover) awaitSameData(ctx context.Context) error {
	old, err := w.admin(w.from).Standing(ctx)
	if err != nil {
		return fmt.Errorf("ask %s for its offset: %w", w.from, err)
	}
	if !old.Master {
		return fmt.Errorf("%s is not the master any more: the Sentinels were faster", w.from)
	}
	has := func(name string) bool {
		st, err := w.admin(name).Standing(ctx)
		return err == nil && st.Offset >= old.Offset
	}
	all := func() bool {
		for _, name := range w.others() {
			if !has(name) {
				return false
			}
		}
		return has(w.to)
	}
	// One of the others may have died just now; the successor has to have it.
	if !within(ctx, fenceLimit, switchPoll, all) && !has(w.to) {
		return fmt.Errorf("%s has not taken in all data of %s within %v: %s stays the master", w.to, w.from, fenceLimit, w.from)
	}
	return nil
}

// others are the replicas that were in step, without the successor.
func (w *switchover) others() (names []string) {
	for _, name := range replicasOf(w.facts, w.from) {
		if name != w.to && w.facts.Standings[name].Linked && w.admin(name) != nil {
			names = append(names, name)
		}
	}
	return names
}

// awaitPromotion waits until the successor says that it is the master. Writes go
// on at the old one when that takes too long; it may still come about.
func (w *switchover) awaitPromotion(ctx context.Context) error {
	promoted := func() bool {
		st, err := w.admin(w.to).Standing(ctx)
		return err == nil && st.Master
	}
	if within(ctx, fenceLimit, switchPoll, promoted) {
		return nil
	}
	w.liftFence(ctx)
	w.log.Warn("the promotion takes long: writes go on meanwhile", "limit", fenceLimit)
	if !within(ctx, promoteLimit, switchPoll, promoted) {
		return fmt.Errorf("the Sentinels have not promoted %s within %v: %s stays the master", w.to, fenceLimit+promoteLimit, w.from)
	}
	return nil
}

// turnOthers has the other replicas follow the new master, and then the old master.
// In this order: a write that the old one alone had confirmed would be lost if the
// new one died now, because the Sentinels promote one of the others.
func (w *switchover) turnOthers(ctx context.Context) error {
	address := w.address(w.to)
	var all sync.WaitGroup
	for _, name := range w.others() {
		all.Go(func() {
			if err := w.admin(name).Follow(ctx, address); err != nil {
				w.log.Warn("cannot turn a replica; its Sentinels will", "node", name, "error", err)
				return
			}
			within(ctx, fenceLimit, switchPoll, func() bool { return w.follows(ctx, name) })
		})
	}
	all.Wait()
	if err := w.admin(w.from).Follow(ctx, address); err != nil {
		return fmt.Errorf("turn %s, the old master: %w", w.from, err)
	}
	if err := w.admin(w.from).Unpause(ctx); err != nil {
		w.log.Warn("cannot end the pause of the old master; it ends by itself", "node", w.from, "error", err)
	}
	return nil
}

// follows reports whether a node is in step with the new master.
func (w *switchover) follows(ctx context.Context, name string) bool {
	st, err := w.admin(name).Standing(ctx)
	return err == nil && !st.Master && st.Linked && st.MasterAddress == w.address(w.to)
}

// verify waits until a majority of the Sentinels names the new master and every
// node follows it. A Sentinel that dies in the middle of its failover would leave
// the others with the old name: then another one is asked.
func (w *switchover) verify(ctx context.Context, leaders []string) error {
	named := func() bool {
		f := w.sup.gather(ctx, time.Second)
		address, _, err := f.master()
		return err == nil && address == w.address(w.to) && !f.failing()
	}
	is := within(ctx, nameLimit, switchPoll, named)
	for _, leader := range leaders[1:] {
		if is {
			break
		}
		w.log.Warn("the Sentinels do not name the new master yet: another one is asked", "sentinel", leader)
		// Refused while another failover is under way, which is as good.
		_ = w.admin(leader).Failover(ctx, w.sup.plan.Name)
		is = within(ctx, nameLimit, switchPoll, named)
	}
	if !is {
		return fmt.Errorf("%s is the master, and no majority of the Sentinels names it yet; look at 'holdfast status' and the Sentinels' logs", w.to)
	}
	for _, name := range append(w.others(), w.from) {
		if !within(ctx, joinLimit, switchPoll, func() bool { return w.follows(ctx, name) }) {
			return fmt.Errorf("%s is the master, and %s does not follow it yet; it is brought in by the Sentinels", w.to, name)
		}
	}
	return nil
}

// putBack ends what a switchover changed for the time being.
func (w *switchover) putBack() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if !w.fencedAt.IsZero() {
		w.liftFence(ctx)
	}
	for _, name := range replicasOf(w.facts, w.from) {
		if w.facts.answers(name) && w.admin(name) != nil {
			if err := w.admin(name).Prefer(ctx, usual); err != nil {
				w.sup.unsettled.Store(true)
			}
		}
	}
}

// liftFence lets the old master take writes again, if it still is the master.
func (w *switchover) liftFence(ctx context.Context) {
	_ = w.admin(w.from).Unpause(ctx) // it ends by itself
	if err := w.admin(w.from).LimitWrites(ctx, w.sup.leastReplicas()); err != nil {
		w.log.Warn("cannot lift the stop of writes; it is tried again", "node", w.from, "error", err)
		w.sup.unsettled.Store(true)
	}
}

// leastReplicas is how many replicas a master needs to take writes, as its
// settings file has it.
func (s *Supervisor) leastReplicas() int {
	if s.cfg.Stack.Redis.Replicas == 0 {
		return 0
	}
	return plan.MinReplicas
}

// settleRedis puts back what a switchover left at the redis nodes whose supervisor
// died in the middle. It is tried until every node that runs has been seen.
func (s *Supervisor) settleRedis(ctx context.Context) {
	if !s.unsettled.Load() || !s.switching.TryLock() {
		return
	}
	defer s.switching.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var failed error
	for _, name := range s.redisNames() {
		if st, _ := s.board.snapshot().Node(name); st.State != Up {
			if st.PID != 0 {
				failed = errors.New(name + " is not up")
			}
			continue // its settings file is read at its start
		}
		failed = errors.Join(failed, s.settleSettings(ctx, name))
	}
	if failed == nil {
		s.unsettled.Store(false)
	}
}

func (s *Supervisor) settleSettings(ctx context.Context, name string) error {
	for setting, value := range map[string]int{"min-replicas-to-write": s.leastReplicas(), "replica-priority": usual} {
		is, err := s.admins[name].Setting(ctx, setting)
		if err != nil {
			return err
		}
		if is == strconv.Itoa(value) {
			continue
		}
		s.log.Warn("a setting that a switchover left is put back", "node", name, "setting", setting, "was", is, "now", value)
		if setting == "replica-priority" {
			err = s.admins[name].Prefer(ctx, value)
		} else {
			err = s.admins[name].LimitWrites(ctx, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stepDown has another redis node become the master before the master is stopped
// or restarted. Where that cannot be, the Sentinels replace it once it is gone.
func (s *Supervisor) stepDown(ctx context.Context, node string) {
	if s.nodes[node].spec.Kind != plan.Redis || !s.cfg.Stack.Redis.Enabled || s.cfg.Stack.Redis.Sentinels == 0 {
		return
	}
	if st, _ := s.board.snapshot().Node(node); st.Role != "master" || st.State != Up {
		return
	}
	if _, err := s.Switchover(ctx, ""); err != nil {
		s.log.Warn("the master is stopped without a switchover", "node", node, "why", err)
	}
}

// within asks until the answer is yes, and reports whether it was within the limit.
func within(ctx context.Context, limit, every time.Duration, yes func() bool) bool {
	deadline := time.Now().Add(limit)
	for !yes() {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return false
		}
		time.Sleep(every)
	}
	return true
}
