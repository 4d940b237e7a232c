package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// watcher notes what happens to the nodes during a drill, so that events that were no part of it
// are not taken for its effects. It asks the supervisor at intervals.
type watcher struct {
	target *supervisedStack
	began  time.Time

	mu          sync.Mutex
	before      supervise.Status
	master      supervise.NodeStatus // the last known master
	seen        []observation
	left        map[string]*absence // nodes that are not up although they have a process
	masterships []mastership
	// elected is when the master was last seen to have changed; zero: never. silent: no supervisor
	// answered at the last look.
	elected time.Time
	silent  bool
}

// absence is a time during which a node is not up.
type absence struct {
	from  time.Duration
	noted bool
}

// mastership begins when a node was first seen as master.
type mastership struct {
	from       time.Duration
	node, host string
}

// electedAt returns when the master was last seen to have changed; zero: never.
func (w *watcher) electedAt() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.elected
}

// observation is one observed change of one node.
type observation struct {
	at time.Duration
	// failedAt is for a supervisor that did not answer: the request was sent at at, and failed at
	// failedAt. Zero for other observations.
	failedAt   time.Duration
	node, host string
	text       string
	// follows: the observation may be an effect of the loss of the master or of the supervisor,
	// whatever node it is of.
	follows bool
}

func newWatcher(s *supervisedStack, began time.Time, before supervise.Status) *watcher {
	w := &watcher{target: s, began: began, before: before, master: masterOf(before), left: map[string]*absence{}}
	w.masterships = []mastership{{0, w.master.Name, w.master.Host}}
	return w
}

// watchEvery is the interval between two looks.
const watchEvery = 100 * time.Millisecond

// run looks at the nodes until the context ends.
func (w *watcher) run(ctx context.Context) {
	for sleep(ctx, watchEvery) == nil {
		asked := time.Since(w.began)
		st, err := w.target.status(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil || st.Supervisor == 0:
			w.unanswered(asked, time.Since(w.began), err) // what happens meanwhile is seen at the next look
		default:
			w.look(st)
		}
	}
}

// unanswered notes that no supervisor answers, once for each silence. The request was sent at at,
// and failed at failedAt.
func (w *watcher) unanswered(at, heard time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.silent {
		w.seen = append(w.seen, observation{at: at, failedAt: heard, node: "supervisor", host: w.before.Host, text: fmt.Sprintf("it does not answer (%v)", err)})
	}
	w.silent = true
}

// look compares a status with that of the last look.
func (w *watcher) look(now supervise.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := time.Since(w.began)
	w.silent = false

	if now.Supervisor != w.before.Supervisor {
		// On hosts this may be the effect of an injection at its host, so the observation has the
		// host's name.
		w.seen = append(w.seen, observation{at: at, node: "supervisor", host: w.before.Host, text: fmt.Sprintf("another supervisor is at work (pid %d, before %d)", now.Supervisor, w.before.Supervisor)})
	}

	if is := masterOf(now); is.Name != "" {
		if was := w.master; was.Name != "" && was.Name != is.Name {
			w.elected = time.Now()
			w.masterships = append(w.masterships, mastership{at, is.Name, is.Host})
			w.seen = append(w.seen, observation{at: at, node: was.Name, host: was.Host, text: fmt.Sprintf("%s became master in the place of %s", is.Name, was.Name)})
		}
		w.master = is
	}

	for i, n := range now.Nodes {
		old, ok := w.before.Node(n.Name)
		if n.Unknown && ok { // the next look at which it is known compares it with the last one before
			now.Nodes[i] = old
			continue
		}
		w.noteAbsence(n, at)
		see := func(format string, args ...any) {
			w.seen = append(w.seen, observation{at: at, node: n.Name, host: n.Host, text: fmt.Sprintf(format, args...)})
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

// leftFor is how long a node has to be not up before that is noted: a probe may be late.
const leftFor = 500 * time.Millisecond

// noteAbsence notes a node that is not up for a while although its process runs: a replica without
// its master, a web node that is not ready, a node with a full disk.
func (w *watcher) noteAbsence(n supervise.NodeStatus, at time.Duration) {
	if n.State == supervise.Up || n.State == supervise.Paused || n.PID == 0 {
		delete(w.left, n.Name)
		return
	}
	a := w.left[n.Name]
	if a == nil {
		a = &absence{from: at}
		w.left[n.Name] = a
	}
	if !a.noted && at-a.from >= leftFor {
		a.noted = true
		w.seen = append(w.seen, observation{at: a.from, node: n.Name, host: n.Host, follows: true,
			text: strings.TrimSuffix(fmt.Sprintf("%s was not up any more: %s", n.Name, n.Detail), ": ")})
	}
}

// masterOf returns the one redis node that is master. It returns the zero value if there is no
// master, or more than one.
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

// notices returns the observations that no fault explains: those of nodes and hosts that were no
// target of a fault at that time.
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
			return max(s.at, s.failedAt) >= f.Began && s.at <= until+slack &&
				(isTarget(f, s.node, s.host) || s.follows && (f.Promise.Binding || w.hitMaster(f, until)))
		})
		if !explained {
			all = append(all, history.Notice{At: s.at, Node: s.node, Text: s.text})
		}
	}
	return all
}

// isTarget reports whether a fault was aimed at a node or its host. A fault that may strike
// anything counts as aimed at all of them.
func isTarget(f history.Fault, node, host string) bool {
	return f.Anything || slices.Contains(f.Targets, node) || host != "" && slices.Contains(f.Targets, host)
}

// hitMaster reports whether a fault has struck the supervisor, or a node that was master during the
// fault. Other nodes are then not up, or not known to be, until there is a new one.
func (w *watcher) hitMaster(f history.Fault, until time.Duration) bool {
	if slices.Contains(f.Targets, "supervisor") {
		return true
	}
	for i, r := range w.masterships {
		over := i+1 < len(w.masterships) && w.masterships[i+1].from < f.Began
		if !over && r.from <= until && isTarget(f, r.node, r.host) {
			return true
		}
	}
	return false
}
