package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// A rollout of the version that an application has: every node is started anew with
// the care of a new version. Another version would be left in the application's
// history, and an application of kind kv has none.

var rollout = fault{
	name: "rollout", about: "holdfast restart APP: every node of an application is replaced, one after the other, with the brake of a rollout",
	course: true, needs: needWeb, promise: planned,
	strike: func(ctx context.Context, s *scene) error {
		return s.rollOut(ctx, nil)
	},
}

var rolloutKillSupervisor = fault{
	name: "rollout-kill-supervisor", about: "holdfast restart APP, and SIGKILL to the supervisor in the middle of it; the next one goes on with the change",
	double: true, needs: needWeb, promise: planned,
	strike: func(ctx context.Context, s *scene) error {
		return s.rollOut(ctx, func() error {
			if err := sleep(ctx, time.Duration(rand.Int64N(int64(2*time.Second)))); err != nil {
				return err
			}
			return restartSupervisor.strike(ctx, s)
		})
	},
}

var rolloutKillMaster = fault{
	name: "rollout-kill-master", about: "holdfast restart APP, and SIGKILL to the Redis master in the middle of it",
	double: true, needs: needWeb | needFailover, promise: held,
	strike: func(ctx context.Context, s *scene) error {
		return s.rollOut(ctx, func() error { return killMaster.strike(ctx, s) })
	},
}

var badRollout = fault{
	name: "bad-rollout", about: "holdfast restart APP, and SIGKILL to the first node when it is in rotation again: the rollout is stopped there, and no other node is touched",
	needs: needWeb, promise: planned, ready: settlesLongEnough,
	strike: func(ctx context.Context, s *scene) error {
		_, nodes, err := s.beginRollout(ctx)
		if err != nil {
			return err
		}
		first := ""
		done, err := s.change(ctx, supervise.Request{Kind: "restart", Force: namesOf(nodes)}, func(e supervise.Event) error {
			first = e.Node
			return s.killWhenServed(ctx, nodes, e.Node)
		})
		if err != nil {
			return err
		}
		if done.Done {
			return errors.New("a node died in the middle of the rollout, which was carried out all the same")
		}
		st, err := s.stack.status(ctx)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if now, _ := st.Node(n.Name); n.Name != first && now.PID != n.PID {
				return fmt.Errorf("the rollout was stopped at %s, and %s went from pid %d to %d", first, n.Name, n.PID, now.PID)
			}
		}
		s.evidence("the rollout was stopped at %s after %d of %d steps, and the other nodes have the processes that they had", first, done.Steps, done.Of)
		// The stack does not go on telling of a change that was stopped.
		return s.carryOut(ctx, supervise.Request{Kind: "restart", Force: []string{first}}, nil)
	},
}

// strikeWithin is how long it may take to see that a node is in rotation, and to kill it.
const strikeWithin = 2 * time.Second

// settlesLongEnough says why no node can be killed while the rollout waits for it.
func settlesLongEnough(_ context.Context, s *scene) error {
	if settle := s.stack.stack.Rollout.Settle; settle < strikeWithin {
		return fmt.Errorf("a node counts as well after %v (rollout.settle), and it takes %v to strike it before", settle, strikeWithin)
	}
	return nil
}

// killWhenServed kills a node when it has another process than before, and requests.
func (s *scene) killWhenServed(ctx context.Context, before []supervise.NodeStatus, name string) error {
	var now supervise.NodeStatus
	err := awaitEvery(ctx, askEvery, name+" in another process", restartBeyond+s.stack.stack.SlowestStart(), func() bool {
		st, err := s.stack.status(ctx)
		if err != nil {
			return false
		}
		now, _ = st.Node(name)
		for _, n := range before {
			if n.Name == name && n.PID == now.PID {
				return false
			}
		}
		return now.PID != 0 && now.State == supervise.Up
	})
	if err != nil {
		return err
	}
	if err := s.struckAtWork(ctx, now); err != nil {
		return err
	}
	return s.kill(ctx, now)
}

// beginRollout chooses the nodes of a rollout, and records its beginning.
func (s *scene) beginRollout(ctx context.Context) (app string, nodes []supervise.NodeStatus, err error) {
	app, nodes, err = s.application(ctx)
	if err != nil {
		return "", nil, err
	}
	if err := s.struckAtWork(ctx, nodes...); err != nil {
		return "", nil, err
	}
	if err := s.undo(step{Why: "the rollout of " + app, Changed: &changed{State: s.stack.state}, Running: s.stack.state}); err != nil {
		return "", nil, err
	}
	var extra []string // that serve meanwhile (rollout.surge)
	for i := range max(1, s.stack.stack.Rollout.Surge) {
		if s.stack.stack.Rollout.Surge > 0 || len(nodes) == 1 {
			extra = append(extra, fmt.Sprintf("%s-%d", app, s.stack.stack.Apps[app].Nodes+i+1))
		}
	}
	s.blowAll(nodes, extra...)
	return app, nodes, nil
}

// rollOut replaces every node of an application. In the middle of it, amid does
// something; it may be nil.
func (s *scene) rollOut(ctx context.Context, amid func() error) error {
	_, nodes, err := s.beginRollout(ctx)
	if err != nil {
		return err
	}
	var during func(supervise.Event) error
	if amid != nil {
		during = func(e supervise.Event) error {
			s.evidence("at %s of %s", e.Action, e.Node)
			return amid()
		}
	}
	err = s.carryOut(ctx, supervise.Request{Kind: "restart", Force: namesOf(nodes)}, during)
	if amid != nil && errors.Is(err, control.ErrInterrupted) {
		s.say("waiting until the next supervisor has gone on with the change")
		if err = awaitUnchanging(ctx, s.stack.client); err == nil {
			s.evidence("the next supervisor went on with it")
		}
	}
	if err != nil {
		return err
	}
	return s.replaced(ctx, nodes)
}
