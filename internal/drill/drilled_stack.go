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
// (supervisedStack), or pods in Kubernetes (podStack). The run and its watcher use it concurrently.
type drilledStack interface {
	declared() stack.Stack
	loadTarget() loadTarget
	// awaitWell waits until the stack is well. After limit it returns why the stack is not; empty:
	// it is.
	awaitWell(ctx context.Context, limit time.Duration) (why string)
	// master returns the name of the redis node that is master; empty: unknown.
	master(ctx context.Context) string
	// awaitInSync waits until every replica confirms writes, as far as that can be known.
	awaitInSync(ctx context.Context) error
	// directLoad sets where the load goes, and how it reaches its application.
	directLoad(ctx context.Context, cfg *load.Config) error
	// tryRequests sends one request of each kind. It refuses the drill if one is not answered by
	// the application that it is meant for.
	tryRequests(ctx context.Context, cfg load.Config) error
	// removeKeysStep returns the step that removes the load's keys; nil: they go with the stack.
	removeKeysStep(cfg load.Config, tokenFile string) *step
	// watch returns a watcher that notes what happens to the stack once it runs.
	watch(ctx context.Context, began time.Time) (stackWatcher, error)
	// attachTo makes this stack the one that a fault strikes.
	attachTo(fc *faultContext)
}

// stackWatcher observes what happens to the stack during a drill.
type stackWatcher interface {
	run(ctx context.Context) // until ctx ends
	// electedAt returns when the master was last seen to have changed; zero: never.
	electedAt() time.Time
	// notices returns what no fault explains.
	notices(faults []history.Fault) []history.Notice
}

func (s *supervisedStack) declared() stack.Stack     { return s.spec }
func (s *supervisedStack) loadTarget() loadTarget    { return s.loads }
func (s *supervisedStack) attachTo(fc *faultContext) { fc.stack = s }

func (s *supervisedStack) master(ctx context.Context) string {
	st, _ := s.status(ctx)
	return masterOf(st).Name
}

func (s *supervisedStack) directLoad(ctx context.Context, cfg *load.Config) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	cfg.Entries = []string{st.Entry}
	if len(s.entries) > 0 {
		cfg.Entries = s.entries
	}
	cfg.TLS = trustEntry(st.Entry, s.state())
	cfg.Headers, cfg.Nodes = s.headers, s.directNodes(st)
	s.entry = st.Entry
	return nil
}

func (s *supervisedStack) removeKeysStep(cfg load.Config, tokenFile string) *step {
	if s.ownStack || s.loads.app == "" {
		return nil
	}
	left := leftKeys{State: s.state(), Entry: s.entry, Prefix: cfg.Prefix, TokenFile: tokenFile}
	if s.onUserHosts {
		left.At = cfg.Entries[0]
	}
	if len(s.headers) > 0 {
		left.App = s.loads.app
	}
	return &step{
		Why: "the drill's keys", Keys: &left, Unless: filepath.Join(s.state(), "nodes"), // it was purged
	}
}

func (s *supervisedStack) watch(ctx context.Context, began time.Time) (stackWatcher, error) {
	st, err := s.status(ctx)
	if err != nil {
		return nil, err
	}
	return newWatcher(s, began, st), nil
}
