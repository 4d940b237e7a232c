package commit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/moment"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/rewrite"
	"holdfast/internal/redis/scripts"
	"holdfast/internal/redis/turns"
)

// Session is one connection to one master, and what is known about that master and its
// replicas. It belongs to the goroutine of its writer.
type Session struct {
	w      *Writer
	Master string
	// Process identifies the master's process, whatever its address is (see
	// conn.ProcessOf); empty: it is not known.
	Process string
	origin  rewrite.Origin // of the cursors that this master returns
	conn    rueidis.DedicatedClient
	wire    *conn.Tracked
	loaded  map[*request.Script]bool // our own scripts that the master has already
	scripts scripts.Presumed         // those of clients
	inSync  ack.InSync
	// offset is the master's after the last batch; 0: it was not asked for.
	offset int64
	// pause is how long to wait before the next batch, because the master refuses some
	// commands for now.
	pause time.Duration
	// lonely is true if the master refused a write of this batch for want of replicas.
	lonely bool
	// spoiled is why the connection must not be used any more; nil: it may be.
	spoiled error
	// proven is when the last proof was sent that succeeded: see fence. slot is one of
	// this master's slots in a cluster.
	proven  time.Time
	slot    int
	elision ack.WaitElision
	// loginsChecked is when it could last log in as the users that run scripts.
	loginsChecked time.Time
	// leased is the key of the lease that this session has; empty: it has no lease.
	// unsure is when it last ran something long without a lease.
	leased       string
	leasedScript bool // for a script
	// trips are how long the exchanges of the batch under way took.
	trips turns.Trips
	// script is what became of the script of the last batch. Until strictUntil, every
	// script is considered long.
	script      turns.ScriptFate
	strictUntil time.Time
	busyChecked int64 // the value of the writer's busy at the last question who has the lease
	unsure      time.Time
	// began is when the first of the operations under way was sent. took is the duration
	// of the longest exchange since then.
	began time.Time
	took  time.Duration
	// answered is true if the last exchange got its answers, even if these are refusals.
	answered bool

	// Of one batch; kept for their memory.
	cmds    rueidis.Commands
	done    []*operation.Operation
	again   []*operation.Operation
	singles []*operation.Operation
	shares  []meter.Allowance
	// loose is the room taken for replies that belong to no particular operation.
	loose int64
	// cut is true if parts of the replies were dropped.
	cut bool
}

// NewSession returns a session of a writer with a master, without a connection yet.
func NewSession(w *Writer, master string) *Session {
	return &Session{w: w, Master: master, slot: -1, loaded: map[*request.Script]bool{}, scripts: scripts.NewPresumed()}
}

// exchange sends commands and waits for their answers. sent is false if none of the
// commands can have left this process.
func (s *Session) exchange(ctx context.Context, cmds rueidis.Commands) (answers []rueidis.RedisResult, sent bool) {
	answers, sent, cut := s.exchangeShared(ctx, cmds, nil)
	s.cut = s.cut || cut
	return answers, sent
}

// exchangeBare does the work of exchange.
func (s *Session) exchangeBare(ctx context.Context, cmds rueidis.Commands) (answers []rueidis.RedisResult, sent bool) {
	mark, began := s.wire.Written(), time.Now()
	answers = s.conn.DoMulti(ctx, cmds...)
	took := time.Since(began)
	s.took = max(s.took, took)
	s.trips.Add(took)
	if s.answered = answers[len(answers)-1].NonRedisError() == nil; s.answered {
		return answers, true
	}
	// The connection is broken or given up. Nothing more may leave it: otherwise what
	// counts as not sent might still be sent.
	return answers, s.wire.Seal() > mark
}

