package drill

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// watcher sees what happens to the nodes during a drill, so that what was no
// part of it is not taken for its effect.
type watcher struct {
	target *target
	began  time.Time

	mu     sync.Mutex
	before supervise.Status
	master supervise.NodeStatus // the last that there was
	seen   []sight
	// elected is when the master was seen to be another one, zero if never;
	// silent: no supervisor answered at the last look.
	elected time.Time
	silent  bool
}

// electedAt is when the master was last seen to be another one; zero: never.
func (w *watcher) electedAt() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.elected
}

// sight is one change of one node.
type sight struct {
	at         time.Duration
	node, host string
	text       string
}

func newWatcher(t *target, began time.Time, before supervise.Status) *watcher {
	return &watcher{target: t, began: began, before: before, master: masterOf(before)}
}

// watchEvery is how often the watcher looks.
const watchEvery = 100 * time.Millisecond

// run looks until the context ends.
func (w *watcher) run(ctx context.Context) {
	for sleep(ctx, watchEvery) == nil {
		asked := time.Since(w.began)
		st, err := w.target.status(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil || st.Supervisor == 0:
			w.unanswered(asked, err) // what happens meanwhile is seen after it
		default:
			w.look(st)
		}
	}
}

// unanswered notes that no supervisor answers, once for each time.
func (w *watcher) unanswered(at time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.silent {
		w.seen = append(w.seen, sight{at, "supervisor", "", fmt.Sprintf("it does not answer (%v)", err)})
	}
	w.silent = true
}

// look compares with the last look.
func (w *watcher) look(now supervise.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := time.Since(w.began)
	w.silent = false
	if now.Supervisor != w.before.Supervisor {
		w.seen = append(w.seen, sight{at, "supervisor", "", fmt.Sprintf("another supervisor is at work (pid %d, before %d)", now.Supervisor, w.before.Supervisor)})
	}
	if is := masterOf(now); is.Name != "" {
		if was := w.master; was.Name != "" && was.Name != is.Name {
			w.elected = time.Now()
			w.seen = append(w.seen, sight{at, was.Name, was.Host, fmt.Sprintf("%s became master in the place of %s", is.Name, was.Name)})
		}
		w.master = is
	}
	for _, n := range now.Nodes {
		old, ok := w.before.Node(n.Name)
		see := func(format string, args ...any) {
			w.seen = append(w.seen, sight{at, n.Name, n.Host, fmt.Sprintf(format, args...)})
		}
		switch {
		case !ok:
			see("%s was added", n.Name)
		case n.PID == 0 && old.PID != 0:
			see("%s (pid %d) ended", n.Name, old.PID)
		case n.PID != old.PID && old.PID != 0:
			see("%s ended and was started again (pid %d, before %d)", n.Name, n.PID, old.PID)
		case n.State == supervise.Paused && old.State != supervise.Paused:
			see("%s stands still (pid %d)", n.Name, n.PID)
		}
	}
	w.before = now
}

// masterOf is the one redis node that is master; its zero value when there is
// none, or more than one.
func masterOf(st supervise.Status) supervise.NodeStatus {
	var masters []supervise.NodeStatus
	for _, n := range st.Nodes {
		if n.Kind == plan.Redis && n.Role == "master" {
			masters = append(masters, n)
		}
	}
	if len(masters) != 1 {
		return supervise.NodeStatus{}
	}
	return masters[0]
}

// slack is how long after a fault its effects may still be seen.
const slack = time.Second

// notices are the sights that no fault explains: of a node or host that was no
// target of any fault under way.
func (w *watcher) notices(faults []history.Fault) []history.Notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []history.Notice
	for _, s := range w.seen {
		explained := slices.ContainsFunc(faults, func(f history.Fault) bool {
			until := f.Healthy
			if until < 0 {
				until = s.at
			}
			return s.at >= f.Began && s.at <= until+slack &&
				(slices.Contains(f.Targets, s.node) || s.host != "" && slices.Contains(f.Targets, s.host))
		})
		if !explained {
			all = append(all, history.Notice{At: s.at, Node: s.node, Text: s.text})
		}
	}
	return all
}
