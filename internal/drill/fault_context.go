package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/history"
	"holdfast/internal/load"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/supervise"
)

// faultContext is what a fault acts on: the stack, and the record of what was done to it. It
// belongs to one fault, and to one goroutine.
type faultContext struct {
	stack   *supervisedStack // nil in Kubernetes
	pods    *podStack        // nil elsewhere
	journal *journal
	record  *history.Fault
	began   time.Time // the history's times count from here
	random  *rand.Rand
	// mix is the load's, with the token; tokenFile is the file that holds it. prefix begins the
	// drill's keys.
	mix       Mix
	prefix    string
	tokenFile string
	// progress returns how far the load is.
	progress func() load.Progress
	// say tells the user what the drill is doing.
	say func(format string, args ...any)
}

// now returns the time since the beginning of the history.
func (fc *faultContext) now() time.Duration { return time.Since(fc.began) }

// recordInjection records the moment of one injection, and the nodes or hosts that it strikes. The
// first one begins the fault: time spent on preparations does not count.
func (fc *faultContext) recordInjection(at ...string) {
	now := fc.now()
	if len(fc.record.Moments) == 0 {
		fc.record.Began = now
	}
	fc.record.Moments = append(fc.record.Moments, now)
	fc.addTargets(at...)
}

// addTargets records targets of the fault.
func (fc *faultContext) addTargets(at ...string) {
	for _, target := range at {
		if !slices.Contains(fc.record.Targets, target) {
			fc.record.Targets = append(fc.record.Targets, target)
		}
	}
}

// evidence records how the drill knows that the fault really happened.
func (fc *faultContext) evidence(format string, args ...any) {
	words := fmt.Sprintf(format, args...)
	if fc.record.Evidence != "" {
		words = fc.record.Evidence + "; " + words
	}
	fc.record.Evidence = words
}

// undo adds to the journal the step that undoes the harm about to be done.
func (fc *faultContext) undo(st step) error {
	_, err := fc.journal.add(st)
	return err
}

// errNoNode is the error if the stack has no node that the fault could strike.
var errNoNode = errors.New("the stack has none")

// runningNodes returns the nodes of a kind that have a process. role selects among redis nodes;
// empty: any. Web nodes are only those of applications under load.
func (fc *faultContext) runningNodes(ctx context.Context, kind plan.Kind, role string) ([]supervise.NodeStatus, error) {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return nil, err
	}
	nodes := slices.DeleteFunc(slices.Clone(st.Nodes), func(n supervise.NodeStatus) bool {
		return n.Kind != kind || n.PID == 0 || role != "" && n.Role != role ||
			kind == plan.Web && !slices.Contains(fc.stack.loads.apps, n.App)
	})
	if len(nodes) == 0 {
		return nil, fmt.Errorf("no %s is up: %w", strings.TrimSpace(string(kind)+" "+role), errNoNode)
	}
	return nodes, nil
}

// upNodes returns those nodes of a kind that are up; see all.
func (fc *faultContext) upNodes(ctx context.Context, kind plan.Kind, role string) ([]supervise.NodeStatus, error) {
	nodes, err := fc.runningNodes(ctx, kind, role)
	if err != nil {
		return nil, err
	}
	nodes = slices.DeleteFunc(nodes, func(n supervise.NodeStatus) bool { return n.State != supervise.Up })
	if len(nodes) == 0 {
		return nil, fmt.Errorf("no %s is up: %w", strings.TrimSpace(string(kind)+" "+role), errNoNode)
	}
	return nodes, nil
}

// randomUpNode returns a random node of a kind among those that are up.
func (fc *faultContext) randomUpNode(ctx context.Context, kind plan.Kind, role string) (supervise.NodeStatus, error) {
	nodes, err := fc.upNodes(ctx, kind, role)
	if err != nil {
		return supervise.NodeStatus{}, err
	}
	return nodes[fc.random.IntN(len(nodes))], nil
}

