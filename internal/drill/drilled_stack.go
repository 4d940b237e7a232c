package drill

import (
	"context"
	"path/filepath"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/load"
	"holdfast/internal/stack"
)

// drilledStack is what a drill run needs of its stack: a stack that a supervisor looks after
// (target), or pods in Kubernetes (podStack). The run and its watcher use it concurrently.
type drilledStack interface {
	declared() stack.Stack
	loadTarget() loadTarget
	// heal waits until the stack is well. After limit it returns why the stack is not; empty: it
	// is.
	heal(ctx context.Context, limit time.Duration) (why string)
	// master returns the name of the redis node that is master; empty: unknown.
	master(ctx context.Context) string
	// awaitInSync waits until every replica confirms writes, as far as that can be known.
	awaitInSync(ctx context.Context) error
	// lead sets where the load goes, and how it reaches its application.
	lead(ctx context.Context, cfg *load.Config) error
	// try sends one request of each kind. It refuses the drill if one is not answered by the
	// application that it is meant for.
	try(ctx context.Context, cfg load.Config) error
	// leaves returns the step that removes the load's keys; nil: they go with the stack.
	leaves(cfg load.Config, tokenFile string) *step
	// watch returns a watcher that notes what happens to the stack once it runs.
	watch(ctx context.Context, began time.Time) (stackWatcher, error)
	// set makes this stack the one that a fault strikes.
	set(fc *faultContext)
}

// stackWatcher observes what happens to the stack during a drill.
type stackWatcher interface {
	run(ctx context.Context) // until ctx ends
	// electedAt returns when the master was last seen to have changed; zero: never.
	electedAt() time.Time
	// notices returns what no fault explains.
	notices(faults []history.Fault) []history.Notice
}

func (t *target) declared() stack.Stack  { return t.stack }
func (t *target) loadTarget() loadTarget { return t.loads }
func (t *target) set(fc *faultContext)   { fc.stack = t }

func (t *target) master(ctx context.Context) string {
	st, _ := t.status(ctx)
	return masterOf(st).Name
}

func (t *target) lead(ctx context.Context, cfg *load.Config) error {
	st, err := t.status(ctx)
	if err != nil {
		return err
	}
	cfg.Entries = []string{st.Entry}
	if len(t.entries) > 0 {
		cfg.Entries = t.entries
	}
	cfg.TLS = trustEntry(st.Entry, t.state())
	cfg.Headers, cfg.Nodes = t.headers, t.directNodes(st)
	t.entry = st.Entry
	return nil
}

func (t *target) leaves(cfg load.Config, tokenFile string) *step {
	if t.ownStack || t.loads.app == "" {
		return nil
	}
	left := keys{State: t.state(), Entry: t.entry, Prefix: cfg.Prefix, TokenFile: tokenFile}
	if t.afar {
		left.At = cfg.Entries[0]
	}
	if len(t.headers) > 0 {
		left.App = t.loads.app
	}
	return &step{
		Why: "the drill's keys", Keys: &left, Unless: filepath.Join(t.state(), "nodes"), // it was purged
	}
}

func (t *target) watch(ctx context.Context, began time.Time) (stackWatcher, error) {
	st, err := t.status(ctx)
	if err != nil {
		return nil, err
	}
	return newWatcher(t, began, st), nil
}
