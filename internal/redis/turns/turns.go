// Package turns decides which of the operations that are not brief is next.
//
// They wait in lines, one for each sender. The line that has had the least of Redis' time is next,
// so that one sender's thousand commands cost another's single one about one batch. Operations
// that need the lease for long ones wait in lines of their own: until this node has the lease,
// nothing else waits for them.
package turns

import (
	"slices"
	"time"

	"holdfast/internal/redis/operation"
)

// MaxWaiting bounds the operations of one sender that wait. An operation behind so many would
// not be carried out within the time that a request has.
const MaxWaiting = 1000

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

// Ran takes in that a script of the sender's ended by itself, or had to be ended. After
// one that had to be, the line has no turn for rest, and for a multiple of it where that
// happens again and again: the lease is to be others' meanwhile, those of other nodes too.
func (l *senderLine) Ran(ended bool, rest time.Duration) {
	if ended {
		l.overlong = max(l.overlong-1, 0)
		return
	}
	l.overlong = min(l.overlong+1, maxOverlong)
	l.rests = time.Now().Add(time.Duration(l.overlong) * rest)
}

// Lines are the senders' lines. They belong to a writer of the group commit, under its lock.
type Lines struct {
	of    map[string]*senderLine
	There []*senderLine // those that are not empty
	clock time.Duration // used of the line that was served last, before that
	// Shares is what the last batch has of each line.
	Shares []share
	// Scripts is how long each script took lately, by its hash, and running is the script of the
	// last batch, which has at most one. They belong to the goroutine that sends the batches.
	Scripts map[uint64]time.Duration
	Running runningScript
}

// runningScript is a script that is under way.
type runningScript struct {
	Key    uint64 // see operation.ScriptKey; 0: there is none
	Sender string
}

type share struct {
	line   *senderLine
	weight time.Duration // what is counted as used
	script bool          // and so nobody knew beforehand
}

// NewLines returns lines in which nothing waits.
func NewLines() *Lines {
	return &Lines{of: map[string]*senderLine{}, Scripts: map[uint64]time.Duration{}}
}

