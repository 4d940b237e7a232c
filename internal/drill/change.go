package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// changed is a stack to be left without a change under way. It is the undoing of a
// change: the supervisor goes on with one whose drill is gone.
type changed struct {
	State string `json:"state"`
	// Overrides are what is said of the stack afterwards, as it was before.
	Overrides stack.Overrides `json:"overrides,omitzero"`
}

// changeLimit is how long a change may take, beyond the start of its nodes.
const changeLimit = 2 * time.Minute

// perform waits until no change is under way, and has the overrides hold again.
func (c changed) perform() error {
	ctx, cancel := context.WithTimeout(context.Background(), changeLimit)
	defer cancel()
	client := control.NewClient(c.State)
	if err := awaitUnchanging(ctx, client); err != nil {
		return err
	}
	req := supervise.Request{Kind: "scale", Overrides: c.Overrides}
	if len(c.Overrides.Drained) > 0 {
		req.Kind = "undrain"
	}
	p, err := client.Preview(ctx, req)
	if err != nil || p.Empty() {
		return err
	}
	done, err := client.Change(ctx, req, func(supervise.Event) {})
	if err == nil && !done.Done {
		err = errors.New(done.Why)
	}
	return err
}

// awaitUnchanging waits until no change of the stack is under way.
func awaitUnchanging(ctx context.Context, client *control.Client) error {
	var failed error
	err := awaitEvery(ctx, askEvery, "the end of the change", changeLimit, func() bool {
		st, err := client.Status(ctx)
		failed = err
		return err == nil && st.Change == nil
	})
	if err != nil {
		return errors.Join(err, failed)
	}
	return nil
}

// change has the supervisor change the stack. At the first step of a node, amid is
// called, once; it may be nil. Its error is that of amid, or says that the change did
// not begin or that its end is unknown.
func (s *scene) change(ctx context.Context, req supervise.Request, amid func(supervise.Event) error) (supervise.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit+s.stack.stack.SlowestStart())
	defer cancel()
	var failed error
	done, err := s.stack.client.Change(ctx, req, func(e supervise.Event) {
		if e.What == "begun" {
			s.say("%s: step %d of %d, %s %s", req.Kind, e.Step, e.Of, e.Action, e.Node)
		}
		if e.What == "begun" && amid != nil {
			failed = amid(e)
			amid = nil
		}
	})
	if failed != nil {
		return done, failed
	}
	if err != nil {
		return done, fmt.Errorf("%s: %w", req.Kind, err)
	}
	return done, nil
}

// carryOut is a change that has to come to its end.
func (s *scene) carryOut(ctx context.Context, req supervise.Request, amid func(supervise.Event) error) error {
	done, err := s.change(ctx, req, amid)
	switch {
	case err != nil:
		return err
	case !done.Done:
		return fmt.Errorf("the %s was stopped: %s", req.Kind, done.Why)
	case done.Steps == 0:
		return fmt.Errorf("the %s found nothing to do", req.Kind)
	}
	s.evidence("%s: %d steps in %.1f s", req.Kind, done.Steps, done.Ended.Sub(done.Began).Seconds())
	return nil
}

// application chooses one of the applications that the load reaches, by its nodes that
// are up.
func (s *scene) application(ctx context.Context) (app string, nodes []supervise.NodeStatus, err error) {
	all, err := s.up(ctx, plan.Web, "")
	if err != nil {
		return "", nil, err
	}
	app = all[s.random.IntN(len(all))].App
	for _, n := range all {
		if n.App == app {
			nodes = append(nodes, n)
		}
	}
	return app, nodes, nil
}

// blowAll records the beginning of a change of an application, which reaches its
// nodes and the balancers.
func (s *scene) blowAll(nodes []supervise.NodeStatus, more ...string) {
	balancers := slices.Sorted(maps.Keys(s.stack.balancers))
	s.blow(slices.Concat(namesOf(nodes), more, balancers)...)
}

// replaced checks that each of some nodes has another process than before.
func (s *scene) replaced(ctx context.Context, before []supervise.NodeStatus) error {
	st, err := s.stack.status(ctx)
	if err != nil {
		return err
	}
	var pids []string
	for _, n := range before {
		now, _ := st.Node(n.Name)
		if now.PID == 0 || now.PID == n.PID {
			return fmt.Errorf("%s was to be started anew: it had pid %d, and has pid %d", n.Name, n.PID, now.PID)
		}
		pids = append(pids, fmt.Sprintf("%s went from pid %d to %d", n.Name, n.PID, now.PID))
	}
	s.evidence("%s", strings.Join(pids, ", "))
	return nil
}

// namesOf are the names of nodes.
func namesOf(nodes []supervise.NodeStatus) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name)
	}
	return all
}
