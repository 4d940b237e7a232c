package agent

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// Terms makes a host obey one leader at a time: the one with the latest term. The term is the
// number of a leadership in what the hosts agree on (package agree), and fences former leaders.
// The zero value has heard of no term. Terms is safe for concurrent use.
type Terms struct {
	// Known returns the latest term that the host has heard of in the agreement; it may be
	// nil. A host that was restarted has not been called yet, but it may know of leaders.
	Known func() uint64

	mu     sync.Mutex
	latest uint64
	// calls are the calls under way, and streams the connections to nodes, with their terms.
	calls   map[*ongoing]uint64
	streams map[io.Closer]uint64
	changed chan struct{} // closed when a call ends
}

// ongoing is a call that is under way.
type ongoing struct{ cancel context.CancelFunc }

// Hear records a term. It cancels the calls of earlier terms, and closes their connections to
// nodes.
func (t *Terms) Hear(term uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hear(term)
}

func (t *Terms) hear(term uint64) {
	if term <= t.latest {
		return
	}
	t.latest = term
	for c, of := range t.calls {
		if of < term {
			c.cancel()
		}
	}
	for stream, of := range t.streams {
		if of < term {
			_ = stream.Close() // it ends in any case
			delete(t.streams, stream)
		}
	}
}

// Begin begins a call, or something else that is done under a term. It first waits until the
// calls of earlier terms have ended, because they may still be changing what this one reads. The
// context that it returns ends when a later term is heard of. The caller must call end. The
// error is ErrDeposed if a later term is known already.
func (t *Terms) Begin(ctx context.Context, term uint64) (of context.Context, end func(), err error) {
	if t.Known != nil {
		t.Hear(t.Known())
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.hear(term)

	for term == t.latest && t.earlier(term) {
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		t.mu.Lock()
		if err != nil {
			return nil, nil, err
		}
	}

	if term < t.latest {
		return nil, nil, fmt.Errorf("%w (in term %d; this call is of term %d)", ErrDeposed, t.latest, term)
	}

	if t.calls == nil {
		t.calls = map[*ongoing]uint64{}
	}
	of, cancel := context.WithCancel(ctx)
	c := &ongoing{cancel}
	t.calls[c] = term
	return of, func() { t.end(c) }, nil
}

// earlier reports whether a call of an earlier term is under way.
func (t *Terms) earlier(term uint64) bool {
	for _, of := range t.calls {
		if of < term {
			return true
		}
	}
	return false
}

func (t *Terms) end(c *ongoing) {
	c.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.calls, c)
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// addStream adds a connection to a node, which is closed when a later term is heard of. It returns
// false if one was heard of already.
func (t *Terms) addStream(stream io.Closer, term uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if term < t.latest {
		return false
	}
	if t.streams == nil {
		t.streams = map[io.Closer]uint64{}
	}
	t.streams[stream] = term
	return true
}

func (t *Terms) removeStream(stream io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.streams, stream)
}