// commit carries out one batch. Each of its operations then has its outcome, or is back
// in the queue, or is kept (done) until replicas confirm it. An error ends the session.
func (s *Session) commit(ctx context.Context, batch []*operation.Operation) error {
	// After Hold nobody waits for this batch any more. If the connection is silent for so
	// long, while the monitor's own connections show that the master is well, its packets
	// are dropped, and only a new connection helps.
	ctx, cancel := context.WithTimeout(ctx, s.w.cfg.Hold+4*s.w.cfg.AckTimeout)
	defer cancel()
	if len(s.done) == 0 {
		s.began, s.took = time.Now(), 0
	}
	s.script, s.trips = turns.ScriptNotRun, turns.Trips{}
	s.grow()
	s.checkReadLease()
	s.w.Stats.batch(len(batch))
	batch, err := s.provide(ctx, batch)
	if err == nil {
		batch, err = s.checkLogins(ctx, batch)
	}
	if err != nil {
		return err // see end
	}
	if s.w.lines != nil {
		if batch, err = s.weigh(ctx, batch); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(batch, func(o *operation.Operation) bool { return o.RunsScript }) {
		defer s.endOverlong()()
	}
	if len(batch) > 0 && batch[0].Guarded {
		s.cut = false
		then, broken := s.guarded(ctx, batch[0])
		if then != operation.Decided { // otherwise it belongs to its caller again
			batch[0].Held, s.loose = batch[0].Held+s.loose, 0
		}
		if s.cut && then == operation.Settle && !batch[0].CutShort() {
			then = operation.Decided
		}
		if then == operation.Settle {
			s.doubt(batch[0])
			s.sawScript(batch[0])
		}
		s.sort(batch[0], then)
		if broken != nil {
			return broken
		}
		batch = nil
	}
	err = s.pass(ctx, batch)
	s.w.giveBack(s.again)
	clear(s.again)
	s.again = s.again[:0]
	s.give()
	return cmp.Or(err, s.spoiled)
}

// spoil ends the session when the present batch is done.
func (s *Session) spoil(cause error) { s.spoiled = cmp.Or(s.spoiled, cause) }

// refused handles the refusal of a command that may succeed later. It returns an error if
// this node cannot carry it out, so that the session has to end.
func (s *Session) refused(err error) error {
	switch code, _, _ := strings.Cut(err.Error(), " "); code {
	case "NOREPLICAS":
		s.lonely = true
	case "BUSY":
		moment.Advance(s.w.busy, time.Now())
	case "TRYAGAIN", "CLUSTERDOWN":
	default:
		return err
	}
	s.pause = RetryPause
	return nil
}

// replicaPause is the shortest pause before another try while the master has no replica.
// A node that was just promoted has none until a Sentinel turns another node to it, and
// all writes wait for that.
const replicaPause = 5 * time.Millisecond

// waited takes the time of a batch with a WAIT off the pause, if writes were refused for
// want of replicas: the WAIT ends as soon as a replica is there and has answered. Often
// the WAIT does not wait at all. It asks for the offset of the connection's last write,
// which a refused write does not move, and which may have been confirmed before.
func (s *Session) waited(took time.Duration) {
	if s.lonely {
		s.pause = max(replicaPause, RetryPause-took)
	}
}

// end gives each operation that the session still has its outcome, or puts it back into
// the queue. cause is what ended the session.
func (s *Session) end(cause error) {
	for _, o := range s.done {
		if o.Lose(cause, s.loss()) == operation.Repeat {
			s.again = append(s.again, o)
		}
	}
	s.w.giveBack(s.again)
	s.done, s.again = nil, nil
	s.give()
}

// pass sends a batch, with a WAIT or ROLE behind it that also covers the operations that
// were carried out before and are not confirmed yet (done). Then it settles them.
func (s *Session) pass(ctx context.Context, batch []*operation.Operation) error {
	cmds, shares := s.cmds[:0], s.shares[:0]
	for _, o := range batch {
		if o.Single() {
			s.singles = append(s.singles, o)
		} else {
			before := len(cmds)
			cmds = s.encode(o, cmds)
			shares = append(shares, o.Share(len(cmds)-before))
		}
	}
	cmds, shares = s.encodeSingles(cmds, shares)
	state := s.state()
	needs, token := kinds(batch)
	mayElide := s.elision.MaySkipWait(state, needs, len(batch), len(s.done))
	earlier, tokens := kinds(s.done)
	needs, token = needs.Or(earlier), token || tokens
	fence, fences := len(cmds), 0
	if (needs.Write || needs.Read) && state.ProofDue() {
		cmds, fences = s.fence(cmds, batch)
	}
	s.offset, s.lonely = 0, false
	elided := fences == 0 && mayElide
	role := -1
	if elided || token || state.NeedsOffset() {
		role = len(cmds)
		cmds = append(cmds, s.conn.B().Role().Build())
	}
	replicas := state.Replicas(needs)
	wait := -1
	if replicas > 0 && !elided {
		wait = len(cmds)
		cmds = append(cmds, s.wait(replicas))
	}
	if len(cmds) == 0 {
		return s.settle(ctx, 0, nil)
	}
	began, heard := time.Now(), s.elision.Heard
	answers, sent, cut := s.exchangeShared(ctx, cmds, shares)
	s.takeIn(batch, shares)
	stalled := ack.Stalled(heard, time.Now())
	if answers[len(answers)-1].NonRedisError() == nil {
		clear(cmds)
		s.cmds = cmds[:0]
		s.elision.Heard = began
	} else {
		s.cmds = nil // the library may still use it
	}

	var ended error
	var misworded []refusedCommand
	for _, o := range batch {
		single := o.Single()
		then, broken := s.read(o, answers[o.First:o.First+o.Count], sent)
		if then == operation.Settle {
			o.Teach(o.Results)
		}
		if single && then != operation.Decided { // otherwise it belongs to its caller again
			s.weighSingle(o)
		}
		if cut && then == operation.Settle && !o.CutShort() {
			then = operation.Decided
		}
		if then == operation.Settle && o.Script == nil {
			s.origin.Stamp(o.Cmds, o.Results)
		}
		if broken != nil {
			ended = broken
		}
		s.sort(o, then)
		if then == operation.Settle {
			s.doubt(o)
			s.sawScript(o)
			misworded = appendMisworded(misworded, o)
		}
	}
	ended = s.reword(ctx, misworded, ended)
	for i, a := range answers[fence : fence+fences] {
		if err := a.Error(); err != nil {
			if i == 2 { // the SELECT back from the database of the records
				s.spoil(err)
			}
			fences = 0 // Redis takes no writes now, so there is no proof. That does no harm
		}
	}
	var said ack.Role
	if role >= 0 {
		if err := answers[role].NonRedisError(); err != nil {
			ended = cmp.Or(ended, fmt.Errorf("%w (%w)", outcome.ErrLost, err))
		}
		if said = s.tell(answers[role], token); said == (ack.Role{}) {
			s.pause = RetryPause // the master does not answer ROLE now
		}
	}
	if wait >= 0 {
		s.waited(time.Since(began))
	}
	if len(s.done) == 0 {
		return ended
	}
	if elided {
		if ended != nil || stalled || !s.covered(ctx, said) {
			return ended // the next batch's WAIT covers these operations, too
		}
		s.grantReadLease()
		return s.settle(ctx, s.inSync.Count, nil)
	}
	acks, err := int64(0), error(nil)
	if wait >= 0 {
		acks, err = answers[wait].AsInt64()
		if err != nil && outcome.FateOf(err, sent) == outcome.Later { // a script keeps the master busy
			s.pause, err = RetryPause, nil
		}
	}
	if err == nil && fences > 0 && state.Proves(int(acks)) {
		s.proven = began
		s.elision.Proved()
	}
	return cmp.Or(s.settle(ctx, int(acks), err), ended)
}

// state returns what decides about answers; see package ack.
func (s *Session) state() ack.State {
	known := s.w.monitor.State()
	return ack.State{
		Now: time.Now(), MinAcks: s.w.cfg.MinAcks, Alone: s.w.cfg.Alone(),
		InSync: s.inSync.Count, Lagging: s.inSync.Lagging(), Online: known.Online, Others: known.Others, Proven: s.proven,
	}
}

// fence appends the write that proves that the replicas follow this master, and returns how
// many commands that is. There is none if it is not known which slot of a cluster is this
// master's.
func (s *Session) fence(cmds rueidis.Commands, batch []*operation.Operation) (rueidis.Commands, int) {
	key := once.Prefix + "fence"
	if len(s.w.cfg.Cluster) > 0 {
		if slot := operation.SlotAmong(batch); slot >= 0 {
			s.slot = slot
		}
		if s.slot < 0 {
			return cmds, 0
		}
		key = once.RecordIn(s.slot, key)
	}
	before := len(cmds)
	cmds = s.records(cmds, s.conn.B().Set().Key(key).Value("").PxMilliseconds(resp.Int(s.w.recordLife())).Build())
	return cmds, len(cmds) - before
}

// sort puts an operation where it belongs after an attempt.
func (s *Session) sort(o *operation.Operation, then operation.Next) {
	switch then {
	case operation.Settle:
		s.done = append(s.done, o)
	case operation.Repeat:
		s.again = append(s.again, o)
	}
}

// kinds returns what operations need, and whether one of them wants the master's offset.
func kinds(ops []*operation.Operation) (needs ack.Needs, token bool) {
	for _, o := range ops {
		needs.Write = needs.Write || o.Writes && !o.Async
		needs.Async = needs.Async || o.Writes && o.Async
		needs.Read = needs.Read || !o.Writes
		token = token || o.WantToken
	}
	return needs, token
}

// tell returns what the master says of itself after the operations, and gives them its
// replication offset if any wants it.
func (s *Session) tell(role rueidis.RedisResult, token bool) (said ack.Role) {
	answer, err := role.ToArray()
	if err != nil {
		return said
	}
	standing, replicas, _ := discovery.ParseRole(answer)
	s.offset = standing.Offset
	if token {
		for _, o := range s.done {
			o.Offset, o.HasOffset = standing.Offset, true
		}
	}
	return ack.Role{Master: standing.Master, Offset: standing.Offset, Online: len(replicas)}
}

// settle answers the operations that the master has carried out and that package ack lets
// it answer; the others stay. acks is how many replicas have confirmed, and err is why that is not known.
// It returns an error when it cannot be known here any more.
func (s *Session) settle(ctx context.Context, acks int, err error) error {
	s.answer(func(o *operation.Operation) bool {
		return ack.AtOnce(o.Writes, o.Async) || o.State.Load() == operation.Finished
	})
	if len(s.done) == 0 {
		s.inSync.CaughtUp()
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", outcome.ErrLost, err)
	}

	needs, _ := kinds(s.done)
	state := s.state()
	switch state.Decide(needs, acks) {
	case ack.Answer:
		if !state.Alone {
			s.inSync.CaughtUp()
		}
		s.answer(all)
		if s.solitary() {
			s.grantReadLease()
		}
		return nil
	case ack.Ask:
		now, err := s.w.monitor.Confirm(ctx)
		if err != nil {
			return fmt.Errorf("%w: %d of %d replicas confirmed, and nobody could be asked: %w", outcome.ErrLost, acks, state.Replicas(needs), err)
		}
		switch ack.Judge(now, s.Master) {
		case ack.Replaced:
			return fmt.Errorf("%w: %d of %d replicas confirmed, and then %s", outcome.ErrLost, acks, state.Replicas(needs), cmp.Or(now.Master, "nobody")+" was the master: "+now.Why)
		case ack.Doubtful:
			s.pause = RetryPause
			s.inSync.Restart(time.Now())
		case ack.Confirmed:
			if s.agreed(now) {
				s.inSync.CaughtUp()
				s.answer(func(o *operation.Operation) bool { return state.Answered(o.Writes, acks) })
			}
		}
	}
	if master := s.w.monitor.State().Master; master != "" && master != s.Master {
		return fmt.Errorf("%w: %s is the master now", outcome.ErrLost, master)
	}
	return nil
}

// agreed reports whether every in-sync replica has the operations that are done.
func (s *Session) agreed(now election.Snapshot) bool {
	agreed, again := s.inSync.Agreed(now, s.offset, s.w.cfg.AckTimeout-s.w.slice(), time.Now())
	if again {
		s.pause = RetryPause
	}
	if agreed && s.offset != 0 {
		s.w.InSync.Store(int64(s.inSync.Count))
	}
	return agreed
}

// grow looks at which replicas are in sync now.
func (s *Session) grow() {
	now, _ := s.w.monitor.Now()
	if now.Master != s.Master {
		return
	}
	s.inSync.Grow(now.MasterNode(), time.Now())
	s.w.InSync.Store(int64(s.inSync.Count))
}

func all(*operation.Operation) bool { return true }

// answer gives the done operations that are ready their outcome.
func (s *Session) answer(ready func(*operation.Operation) bool) {
	left := s.done[:0]
	for _, o := range s.done {
		if ready(o) {
			o.Finish(nil)
		} else {
			left = append(left, o)
		}
	}
	clear(s.done[len(left):])
	s.done = left
}

// wait returns the WAIT for so many replicas. WAIT does not notice when a replica's
// connection ends (manual, WAIT), so each one lasts for only a slice of AckTimeout.
func (s *Session) wait(replicas int) rueidis.Completed {
	return s.conn.B().Wait().Numreplicas(int64(replicas)).Timeout(s.w.slice().Milliseconds()).Build()
}

// slice returns how long one WAIT may take.
func (w *Writer) slice() time.Duration { return max(w.cfg.AckTimeout/3, time.Millisecond) }
