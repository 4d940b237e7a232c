package load

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/history"
)

// Load is a load on one entry. Progress and End are safe for concurrent use. Everything else is for
// one goroutine, in this order: Run, once, then ReadBack, Operations and Remove.
type Load struct {
	cfg     Config
	entries []string // host:port
	header  []byte   // header lines of every request
	turn    int      // number of operations after which new sets replace the full ones

	first   time.Duration // when the first operation is due
	clients []*client
	direct  []*directClient
	rest    []history.Operation // operations without a client of the load: never sent, or final reads

	ok, failed, unknown atomic.Int64

	mu     sync.Mutex
	work   sync.Cond // on mu: signals a change of due or ended
	due    int       // number of operations that became due
	taken  int       // number of operations that a client took
	ended  bool      // nothing more becomes due
	recent recent
	last   time.Duration // when the last operation became due
	behind time.Duration

	versions sync.Mutex
	newest   map[string]registerVersion
}

// New returns a load. It starts nothing.
func New(cfg Config) (*Load, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	entries, err := cfg.addresses()
	if err != nil {
		return nil, err
	}
	l := &Load{cfg: cfg, entries: entries, header: cfg.header(), turn: cfg.setTurn(), newest: map[string]registerVersion{}}
	l.work.L = &l.mu
	for n := range cfg.Clients {
		l.clients = append(l.clients, l.newClient(n))
	}
	if len(cfg.URLs) > 0 {
		return l, nil
	}
	return l, l.newDirect()
}

// Run sends operations until the context ends. Then nothing more becomes due, and operations that
// are due get Config.Grace to be done. After that, those under way are broken off, and those that
// no client took have failed.
func (l *Load) Run(ctx context.Context) {
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()

	var clients sync.WaitGroup
	for _, c := range l.clients {
		clients.Go(func() { c.run(hard) })
	}

	for _, d := range l.direct {
		clients.Go(func() { d.run(ctx, hard) })
	}
	l.pace(ctx)

	grace := time.AfterFunc(l.cfg.Grace, cut)
	defer grace.Stop()
	l.mu.Lock()
	l.ended = true
	l.work.Broadcast()
	l.mu.Unlock()
	clients.Wait()

	for n := l.taken; n < l.due; n++ {
		t := l.task(n)
		now := l.now()
		op := history.Operation{
			Client: -1, Kind: t.kind, Key: t.key, Verb: t.verb, From: t.from, MaxAge: t.maxAge, Once: t.once,
			Value: t.value(-1), Due: l.dueAt(n), Start: now, End: now, Outcome: history.Failed, Error: "never sent: no client was free",
		}
		l.rest = append(l.rest, op)
		l.count(&op)
	}

	l.mu.Lock()
	l.due = l.taken
	l.mu.Unlock()
}

// pace makes every operation due at its time, whether or not a client is free.
func (l *Load) pace(ctx context.Context) {
	l.mu.Lock()
	l.first = l.now()
	l.mu.Unlock()
	for n := 0; ; n++ {
		due := l.dueAt(n)
		if !l.sleepUntil(ctx, due) {
			return
		}
		l.mu.Lock()
		l.due++
		l.last = due
		if late := l.now() - due; late > l.behind {
			l.behind = late
		}
		l.work.Signal() // wakes the client that has waited longest
		l.mu.Unlock()
	}
}

// sleepUntil sleeps until that time. It returns false if the context ended before.
func (l *Load) sleepUntil(ctx context.Context, at time.Duration) bool {
	const most = 50 * time.Millisecond // at most this long between two looks at the context
	for ctx.Err() == nil {
		left := at - l.now()
		if left <= 0 {
			return true
		}
		sleep(min(left, most))
	}
	return false
}

// dueAt returns when the operation with that number is due.
func (l *Load) dueAt(number int) time.Duration {
	return l.first + time.Duration(int64(number)*int64(time.Second)/int64(l.cfg.Rate))
}

func (l *Load) now() time.Duration { return time.Since(l.cfg.Began) }

// nextDue waits for an operation that is due. It returns false if there are no more for this
// client.
func (l *Load) nextDue(hard context.Context) (number int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.taken == l.due {
		if l.ended {
			return 0, false
		}
		l.work.Wait()
	}
	if hard.Err() != nil {
		return 0, false
	}
	l.taken++
	return l.taken - 1, true
}

// latest returns the version of a register that any client saw last; zero: it was absent.
func (l *Load) latest(key string) registerVersion {
	l.versions.Lock()
	defer l.versions.Unlock()
	return l.newest[key]
}

func (l *Load) setLatest(key string, v registerVersion) {
	l.versions.Lock()
	defer l.versions.Unlock()
	if v.etag == "" {
		delete(l.newest, key)
		return
	}
	l.newest[key] = v
}

// End returns when the last operation so far was due.
func (l *Load) End() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Operations returns all operations, sorted by End.
func (l *Load) Operations() []history.Operation {
	all := slices.Clone(l.rest)
	for _, c := range l.clients {
		all = append(all, c.operations...)
	}
	for _, d := range l.direct {
		all = append(all, d.operations...)
	}
	slices.SortStableFunc(all, func(a, b history.Operation) int { return cmp.Compare(a.End, b.End) })
	return all
}