// randomBusyNode returns a random node of a kind among those that are up and under load. Sentinels
// serve no clients, so any that is up will do.
func (fc *faultContext) randomBusyNode(ctx context.Context, kind plan.Kind, role string) (supervise.NodeStatus, error) {
	if !kind.Traits().Serves {
		return fc.randomUpNode(ctx, kind, role)
	}
	nodes, err := fc.upNodes(ctx, kind, role)
	if err != nil {
		return supervise.NodeStatus{}, err
	}
	busy, did, err := fc.busyNodes(ctx, nodes)
	if err != nil {
		return supervise.NodeStatus{}, err
	}
	n := busy[fc.random.IntN(len(busy))]
	fc.recordWork([]supervise.NodeStatus{n}, did)
	return n, nil
}

// kill sends SIGKILL to nodes, or to the supervisor, and waits until they are gone. The supervisor
// does not know of it. The signals follow each other as quickly as possible.
func (fc *faultContext) kill(ctx context.Context, nodes ...supervise.NodeStatus) error {
	ids := make([]process.ID, len(nodes))
	for i, n := range nodes {
		var err error
		if ids[i], err = fc.stack.processes.identify(n.Host, n.PID); err != nil {
			return fmt.Errorf("%s (pid %d) ended before it was killed", n.Name, n.PID)
		}
	}

	fc.say("killing %s", joinNames(nodes))
	for i, n := range nodes {
		fc.recordInjection(n.Name)
		if err := fc.stack.processes.signal(n.Host, ids[i], syscall.SIGKILL, n.Kind != ""); err != nil {
			return fmt.Errorf("kill %s: %w", n.Name, err)
		}
	}

	for i, n := range nodes {
		if err := await(ctx, n.Name+"'s end", 5*time.Second, func() bool { return !fc.stack.processes.alive(n.Host, ids[i]) }); err != nil {
			return err
		}
		fc.evidence("%s (pid %d) ended by SIGKILL", n.Name, n.PID)
	}
	return nil
}

// pause sends SIGSTOP to nodes, or to the supervisor, and waits until they are stopped. They
// continue when the fault is undone.
func (fc *faultContext) pause(ctx context.Context, nodes ...supervise.NodeStatus) error {
	for _, n := range nodes {
		id, err := fc.stack.processes.identify(n.Host, n.PID)
		if err != nil {
			return fmt.Errorf("%s (pid %d) ended before it was paused", n.Name, n.PID)
		}
		if err := fc.undo(fc.stack.continueStep(n, id)); err != nil {
			return err
		}
		fc.say("pausing %s", n.Name)
		fc.recordInjection(n.Name)
		if err := fc.stack.processes.signal(n.Host, id, syscall.SIGSTOP, n.Kind != ""); err != nil {
			return fmt.Errorf("pause %s: %w", n.Name, err)
		}
		if err := await(ctx, n.Name+" standing still", 5*time.Second, func() bool { return fc.stack.processes.stopped(n.Host, id) }); err != nil {
			return err
		}
		fc.evidence("%s (pid %d) was stopped", n.Name, n.PID)
	}
	return nil
}

// continueStep returns the step that lets a paused node continue (SIGCONT).
func (s *supervisedStack) continueStep(n supervise.NodeStatus, id process.ID) step {
	st := step{Why: "the pause of " + n.Name, Process: id, Signal: syscall.SIGCONT, Alone: n.Kind == ""}
	if !s.processes.isLocal(n.Host) {
		st.Host, st.By = n.Host, s.processes.state
	}
	return st
}

// lookEvery is the interval at which await checks a condition. askEvery is the interval at which
// the nodes of a stack are asked: longer, because they have clients to serve.
const lookEvery, askEvery = 10 * time.Millisecond, 50 * time.Millisecond

// await polls until a condition holds. After limit it returns an error that names what did not
// happen.
func await(ctx context.Context, what string, limit time.Duration, cond func() bool) error {
	return awaitEvery(ctx, lookEvery, what, limit, cond)
}

func awaitEvery(ctx context.Context, every time.Duration, what string, limit time.Duration, cond func() bool) error {
	for deadline := time.Now().Add(limit); !cond(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s", limit, what)
		}
		if err := sleep(ctx, every); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits for a time. It returns why the context has ended if it ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if !clock.Sleep(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

func joinNames(nodes []supervise.NodeStatus) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name)
	}
	return strings.Join(all, ", ")
}
