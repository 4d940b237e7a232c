package supervise

import (
	"sync"
	"time"
)

// The last output that is shown of a failed node is that of one process. The output of an
// earlier process, such as how it was stopped, does not help to find out why this one failed.

// processLog tells the processes of a node apart in its log. It is safe for concurrent use.
type processLog struct {
	mu    sync.Mutex
	began time.Time // the last start, even if it failed; zero: there was none
	// tokens is a digest of the node's tokens file at that time; empty: it has none, or it is
	// unknown.
	tokens string
	// dead is when the last process that has ended was started, and lastOutput is its last output.
	dead       time.Time
	lastOutput []string
}

// tailFunc returns the last output of a node since a time.
type tailFunc func(since time.Time) []string

func (n *node) tail(since time.Time) []string {
	return n.home().Tail(n.sup.ctx, n.spec().Node, since)
}

// begin records that a process is about to be started, and the digest of the tokens that it
// will read.
func (l *processLog) begin(at time.Time, tokens string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = tokens
	l.began = at.Round(0) // without the monotonic clock, as others read it
}

// adopt records a process that an earlier supervisor started.
func (l *processLog) adopt(tokens string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = tokens
}

// tokensRead returns a digest of the tokens file as the last process has read it.
func (l *processLog) tokensRead() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tokens
}

// lastStart returns when a process was last started; zero: an earlier supervisor started it.
func (l *processLog) lastStart() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.began
}

// end keeps the last output of the process that was started last, and has ended.
func (l *processLog) end(tail tailFunc) {
	l.mu.Lock()
	began := l.began
	l.mu.Unlock()
	if began.IsZero() {
		return // an earlier supervisor started it
	}
	output := tail(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead, l.lastOutput = began, output
}

// ofLastStart returns the last output of the process that was started last.
func (l *processLog) ofLastStart(tail tailFunc) []string {
	l.mu.Lock()
	began, dead, lastOutput := l.began, l.dead, l.lastOutput
	l.mu.Unlock()
	if began.Equal(dead) {
		return lastOutput
	}
	return tail(began)
}

// since returns the last output of a process that was started after at: of one that has ended,
// otherwise of the running one.
func (l *processLog) since(at time.Time, tail tailFunc) []string {
	l.mu.Lock()
	began, dead, lastOutput := l.began, l.dead, l.lastOutput
	l.mu.Unlock()
	switch {
	case !dead.Before(at):
		return lastOutput
	case !began.Before(at):
		return tail(began)
	}
	return nil
}
