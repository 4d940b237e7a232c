package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/attack"
	"holdfast/internal/history"
	"holdfast/internal/process"
	"holdfast/internal/redis"
)

var busyScript = fault{
	name: "busy-script", about: "for 5 s clients send scripts that never end and only read, alone and in pipelines, to the master and to replicas: each is ended (SCRIPT KILL), others wait for that at most, and the master remains the master",
	course: true, needs: needRedis | needKV | needScripts, promise: undisturbed, ready: requireScripts,
	inject: func(ctx context.Context, fc *faultContext) error {
		a, err := fc.prepareAttack(ctx)
		if err != nil {
			return err
		}
		t := attack.NewTally()
		err = a.runAttack(ctx, "sending scripts without an end", func(ctx context.Context) {
			var clients sync.WaitGroup
			for _, one := range endlessScripts(fc.evalCommand(), a.prefix) {
				clients.Go(func() {
					a.client.Repeat(ctx, slowRequests, attackPause, t, func(int) attack.Request { return one })
				})
			}
			clients.Wait()
		})
		if err != nil {
			return err
		}
		a.s.evidence("scripts: %s", t)
		took, words := a.cost(ctx, "eval", "eval_ro")
		if took < scriptsLeast {
			return fmt.Errorf("scripts took Redis %d ms, and %d ms are the least that says something (%s)", took.Milliseconds(), scriptsLeast.Milliseconds(), t)
		}
		a.s.evidence("they took Redis %.2f s (INFO commandstats): %s", took.Seconds(), words)
		if _, killed := a.cost(ctx, "script|kill"); killed != "" {
			a.s.evidence("%s", killed)
		}
		a.recordMasterRemains(ctx)
		return nil
	},
}

// scriptsLeast is how much of Redis' time the scripts have to take for the fault to prove
// something.
const scriptsLeast = 200 * time.Millisecond

// evalCommand returns the command by which the application runs scripts. Some applications allow
// only scripts that read (kv.scripts).
func (fc *faultContext) evalCommand() string {
	if kv := fc.stack.spec.Apps[fc.stack.loads.app].KV; kv != nil && kv.Scripts == "read" {
		return "EVAL_RO"
	}
	return "EVAL"
}

// endlessScripts returns the requests of the attack, one for each client.
func endlessScripts(eval, prefix string) []attack.Request {
	const (
		spins = "while true do end"
		reads = "while true do redis.call('GET', KEYS[1]) end"
		// This script catches the error by which SCRIPT KILL ends it, each time.
		catches = "while true do pcall(function() while true do end end) end"
	)
	key := prefix + "read"
	return []attack.Request{
		{Path: "/", Body: attack.Command(eval, spins, "0")},
		{Path: "/", Body: attack.Command(eval, reads, "1", key)},
		{Path: "/", Body: attack.Command(eval, catches, "0")},
		{Path: "/pipeline", Body: attack.Pipeline(20, eval, spins+" -- in a pipeline", "0")},
		{Path: "/", Header: "Holdfast-Read: replica\r\n", Body: attack.Command("EVAL_RO", reads, "1", key)},
	}
}

// requireScripts returns an error if the application runs no scripts for the drill's token.
func requireScripts(ctx context.Context, fc *faultContext) error {
	return fc.requireCommand(ctx, fc.evalCommand(), "return 1", "1", fc.prefix+"script")
}

var busyWritingScript = fault{
	name: "busy-writing-script", about: "a client sends a script that writes and never ends, which nothing but the end of its Redis ends: the Sentinels replace the master, the supervisor kills it, and it comes back as a replica; no other node follows it",
	needs: needFailover | needKV | needWritingScripts, ready: requireScripts,
	promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 4 * time.Second, Binding: true},
	inject: func(ctx context.Context, fc *faultContext) error {
		a, err := fc.prepareAttack(ctx)
		if err != nil {
			return err
		}
		id, err := process.Identify(a.master.PID)
		if err != nil {
			return fmt.Errorf("%s (pid %d) ended before it got the script", a.master.Name, a.master.PID)
		}

		t := attack.NewTally()
		var failed error
		err = a.runAttack(ctx, "sending a script that writes and never ends", func(ctx context.Context) {
			var client sync.WaitGroup
			client.Go(func() {
				a.client.Repeat(context.WithoutCancel(ctx), 1, attackPause, t, func(int) attack.Request {
					return attack.Request{Path: "/", Body: attack.Command("EVAL", "redis.call('SET', KEYS[1], 1) while true do end", "1", a.prefix+"written")}
				})
			})
			failed = await(ctx, a.master.Name+" busy with the script", attackLasts, func() bool { return fc.busy(ctx, a.master.Name) })
			if failed == nil {
				fc.evidence("%s replied BUSY", a.master.Name)
				failed = fc.awaitMaster(context.WithoutCancel(ctx), a.master.Name)
			}
			client.Wait()
		}, a.master.Name)
		if err = errors.Join(err, failed); err != nil {
			return fmt.Errorf("%w (the script: %s)", err, t)
		}
		fc.evidence("the script: %s", t)

		fc.say("waiting until the supervisor ends %s", a.master.Name)
		if err := await(ctx, "the supervisor ending "+a.master.Name, busyEnds, func() bool { return !process.Alive(id) }); err != nil {
			return err
		}
		fc.evidence("%s (pid %d) was ended by the supervisor", a.master.Name, a.master.PID)
		return nil
	},
}

// busyEnds is how long a node may be left with a script that nothing can end.
const busyEnds = 40 * time.Second

// busy reports whether a Redis node replies BUSY, because a script keeps it.
func (fc *faultContext) busy(ctx context.Context, node string) bool {
	_, err := fc.stack.standing(ctx, node)
	return redis.Busy(err)
}
