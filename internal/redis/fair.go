package redis

import (
	"hash/maphash"
	"slices"
	"time"
)

// The operations that are not brief wait in lines, one for each sender. The line
// that has had the least of Redis' time is next, so that one sender's thousand
// commands cost another's single one about one batch.

// What needs the lease waits in lines of its own: until this node has the lease, it
// is not to stand in the way of anything else.

// maxWaitingSlow bounds the operations of one sender that wait. What is behind so
// many would not be carried out within the time that a request has.
const maxWaitingSlow = 1000

// maxLines bounds the lines that are kept though they are empty.
const maxLines = 4096

// guess is what an operation is taken to cost before it is weighed.
const guess = time.Millisecond

// senderLine is what one sender has waiting.
type senderLine struct {
	ops  []*operation // with those that their callers gave up
	live int          // without them
	// used is the time that the sender has had of Redis, in a count that all lines
	// share: one that was empty begins where the others are.
	used time.Duration
	// overlong counts the scripts that had to be ended, less those that ended by
	// themselves since. Until rests the line has no turn.
	overlong int
	rests    time.Time
}

// maxOverlong bounds senderLine.overlong.
const maxOverlong = 4

// ran takes in that a script of the sender's ended by itself, or had to be ended. After
// one that had to be, the line has no turn for rest, and for a multiple of it where that
// happens again and again: the lease is to be others' meanwhile, those of other nodes too.
func (l *senderLine) ran(ended bool, rest time.Duration) {
	if ended {
		l.overlong = max(l.overlong-1, 0)
		return
	}
	l.overlong = min(l.overlong+1, maxOverlong)
	l.rests = time.Now().Add(time.Duration(l.overlong) * rest)
}

// lines are the senders' lines. They belong to their writer, under its mu.
type lines struct {
	of    map[string]*senderLine
	there []*senderLine // those that are not empty
	clock time.Duration // used of the line that was served last, before that
	// shares are what the last batch has of each line.
	shares []share
	// scripts are what a script took lately, by its hash, and running is the one of the
	// last batch, which has one at the most. They belong to the writer's follow.
	scripts map[uint64]time.Duration
	running runningScript
}

// runningScript is a script that is under way.
type runningScript struct {
	key    uint64 // see operation.scriptKey; 0: there is none
	sender string
}

type share struct {
	line   *senderLine
	weight time.Duration // what is counted as used
	script bool          // and so nobody knew beforehand
}

func newLines() *lines {
	return &lines{of: map[string]*senderLine{}, scripts: map[uint64]time.Duration{}}
}

// line is a sender's line.
func (l *lines) line(sender string) *senderLine {
	line := l.of[sender]
	if line == nil {
		if len(l.of) >= maxLines {
			l.prune()
		}
		line = &senderLine{used: l.clock}
		l.of[sender] = line
	}
	return line
}

// prune forgets empty lines: those that the others have caught up with or, if there
// are still too many, all.
func (l *lines) prune() {
	for _, all := range []bool{false, true} {
		for sender, line := range l.of {
			if len(line.ops) == 0 && line.live == 0 && (all || line.used <= l.clock && line.overlong == 0) {
				delete(l.of, sender)
			}
		}
		if len(l.of) < maxLines {
			return
		}
	}
}

// live is how much of a sender's waits here.
func (l *lines) live(sender string) int {
	if line := l.of[sender]; line != nil {
		return line.live
	}
	return 0
}

// push puts an operation at the end of its sender's line.
func (l *lines) push(o *operation) {
	line := l.line(o.sender)
	if line.live == 0 {
		line.used = max(line.used, l.clock)
	}
	l.enter(line)
	line.ops = append(line.ops, o)
	line.live++
}

// back puts an operation at the head of its sender's line.
func (l *lines) back(o *operation) {
	line := l.line(o.sender)
	l.enter(line)
	line.ops = slices.Insert(line.ops, 0, o)
	line.live++
}

func (l *lines) enter(line *senderLine) {
	if len(line.ops) == 0 {
		l.there = append(l.there, line)
	}
}

// forget takes account of one operation that its caller gave up.
func (l *lines) forget(o *operation) {
	line := l.line(o.sender)
	line.live--
	if len(line.ops) > 2*line.live+64 {
		line.ops = slices.DeleteFunc(line.ops, func(o *operation) bool { return o.state.Load() == finished })
		if len(line.ops) == 0 {
			l.leave(line)
		}
	}
}

func (l *lines) leave(line *senderLine) {
	l.there = slices.DeleteFunc(l.there, func(other *senderLine) bool { return other == line })
}

// first returns the operation whose turn it is; nil if no operation waits.
func (l *lines) first(now time.Time) (line *senderLine, o *operation) {
	for _, other := range l.there {
		if (line == nil || other.used < line.used) && !now.Before(other.rests) {
			line = other
		}
	}
	if line == nil {
		return nil, nil
	}
	return line, line.ops[0]
}

// pop takes the first operation out of a line.
func (l *lines) pop(line *senderLine) {
	line.ops[0] = nil
	if line.ops = line.ops[1:]; len(line.ops) == 0 {
		l.leave(line)
	}
}

// taken counts an operation as under way. What it costs is guessed until it is
// weighed, so that the next one of the same batch is another sender's.
func (l *lines) taken(line *senderLine) {
	line.live--
	line.used += guess
	l.shares = append(l.shares, share{line: line, weight: guess})
}