// Line returns a sender's line.
func (l *Lines) Line(sender string) *senderLine {
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
func (l *Lines) prune() {
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

// Live returns how many operations of a sender wait here.
func (l *Lines) Live(sender string) int {
	if line := l.of[sender]; line != nil {
		return line.live
	}
	return 0
}

// Push puts an operation at the end of its sender's line.
func (l *Lines) Push(o *operation.Operation) {
	line := l.Line(o.Sender)
	if line.live == 0 {
		line.used = max(line.used, l.clock)
	}
	l.enter(line)
	line.ops = append(line.ops, o)
	line.live++
}

// Back puts an operation at the head of its sender's line.
func (l *Lines) Back(o *operation.Operation) {
	line := l.Line(o.Sender)
	l.enter(line)
	line.ops = slices.Insert(line.ops, 0, o)
	line.live++
}

func (l *Lines) enter(line *senderLine) {
	if len(line.ops) == 0 {
		l.There = append(l.There, line)
	}
}

// Forget takes account of one operation that its caller gave up.
func (l *Lines) Forget(o *operation.Operation) {
	line := l.Line(o.Sender)
	line.live--
	if len(line.ops) > 2*line.live+64 {
		line.ops = slices.DeleteFunc(line.ops, func(o *operation.Operation) bool { return o.State.Load() == operation.Finished })
		if len(line.ops) == 0 {
			l.leave(line)
		}
	}
}

func (l *Lines) leave(line *senderLine) {
	l.There = slices.DeleteFunc(l.There, func(other *senderLine) bool { return other == line })
}

// First returns the operation whose turn it is; nil if no operation waits.
func (l *Lines) First(now time.Time) (line *senderLine, o *operation.Operation) {
	for _, other := range l.There {
		if (line == nil || other.used < line.used) && !now.Before(other.rests) {
			line = other
		}
	}
	if line == nil {
		return nil, nil
	}
	return line, line.ops[0]
}

// Pop takes the first operation out of a line.
func (l *Lines) Pop(line *senderLine) {
	line.ops[0] = nil
	if line.ops = line.ops[1:]; len(line.ops) == 0 {
		l.leave(line)
	}
}

// Taken counts an operation as under way. What it costs is guessed until it is
// weighed, so that the next one of the same batch is another sender's.
func (l *Lines) Taken(line *senderLine) {
	line.live--
	line.used += guess
	l.Shares = append(l.Shares, share{line: line, weight: guess})
}

// Weighed replaces the guesses by the estimates of what goes now.
func (l *Lines) Weighed(fit []*operation.Operation) {
	for _, s := range l.Shares {
		s.line.used -= s.weight
	}
	l.Shares, l.Running = l.Shares[:0], runningScript{}
	for _, o := range fit {
		if o.OneScript() {
			l.Running = runningScript{o.ScriptKey(), o.Sender}
		}
		line := l.Line(o.Sender)
		l.clock = max(l.clock, line.used)
		line.used += o.Weight
		l.Shares = append(l.Shares, share{line, o.Weight, o.RunsScript})
	}
}

// Spent replaces the estimates by the time that the batch took. own, fate and long are those of
// learn.
func (l *Lines) Spent(took, own time.Duration, fate ScriptFate) (long bool) {
	long = l.learn(took, own, fate)
	var sum time.Duration
	for _, s := range l.Shares {
		sum += s.weight
	}
	for _, s := range l.Shares {
		cost := time.Duration(float64(took) * float64(s.weight) / float64(max(sum, 1)))
		if !s.script {
			// What it took longer it waited for others, of other nodes too.
			cost = min(cost, 2*s.weight)
		}
		s.line.used += cost - s.weight
	}
	l.Shares = l.Shares[:0]
	return long
}

// knownScripts is how many scripts are remembered that took little time lately. A script that is
// not among them needs the lease.
const knownScripts = 4096

// ScriptCost returns what a script is taken to cost in a batch.
func (l *Lines) ScriptCost(o *operation.Operation) time.Duration {
	if took, known := l.Scripts[o.ScriptKey()]; known {
		return took
	}
	return operation.SlowBudget
}

// learn takes in how long a batch took, of which one may be a script, and how much of
// that was its own and not the way to Redis. It reports whether the script was long:
// then it is not known to be short any more. One that ended by itself may have waited
// for another node's.
func (l *Lines) learn(took, own time.Duration, fate ScriptFate) (long bool) {
	key := l.Running.Key
	l.Running = runningScript{}
	switch {
	case key == 0:
	case fate == ScriptKilled && took >= ScriptPatience:
		delete(l.Scripts, key)
		return true
	case fate == ScriptEnded && own < operation.SlowBudget:
		if len(l.Scripts) >= knownScripts {
			clear(l.Scripts)
		}
		l.Scripts[key] = own
	}
	return false
}

// ScriptFate is what became of the script of a batch.
type ScriptFate int

const (
	ScriptNotRun ScriptFate = iota // Redis did not take it now (BUSY), or there is no script
	ScriptEnded                    // by itself
	ScriptKilled                   // it had to be ended, or nobody knows
)

// ScriptPatience is how long a batch with a user's script may take before SCRIPT KILL is sent.
const ScriptPatience = 100 * time.Millisecond

// Trips are how long the shortest and the longest exchange of a commit took.
type Trips struct{ least, most time.Duration }

// Add takes in how long an exchange took.
func (t *Trips) Add(took time.Duration) {
	if t.least == 0 || took < t.least {
		t.least = took
	}
	t.most = max(t.most, took)
}

// longestWay is how long the way to Redis may take so that it can be told from what
// Redis does.
const longestWay = 50 * time.Millisecond

// Own returns how long the batch itself took at most, in a commit that has asked for the lease. That
// question costs Redis next to nothing, so its time is that of the way. On a machine without enough
// processor time that is most of it.
func (t *Trips) Own() time.Duration { return t.most - min(t.least, longestWay) }
