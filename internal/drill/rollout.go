package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// The drill rolls out the version that the application already has: each node is restarted, as
// carefully as for a new version. A new version would stay in the application's history, and an
// application of kind kv has none.

var rollout = fault{
	name: "rollout", about: "holdfast restart APP: every node of an application is replaced, one after the other, with the brake of a rollout",
	course: true, needs: needWeb, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.rollOut(ctx, func(req supervise.Request) error { return fc.carryOut(ctx, req, nil) })
	},
}

var rolloutKillSupervisor = fault{
	name: "rollout-kill-supervisor", about: "holdfast restart APP, and SIGKILL to the supervisor in the middle of it; the next one goes on with the change",
	course: true, double: true, needs: needWeb, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.rollOut(ctx, func(req supervise.Request) error { return fc.carryOutAndKill(ctx, req, restartSupervisor) })
	},
}

var rolloutKillMaster = fault{
	name: "rollout-kill-master", about: "holdfast restart APP, and SIGKILL to the Redis master in the middle of it",
	double: true, needs: needWeb | needFailover, promise: held, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.rollOut(ctx, func(req supervise.Request) error { return fc.carryOutAndKill(ctx, req, killMaster) })
	},
}

var rolloutKillNode = fault{
	name: "rollout-kill-node", about: "holdfast restart APP, and SIGKILL to one of its nodes while it comes up, or just after: the rollout goes on when that is up, or stops there",
	course: true, double: true, needs: needWeb, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.rollOutAndKillNode(ctx, nil, func(name string, before []supervise.NodeStatus) error {
			n, err := fc.awaitRestarted(ctx, before, name, false)
			if err != nil {
				return err
			}
			after := time.Duration(fc.random.Int64N(int64(killNodeSpread)))
			if err := sleep(ctx, after); err != nil {
				return err
			}
			fc.evidence("%d ms after it was started", after.Milliseconds())
			return fc.kill(ctx, n)
		})
	},
}

// killNodeSpread is how long after its start a node may be killed. A node is up after some tenths
// of a second, and gets requests a little later.
const killNodeSpread = 1200 * time.Millisecond

var badRollout = fault{
	name: "bad-rollout", about: "holdfast restart APP, and SIGKILL to the first node when it is in rotation again: the rollout is stopped there, and no other node is touched",
	needs: needWeb, promise: planned, ready: requireLongSettle,
	inject: func(ctx context.Context, fc *faultContext) error {
		first := 0
		return fc.rollOutAndKillNode(ctx, &first, func(name string, before []supervise.NodeStatus) error {
			n, err := fc.awaitRestarted(ctx, before, name, true)
			if err != nil {
				return err
			}
			if err := fc.requireBusy(ctx, n); err != nil {
				return err
			}
			return fc.kill(ctx, n)
		})
	},
}

// rollOutAndKillNode replaces every node of an application; kill kills one of them. number is the
// index of that node; nil: a random one. If the kill stops the rollout, no node after it may have
// been touched. If number is given, the rollout has to stop.
func (fc *faultContext) rollOutAndKillNode(ctx context.Context, number *int, kill func(name string, before []supervise.NodeStatus) error) error {
	was, nodes, err := fc.beginRollout(ctx)
	if err != nil {
		return err
	}

	victim := nodes[fc.random.IntN(len(nodes))].Name
	if number != nil {
		victim = nodes[*number].Name
	}

	touched := map[string]bool{}
	done, err := fc.change(ctx, supervise.Request{Kind: "restart", Force: namesOf(nodes)}, &stepAction{
		when: func(e supervise.Event) bool {
			touched[e.Node] = true
			return e.Node == victim && e.Action == plan.Restart
		},
		do: func(e supervise.Event) error { return kill(victim, nodes) },
	})
	switch {
	case err != nil:
		return err
	case done.Done && number != nil:
		return errors.New("a node died in the middle of the rollout, which was carried out all the same")
	case done.Done:
		fc.evidence("the rollout went on when %s was up", victim)
		if err := fc.verifyReplaced(ctx, nodes); err != nil {
			return err
		}
		return fc.verifyAsBefore(ctx, was)
	}

	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if now, _ := st.Node(n.Name); !touched[n.Name] && now.PID != n.PID {
			return fmt.Errorf("the rollout was stopped at %s, and %s went from pid %d to %d", victim, n.Name, n.PID, now.PID)
		}
	}

	fc.evidence("the rollout was stopped at %s after %d of %d steps, and the nodes after it have the processes that they had", victim, done.Steps, done.Of)
	// Carried out again, so that the stack's status shows no stopped change any more.
	if err := fc.carryOut(ctx, supervise.Request{Kind: "restart", Force: []string{victim}}, nil); err != nil {
		return err
	}
	return fc.verifyAsBefore(ctx, was)
}

// strikeWithin limits how long it may take to see that a node is in rotation, and to kill it.
const strikeWithin = 2 * time.Second

// requireLongSettle returns an error if a node cannot be killed while the rollout still waits for
// it.
func requireLongSettle(ctx context.Context, fc *faultContext) error {
	if settle := fc.stack.spec.Rollout.Settle; settle < strikeWithin {
		return fmt.Errorf("a node counts as well after %v (rollout.settle), and it takes %v to strike it before", settle, strikeWithin)
	}
	return requireNoChange(ctx, fc)
}

// awaitRestarted waits until a node has another process than before. With up, the node also has to
// be up.
func (fc *faultContext) awaitRestarted(ctx context.Context, before []supervise.NodeStatus, name string, up bool) (now supervise.NodeStatus, err error) {
	err = awaitEvery(ctx, askEvery, name+" in another process", restartBeyond+fc.stack.spec.SlowestStart(), func() bool {
		st, err := fc.stack.status(ctx)
		if err != nil {
			return false
		}
		now, _ = st.Node(name)
		for _, n := range before {
			if n.Name == name && n.PID == now.PID {
				return false
			}
		}
		return now.PID != 0 && (!up || now.State == supervise.Up)
	})
	return now, err
}

// beginRollout chooses the nodes of a rollout, and records its beginning.
func (fc *faultContext) beginRollout(ctx context.Context) (was formerStack, nodes []supervise.NodeStatus, err error) {
	app, nodes, err := fc.application(ctx)
	if err != nil {
		return was, nil, err
	}
	if err := fc.requireBusy(ctx, nodes...); err != nil {
		return was, nil, err
	}
	if was, err = fc.undoChanges(ctx, "the rollout of "+app); err != nil {
		return was, nil, err
	}
	var extra []string // nodes that serve during the rollout (rollout.surge)
	for i := range max(1, fc.stack.spec.Rollout.Surge) {
		if fc.stack.spec.Rollout.Surge > 0 || len(nodes) == 1 {
			extra = append(extra, fmt.Sprintf("%s-%d", app, fc.stack.spec.Apps[app].Nodes+i+1))
		}
	}
	fc.recordAppChange(nodes, extra...)
	return was, nodes, nil
}

// rollOut replaces every node of an application. carryOut carries out the request.
func (fc *faultContext) rollOut(ctx context.Context, carryOut func(supervise.Request) error) error {
	was, nodes, err := fc.beginRollout(ctx)
	if err != nil {
		return err
	}
	if err := carryOut(supervise.Request{Kind: "restart", Force: namesOf(nodes)}); err != nil {
		return err
	}
	if err := fc.verifyReplaced(ctx, nodes); err != nil {
		return err
	}
	return fc.verifyAsBefore(ctx, was)
}
