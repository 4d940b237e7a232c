package supervise

import (
	"sync"
	"time"
)

// The last words of a node are those of one process: what an earlier one has said, such
// as how it was stopped, is of no help to who wants to know why this one failed.

// lives tells the processes of a node apart in its log. It is safe for concurrent use.
type lives struct {
	mu    sync.Mutex
	began time.Time // the last start, also one that failed; zero: none was
	// tokens is a digest of its tokens file then; empty: it has none, or nobody knows.
	tokens string
	// dead is when the last process that has ended was started, and words are its own.
	dead  time.Time
	words []string
}

// tailFunc returns the last words of a node since a time.
type tailFunc func(since time.Time) []string

func (n *node) tail(since time.Time) []string {
	return n.home().Tail(n.sup.ctx, n.spec().Node, since)
}

// begin takes note that a process is about to be started, which reads such tokens.
func (l *lives) begin(at time.Time, tokens string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = tokens
	l.began = at.Round(0) // as others read it
}

// adopt takes note of a process that a supervisor before has started.
func (l *lives) adopt(tokens string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = tokens
}

// tokensRead is a digest of the tokens file as the last process has read it.
func (l *lives) tokensRead() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tokens
}

// lastStart is when a process was started last; zero: by a supervisor before.
func (l *lives) lastStart() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.began
}

// end keeps the words of the process that was started last, and has ended.
func (l *lives) end(tail tailFunc) {
	l.mu.Lock()
	began := l.began
	l.mu.Unlock()
	if began.IsZero() {
		return // a supervisor before has started it
	}
	words := tail(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead, l.words = began, words
}

// ofLastStart are the last words of the process that was started last.
func (l *lives) ofLastStart(tail tailFunc) []string {
	l.mu.Lock()
	began, dead, words := l.began, l.dead, l.words
	l.mu.Unlock()
	if began.Equal(dead) {
		return words
	}
	return tail(began)
}

// since are the last words of a process that was started after a moment: of one that has
// ended, or else of the one that runs.
func (l *lives) since(at time.Time, tail tailFunc) []string {
	l.mu.Lock()
	began, dead, words := l.began, l.dead, l.words
	l.mu.Unlock()
	switch {
	case !dead.Before(at):
		return words
	case !began.Before(at):
		return tail(began)
	}
	return nil
}
