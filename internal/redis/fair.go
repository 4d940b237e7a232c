package redis

import (
	"hash/maphash"
	"slices"
	"time"
)

// The operations that are not brief wait in lines, one for each sender. The line
// that has had the least of Redis' time is next, so that one sender's thousand
// commands cost another's single one about one batch.

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
}

// lines are the senders' lines. They belong to their writer, under its mu.
type lines struct {
	of    map[string]*senderLine
	there []*senderLine // those that are not empty
	clock time.Duration // used of the line that was served last, before that
	// shares are what the last batch has of each line.
	shares []share
	// scripts are what a script took lately, by its hash, and running is the one of the
	// last batch, which has one at the most; 0: it had none. They belong to the writer's
	// follow.
	scripts map[uint64]time.Duration
	running uint64
}

type share struct {
	line   *senderLine
	weight time.Duration // what is counted as used
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
			if len(line.ops) == 0 && line.live == 0 && (all || line.used <= l.clock) {
				delete(l.of, sender)
			}
		}
		if len(l.of) < maxLines {
			return
		}
	}
}

// full reports whether a sender has too much waiting.
func (l *lines) full(sender string) bool {
	line := l.of[sender]
	return line != nil && line.live >= maxWaitingSlow
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

// back puts operations at the head of their senders' lines, the first one first.
func (l *lines) back(ops []*operation) {
	for _, o := range slices.Backward(ops) {
		line := l.line(o.sender)
		l.enter(line)
		line.ops = slices.Insert(line.ops, 0, o)
		line.live++
	}
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
func (l *lines) first() (line *senderLine, o *operation) {
	for _, other := range l.there {
		if line == nil || other.used < line.used {
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
	l.shares = append(l.shares, share{line, guess})
}

// weighed puts the estimates of what goes now in the place of the guesses.
func (l *lines) weighed(fit []*operation) {
	for _, s := range l.shares {
		s.line.used -= s.weight
	}
	l.shares, l.running = l.shares[:0], 0
	for _, o := range fit {
		if o.oneScript() {
			l.running = o.scriptKey()
		}
		line := l.line(o.sender)
		l.clock = max(l.clock, line.used)
		line.used += o.weight
		l.shares = append(l.shares, share{line, o.weight})
	}
}

// spent puts the time that the batch took in the place of the estimates. ended and
// long are those of learn.
func (l *lines) spent(took time.Duration, ended bool) (long bool) {
	long = l.learn(took, ended)
	var sum time.Duration
	for _, s := range l.shares {
		sum += s.weight
	}
	for _, s := range l.shares {
		s.line.used += time.Duration(float64(took)*float64(s.weight)/float64(max(sum, 1))) - s.weight
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

// learn takes in how long a batch took, of which one may be a script. ended is false
// where that was ended, or what became of it is not known. It reports whether the
// script was long: then it is not known to be short any more. One that ended by itself
// may have waited for another node's.
func (l *lines) learn(took time.Duration, ended bool) (long bool) {
	key := l.running
	l.running = 0
	switch {
	case key == 0:
	case took >= scriptPatience && !ended:
		delete(l.scripts, key)
		return true
	case took < slowBudget:
		if len(l.scripts) >= knownScripts {
			clear(l.scripts)
		}
		l.scripts[key] = took
	}
	return false
}

// takeSlow is take for operations that are not brief. A guarded one is a batch of its
// own.
func (w *writer) takeSlow(batch []*operation) []*operation {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines.shares = w.lines.shares[:0]
	now := time.Now()
	for len(batch) < slowTogether {
		line, o := w.lines.first()
		if o == nil || o.guarded && len(batch) > 0 {
			break
		}
		w.lines.pop(line)
		if !w.ended && now.After(o.until) {
			continue // its caller takes account of it
		}
		if o.state.CompareAndSwap(queued, taken) { // else its caller gave it up
			w.live--
			w.bytes -= o.size
			w.lines.taken(line)
			batch = append(batch, o)
			if o.guarded {
				break
			}
		}
	}
	return batch
}
