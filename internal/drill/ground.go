package drill

import (
	"context"
	"path/filepath"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/load"
	"holdfast/internal/stack"
)

// ground is the stack that a course drills, as far as the course has to know it: one that a
// supervisor looks after (target), or pods in Kubernetes (podStack). It is used by the course
// and by its lookout at once.
type ground interface {
	declared() stack.Stack
	reaches() aim
	// heal waits until the stack is well, and returns why it is not after a time; empty: it is.
	heal(ctx context.Context, limit time.Duration) (why string)
	// master is the name of the redis node that is master; empty: nobody knows.
	master(ctx context.Context) string
	// awaitInSync waits until every replica confirms writes, as far as it is known.
	awaitInSync(ctx context.Context) error
	// lead fills in where the load goes, and how it reaches its application.
	lead(ctx context.Context, cfg *load.Config) error
	// try sends one request of each kind, and refuses the drill where they are not answered
	// by the application that they are for.
	try(ctx context.Context, cfg load.Config) error
	// leaves is the step that removes keys of the load; nil: they go with the stack.
	leaves(cfg load.Config, tokenFile string) *step
	// watch begins to note what happens to the stack.
	watch(ctx context.Context, began time.Time) (lookout, error)
	// set makes it the stack that a scene's fault strikes.
	set(s *scene)
}

// lookout sees what happens to the stack during a drill.
type lookout interface {
	run(ctx context.Context) // until ctx ends
	// electedAt is when the master was last seen to be another one; zero: never.
	electedAt() time.Time
	// notices are what no fault explains.
	notices(faults []history.Fault) []history.Notice
}

func (t *target) declared() stack.Stack { return t.stack }
func (t *target) reaches() aim          { return t.aim }
func (t *target) set(s *scene)          { s.stack = t }

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
	if t.own || t.aim.app == "" {
		return nil
	}
	left := keys{State: t.state(), Entry: t.entry, Prefix: cfg.Prefix, TokenFile: tokenFile}
	if t.afar {
		left.At = cfg.Entries[0]
	}
	if len(t.headers) > 0 {
		left.App = t.aim.app
	}
	return &step{
		Why: "the drill's keys", Keys: &left, Unless: filepath.Join(t.state(), "nodes"), // it was purged
	}
}

func (t *target) watch(ctx context.Context, began time.Time) (lookout, error) {
	st, err := t.status(ctx)
	if err != nil {
		return nil, err
	}
	return newWatcher(t, began, st), nil
}