// weighed puts the estimates of what goes now in the place of the guesses.
func (l *lines) weighed(fit []*operation) {
	for _, s := range l.shares {
		s.line.used -= s.weight
	}
	l.shares, l.running = l.shares[:0], runningScript{}
	for _, o := range fit {
		if o.oneScript() {
			l.running = runningScript{o.scriptKey(), o.sender}
		}
		line := l.line(o.sender)
		l.clock = max(l.clock, line.used)
		line.used += o.weight
		l.shares = append(l.shares, share{line, o.weight, o.runsScript})
	}
}

// spent puts the time that the batch took in the place of the estimates. own, fate and
// long are those of learn.
func (l *lines) spent(took, own time.Duration, fate scriptFate) (long bool) {
	long = l.learn(took, own, fate)
	var sum time.Duration
	for _, s := range l.shares {
		sum += s.weight
	}
	for _, s := range l.shares {
		cost := time.Duration(float64(took) * float64(s.weight) / float64(max(sum, 1)))
		if !s.script {
			// What it took longer it waited for others, of other nodes too.
			cost = min(cost, 2*s.weight)
		}
		s.line.used += cost - s.weight
	}
	l.shares = l.shares[:0]
	return long
}

// knownScripts is how many scripts are remembered that took little lately. One that is
// not among them needs the lease.
const knownScripts = 4096

var scriptSeed = maphash.MakeSeed()

// oneScript reports whether an operation is one script of a user's.
func (o *operation) oneScript() bool { return o.runsScript && len(o.cmds) == 1 && len(o.cmds[0]) > 1 }

// scriptKey stands for the operation's script. It is never 0.
func (o *operation) scriptKey() uint64 { return maphash.String(scriptSeed, o.cmds[0][1]) | 1 }

// scriptCost is what a script is taken to cost in a batch.
func (l *lines) scriptCost(o *operation) time.Duration {
	if took, known := l.scripts[o.scriptKey()]; known {
		return took
	}
	return slowBudget
}

// learn takes in how long a batch took, of which one may be a script, and how much of
// that was its own and not the way to Redis. It reports whether the script was long:
// then it is not known to be short any more. One that ended by itself may have waited
// for another node's.
func (l *lines) learn(took, own time.Duration, fate scriptFate) (long bool) {
	key := l.running.key
	l.running = runningScript{}
	switch {
	case key == 0:
	case fate == scriptKilled && took >= scriptPatience:
		delete(l.scripts, key)
		return true
	case fate == scriptEnded && own < slowBudget:
		if len(l.scripts) >= knownScripts {
			clear(l.scripts)
		}
		l.scripts[key] = own
	}
	return false
}

// linesFor are those that an operation waits in.
func (w *writer) linesFor(o *operation) *lines {
	if o.lasts {
		return w.lasting
	}
	return w.lines
}

// spent takes in what a batch took. own, fate and long are those of lines.learn; rest is
// that of senderLine.ran, and with 0 nobody rests.
func (w *writer) spent(took, own time.Duration, fate scriptFate, rest time.Duration) (long bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if script := w.turn.running; script.key != 0 && fate != scriptNotRun && rest > 0 {
		w.lasting.line(script.sender).ran(fate == scriptEnded, rest)
	}
	return w.turn.spent(took, own, fate)
}

// waitsForLease says when to ask for the lease again; nil: nothing needs it.
func (w *writer) waitsForLease() <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lasting.there) == 0 {
		return nil
	}
	return time.After(time.Until(w.leaseAsked.Add(leaseAgain)))
}

// takeSlow is take for operations that are not brief. What needs the lease is a batch
// of its own, when it is time to ask for that, and between two such the others have
// theirs.
func (w *writer) takeSlow(batch []*operation) []*operation {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	due := w.ended || now.Sub(w.leaseAsked) >= leaseAgain
	if !due || w.turn == w.lasting {
		w.turn = w.lines
		if batch = w.takeFrom(batch, slowTogether, now); len(batch) > 0 || !due {
			return batch
		}
	}
	w.turn = w.lasting
	if batch = w.takeFrom(batch, 1, now); len(batch) > 0 {
		return batch
	}
	if len(w.lasting.there) > 0 {
		w.leaseAsked = now // what is there rests
	}
	w.turn = w.lines
	return w.takeFrom(batch, slowTogether, now)
}

// takeFrom takes so many operations at the most from the lines whose turn it is. A
// guarded one is a batch of its own.
func (w *writer) takeFrom(batch []*operation, most int, now time.Time) []*operation {
	w.turn.shares = w.turn.shares[:0]
	if w.ended {
		now = now.Add(time.Hour) // nothing rests any more
	}
	for len(batch) < most {
		line, o := w.turn.first(now)
		if o == nil || o.guarded && len(batch) > 0 {
			break
		}
		w.turn.pop(line)
		if !w.ended && now.After(o.until) {
			continue // its caller takes account of it
		}
		if o.state.CompareAndSwap(queued, taken) { // else its caller gave it up
			w.live--
			w.bytes -= o.size
			w.turn.taken(line)
			batch = append(batch, o)
			if o.guarded {
				break
			}
		}
	}
	return batch
}
