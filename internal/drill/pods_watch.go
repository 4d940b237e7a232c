package drill

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/kubectl"
)

// podWatcher notes which pods end or restart during a drill, so that events that were no part of
// the drill are not taken for its effects.
type podWatcher struct {
	stack *podStack
	began time.Time

	mu     sync.Mutex
	before map[string]kubectl.Pod // by UID
	seen   []observation
}

func (p *podStack) watch(ctx context.Context, began time.Time) (stackWatcher, error) {
	pods, err := p.pods(ctx, "")
	if err != nil {
		return nil, err
	}
	w := &podWatcher{stack: p, began: began}
	w.look(pods)
	return w, nil
}

// watchPodsEvery is the interval between two looks. Each look runs a process on the machine that
// also runs the clients.
const watchPodsEvery = time.Second

func (w *podWatcher) run(ctx context.Context) {
	for sleep(ctx, watchPodsEvery) == nil {
		// What happens while the API does not answer is noticed at the next look.
		if pods, err := w.stack.pods(ctx, ""); err == nil {
			w.look(pods)
		}
	}
}

// look compares the pods with those of the last look.
func (w *podWatcher) look(pods []kubectl.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := time.Since(w.began)
	now := map[string]kubectl.Pod{}
	for _, pod := range pods {
		now[pod.UID] = pod
	}
	for uid, was := range w.before {
		is, there := now[uid]
		see := func(text string) {
			w.seen = append(w.seen, observation{at: at, node: was.Name, host: was.Node, text: text})
		}
		switch {
		case was.Ending:
		case !there:
			see("the pod is gone")
		case is.Ending:
			see("the pod is ending")
		case is.Restarts > was.Restarts:
			see(fmt.Sprintf("its container was started again (%d times so far)", is.Restarts))
		}
	}
	w.before = now
}

// electedAt is unknown here: asking every pod for its role takes too long. The drill run asks for
// the master before and after each fault.
func (w *podWatcher) electedAt() time.Time { return time.Time{} }

// podSlack is how long after a fault its effects may still be seen. It covers the interval between
// two looks.
const podSlack = slack + watchPodsEvery

func (w *podWatcher) notices(faults []history.Fault) []history.Notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []history.Notice
	for _, s := range w.seen {
		explained := slices.ContainsFunc(faults, func(f history.Fault) bool {
			return s.at >= f.Began && (f.Healthy < 0 || s.at <= f.Healthy+podSlack) && isTarget(f, s.node, s.host)
		})
		if !explained {
			all = append(all, history.Notice{At: s.at, Node: s.node, Text: s.text})
		}
	}
	return all
}
