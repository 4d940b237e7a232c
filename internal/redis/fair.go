// Package turns decides which of the operations that are not brief is next.
//
// They wait in lines, one for each sender. The line that has had the least of Redis' time is next,
// so that one sender's thousand commands cost another's single one about one batch. Operations
// that need the lease for long ones wait in lines of their own: until this node has the lease,
// nothing else waits for them.
package redis

import (
	"slices"
	"time"

	"holdfast/internal/redis/operation"
)

// maxWaitingSlow bounds the operations of one sender that wait. An operation behind so many would
// not be carried out within the time that a request has.
const maxWaitingSlow = 1000

// maxLines bounds the lines that are kept although they are empty.
const maxLines = 4096

// guess is what an operation is taken to cost before it is weighed.
const guess = time.Millisecond

// senderLine has the operations of one sender that wait.
type senderLine struct {
	ops  []*operation.Operation // with those that their callers gave up
	live int                    // without them
	// used is the time that the sender has had of Redis, in a count that all lines share: a line
	// that was empty begins where the others are.
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

// lines are the senders' lines. They belong to a writer of the group commit, under its lock.
type lines struct {
	of    map[string]*senderLine
	there []*senderLine // those that are not empty
	clock time.Duration // used of the line that was served last, before that
	// shares is what the last batch has of each line.
	shares []share
	// scripts is how long each script took lately, by its hash, and running is the script of the
	// last batch, which has at most one. They belong to the goroutine that sends the batches.
	scripts map[uint64]time.Duration
	running runningScript
}

// runningScript is a script that is under way.
type runningScript struct {
	key    uint64 // see operation.ScriptKey; 0: there is none
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

// line returns a sender's line.
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

// live returns how many operations of a sender wait here.
func (l *lines) live(sender string) int {
	if line := l.of[sender]; line != nil {
		return line.live
	}
	return 0
}

// push puts an operation at the end of its sender's line.
func (l *lines) push(o *operation.Operation) {
	line := l.line(o.Sender)
	if line.live == 0 {
		line.used = max(line.used, l.clock)
	}
	l.enter(line)
	line.ops = append(line.ops, o)
	line.live++
}

// back puts an operation at the head of its sender's line.
func (l *lines) back(o *operation.Operation) {
	line := l.line(o.Sender)
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
func (l *lines) forget(o *operation.Operation) {
	line := l.line(o.Sender)
	line.live--
	if len(line.ops) > 2*line.live+64 {
		line.ops = slices.DeleteFunc(line.ops, func(o *operation.Operation) bool { return o.State.Load() == operation.Finished })
		if len(line.ops) == 0 {
			l.leave(line)
		}
	}
}

func (l *lines) leave(line *senderLine) {
	l.there = slices.DeleteFunc(l.there, func(other *senderLine) bool { return other == line })
}

// first returns the operation whose turn it is; nil if no operation waits.
func (l *lines) first(now time.Time) (line *senderLine, o *operation.Operation) {
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

// weighed replaces the guesses by the estimates of what goes now.
func (l *lines) weighed(fit []*operation.Operation) {
	for _, s := range l.shares {
		s.line.used -= s.weight
	}
	l.shares, l.running = l.shares[:0], runningScript{}
	for _, o := range fit {
		if o.OneScript() {
			l.running = runningScript{o.ScriptKey(), o.Sender}
		}
		line := l.line(o.Sender)
		l.clock = max(l.clock, line.used)
		line.used += o.Weight
		l.shares = append(l.shares, share{line, o.Weight, o.RunsScript})
	}
}

// spent replaces the estimates by the time that the batch took. own, fate and long are those of
// learn.
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

// knownScripts is how many scripts are remembered that took little time lately. A script that is
// not among them needs the lease.
const knownScripts = 4096

// scriptCost returns what a script is taken to cost in a batch.
func (l *lines) scriptCost(o *operation.Operation) time.Duration {
	if took, known := l.scripts[o.ScriptKey()]; known {
		return took
	}
	return operation.SlowBudget
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
	case fate == scriptEnded && own < operation.SlowBudget:
		if len(l.scripts) >= knownScripts {
			clear(l.scripts)
		}
		l.scripts[key] = own
	}
	return false
}

// scriptFate is what became of the script of a batch.
type scriptFate int

const (
	scriptNotRun scriptFate = iota // Redis took it not now (BUSY), or there is none
	scriptEnded                    // by itself
	scriptKilled                   // it had to be ended, or nobody knows
)

// scriptPatience is how long a batch with a user's script may take before SCRIPT KILL is sent.
const scriptPatience = 100 * time.Millisecond

// trips are how long the shortest and the longest exchange of a commit took.
type trips struct{ least, most time.Duration }

func (t *trips) add(took time.Duration) {
	if t.least == 0 || took < t.least {
		t.least = took
	}
	t.most = max(t.most, took)
}

// longestWay is how long the way to Redis may take so that it can be told from what
// Redis does.
const longestWay = 50 * time.Millisecond

// own returns how long the batch itself took at most, in a commit that has asked for the lease. That
// question costs Redis next to nothing, so its time is that of the way. On a machine without enough
// processor time that is most of it.
func (t *trips) own() time.Duration { return t.most - min(t.least, longestWay) }
