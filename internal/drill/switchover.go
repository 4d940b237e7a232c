package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// planned is promised if the master is replaced on purpose: requests wait.
var planned = history.Promise{Failed: history.None, Unknown: history.None, Pause: time.Second}

var switchover = fault{
	name: "switchover", about: "holdfast switchover: another redis node becomes the master while the old one works",
	course: true, needs: needFailover, promise: planned,
	inject: onRandomNode(plan.Redis, "master", (*faultContext).switchFrom),
}

var switchoverKillSentinel = fault{
	name: "switchover-kill-sentinel", about: "holdfast switchover, and SIGKILL to a Sentinel in the middle of it: it may be the one that carries it out",
	double: true, needs: needFailover | needSentinel, promise: held,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.switchAndKill(ctx, func(ctx context.Context) error {
			n, err := fc.randomBusyNode(ctx, plan.Sentinel, "")
			if err != nil {
				return err
			}
			return fc.kill(ctx, n)
		})
	},
}

var switchoverKillSupervisor = fault{
	name: "switchover-kill-supervisor", about: "holdfast switchover, and SIGKILL to the supervisor in the middle of it; the next one follows at once",
	double: true, needs: needFailover, promise: held,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.switchAndKill(ctx, func(ctx context.Context) error { return restartSupervisor.inject(ctx, fc) })
	},
}

// switchFrom makes another node than n the master.
func (fc *faultContext) switchFrom(ctx context.Context, n supervise.NodeStatus) error {
	fc.say("switching over from %s", n.Name)
	fc.recordInjection(n.Name)
	done, err := fc.stack.client().Switchover(ctx, "")
	if err != nil {
		return fmt.Errorf("switch over: %w", err)
	}
	if done.From != n.Name {
		return fmt.Errorf("%s was to be replaced, and %s was", n.Name, done.From)
	}
	fc.evidence("%s took the place of %s, which took no writes for %d ms", done.To, done.From, done.Waited)
	return nil
}

// switchAndKill kills something at a random moment of a switchover. The switchover may then succeed
// or fail; the load shows whether it did harm.
func (fc *faultContext) switchAndKill(ctx context.Context, kill func(ctx context.Context) error) error {
	master, err := fc.randomBusyNode(ctx, plan.Redis, "master")
	if err != nil {
		return err
	}
	fc.recordInjection(master.Name)
	ended := make(chan string, 1)
	go func() {
		done, err := fc.stack.client().Switchover(ctx, "")
		if err != nil {
			ended <- fmt.Sprintf("the switchover ended with: %v", err)
			return
		}
		ended <- fmt.Sprintf("%s took the place of %s all the same", done.To, done.From)
	}()
	// The switchover first shortens the Sentinels' polling periods, which takes 0.7 s. In the third
	// of a second after that, writes wait.
	if err := sleep(ctx, 500*time.Millisecond+time.Duration(rand.Int64N(int64(700*time.Millisecond)))); err != nil {
		return err
	}
	if err := kill(ctx); err != nil {
		return err
	}
	select {
	case how := <-ended:
		fc.evidence("%s", how)
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
