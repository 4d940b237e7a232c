package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/attack"
	"holdfast/internal/plan"
)

// These faults set the clock of one host wrong and then kill the Redis master. Redis replicates the
// expiry of a key as a time of day, so the next master may regard a key as expired that has just
// been written. That concerns the records by which a repeated request is carried out only once, and
// the users' own keys.

// clockOff is how wrong the clock of a host is: like that of a machine in the wrong time zone.
const clockOff = time.Hour

var clockAhead = fault{
	name: "clock-ahead", about: "the clock of a host without the master goes an hour ahead, and the Redis master is killed: a repeated request still counts once, and no key expires early where another replica can take the master's place",
	hosts: true, clocks: true, double: true, needs: needFailover | needReplicas | needKV, promise: skewed,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.skew(ctx, clockOff, (*faultContext).otherHost)
	},
}

var clockBehind = fault{
	name: "clock-behind", about: "the clock of a host without the master goes an hour behind, and the Redis master is killed: a repeated request still counts once, and no key expires early",
	hosts: true, clocks: true, double: true, needs: needFailover | needReplicas | needKV, promise: skewed,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.skew(ctx, -clockOff, (*faultContext).otherHost)
	},
}

var masterClockAhead = fault{
	name: "master-clock-ahead", about: "the clock of the master's host goes an hour ahead, and the Redis master is killed: a repeated request still counts once, and no key that was written meanwhile expires early",
	hosts: true, clocks: true, double: true, needs: needFailover | needReplicas | needKV, promise: skewed,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.skew(ctx, clockOff, (*faultContext).masterHost)
	},
}

var masterClockBehind = fault{
	name: "master-clock-behind", about: "the clock of the master's host goes an hour behind, and the Redis master is killed: a repeated request still counts once; keys with a time to live end early, which is not promised otherwise",
	hosts: true, clocks: true, double: true, needs: needFailover | needReplicas | needKV, promise: skewed,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.skew(ctx, -clockOff, (*faultContext).masterHost)
	},
}

// skewed is promised while the clock of a host is wrong and another master is elected.
var skewed = held

const (
	// skewProbes is the number of keys of each kind that are checked.
	skewProbes = 20
	// skewBefore is how long the clock is wrong before the requests to be repeated are made: as
	// long as web nodes may take to notice it.
	skewBefore = 3 * time.Second
	// skewTTL is the time to live of a key that must not expire early.
	skewTTL = 10 * time.Minute
)

// skew sets the clock of a host wrong, kills the master, and then repeats requests from before.
func (fc *faultContext) skew(ctx context.Context, ahead time.Duration, choose func(*faultContext, context.Context) (host, error)) error {
	if fc.stack.hosts == nil || !fc.stack.clocks {
		return errNoHosts
	}

	one, err := choose(fc, ctx)
	if err != nil {
		return err
	}
	master, err := fc.randomBusyNode(ctx, plan.Redis, "master")
	if err != nil {
		return err
	}
	client, err := fc.newcomer(ctx)
	if err != nil {
		return err
	}

	// A copy of a file undoes it, so any process can carry out the step.
	back := step{Why: "the clock of " + one.name, Command: []string{"cp", fc.stack.rightClock(), fc.stack.clockFile(one)}, Unless: fc.stack.clockFile(one)}
	if err := fc.undo(back); err != nil {
		return err
	}

	fc.say("the clock of %s goes %v ahead", one.name, ahead)
	fc.recordInjection(one.name)
	if err := fc.stack.setClock(one, ahead); err != nil {
		return err
	}
	if err := fc.awaitWrongClock(ctx, one, ahead); err != nil {
		return err
	}
	if err := sleep(ctx, skewBefore); err != nil {
		return err
	}

	p := probes{s: fc, client: client}
	if err := p.write(ctx); err != nil {
		return err
	}
	if err := fc.kill(ctx, master); err != nil {
		return err
	}
	if err := fc.awaitMaster(ctx, master.Name); err != nil {
		return err
	}

	next := fc.otherMaster(ctx, master.Name)
	if next == nil {
		return errNoNode
	}

	if err := p.repeat(ctx); err != nil {
		return err
	}
	if err := p.stillThere(ctx, ahead > 0 || master.Host != one.name); err != nil {
		return err
	}
	return fc.switchToFastestClock(ctx, p)
}

// switchToFastestClock switches over to the replica whose clock is furthest ahead of the master's,
// which Sentinels could choose as well, and repeats the requests there. It does nothing if no clock
// is ahead by more than half of clockOff.
func (fc *faultContext) switchToFastestClock(ctx context.Context, p probes) error {
	if why := fc.stack.awaitWell(ctx, healBeyond); why != "" {
		return fmt.Errorf("the stack is not well after the master's death: %s", why)
	}

	clocks, err := fc.clocks(ctx)
	if err != nil {
		return err
	}
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}

	master := masterOf(st).Name
	furthest := master
	for name, ahead := range clocks {
		if ahead-clocks[furthest] > clockOff/2 {
			furthest = name
		}
	}
	if furthest == master {
		return nil
	}

	again := probes{s: fc, client: p.client, round: 1}
	if err := again.write(ctx); err != nil {
		return err
	}
	fc.recordInjection(master)
	var refused error
	err = awaitEvery(ctx, time.Second, "a switchover to "+furthest, 30*time.Second, func() bool {
		_, refused = fc.stack.client().Switchover(ctx, furthest)
		return refused == nil
	})
	if err != nil {
		return errors.Join(err, refused)
	}
	fc.evidence("%s, whose clock is %v ahead of that of %s, took its place", furthest, (clocks[furthest] - clocks[master]).Round(time.Second), master)
	return errors.Join(p.repeat(ctx), again.repeat(ctx))
}

// awaitWrongClock waits until every redis node of a host has the wrong time, and all others have
// the right one.
func (fc *faultContext) awaitWrongClock(ctx context.Context, one host, ahead time.Duration) error {
	const tolerance = 5 * time.Second
	var words []string
	var failed error
	err := awaitEvery(ctx, askEvery, "the wrong time at the redis nodes of "+one.name, 5*time.Second, func() bool {
		st, err := fc.stack.status(ctx)
		if err != nil {
			failed = err
			return false
		}
		clocks, err := fc.clocks(ctx)
		if failed = err; err != nil {
			return false
		}
		words = nil
		seen, as := false, true
		for name, off := range clocks {
			n, _ := st.Node(name)
			want := time.Duration(0)
			if n.Host == one.name {
				want, seen = ahead, true
			}
			as = as && (off-want).Abs() < tolerance
			words = append(words, fmt.Sprintf("%s %v", name, off.Round(time.Second)))
		}
		slices.Sort(words)
		return seen && as
	})
	if err != nil {
		return fmt.Errorf("%w; ahead of this machine's clock: %s", errors.Join(err, failed), strings.Join(words, ", "))
	}
	fc.evidence("ahead of this machine's clock: %s", strings.Join(words, ", "))
	return nil
}

// probes are requests that are made before the master dies and checked after it.
type probes struct {
	s      *faultContext
	client *attack.Client
	round  int
}

func (p probes) key(kind string, i int) string {
	return fmt.Sprintf("%sclock:%d:%d:%s:%d", p.s.prefix, p.s.record.Began.Milliseconds(), p.round, kind, i)
}

// do sends a command until it succeeds, and returns the result.
func (p probes) do(ctx context.Context, once string, command ...string) (any, error) {
	req := attack.Request{Path: "/", Body: attack.Command(command...)}
	if once != "" {
		req.Header = "Idempotency-Key: " + once + "\r\n"
	}
	var last attack.Answer
	err := awaitEvery(ctx, askEvery, "an answer to "+command[0], 10*time.Second, func() bool {
		last = p.client.Do(ctx, req)
		return last.OK()
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, last)
	}
	var body struct{ Result any }
	if err := json.Unmarshal(last.Body, &body); err != nil {
		return nil, fmt.Errorf("read the answer to %s: %w", command[0], err)
	}
	return body.Result, nil
}

// write makes the requests: increments with an idempotency key each, and keys with a time to live.
func (p probes) write(ctx context.Context) error {
	for i := range skewProbes {
		if _, err := p.do(ctx, p.key("once", i), "INCR", p.key("count", i)); err != nil {
			return err
		}
		if _, err := p.do(ctx, "", "SET", p.key("lives", i), "kelp", "PX", fmt.Sprint(skewTTL.Milliseconds())); err != nil {
			return err
		}
	}
	return nil
}

// repeat makes the increments again. They must not happen a second time.
func (p probes) repeat(ctx context.Context) error {
	twice := 0
	for i := range skewProbes {
		if _, err := p.do(ctx, p.key("once", i), "INCR", p.key("count", i)); err != nil {
			return err
		}
		n, err := p.do(ctx, "", "GET", p.key("count", i))
		if err != nil {
			return err
		}
		if fmt.Sprint(n) != "1" {
			twice++
		}
	}
	if twice > 0 {
		p.s.record.Wrong = append(p.s.record.Wrong, fmt.Sprintf("%d of %d requests with an idempotency key happened twice when they were repeated at the next master", twice, skewProbes))
	}
	p.s.evidence("%d of %d repeated requests counted once", skewProbes-twice, skewProbes)
	return nil
}

// stillThere counts the keys with a time to live that are still there. If promised, a missing key
// is recorded as wrong.
func (p probes) stillThere(ctx context.Context, promised bool) error {
	there := 0
	for i := range skewProbes {
		v, err := p.do(ctx, "", "GET", p.key("lives", i))
		if err != nil {
			return err
		}
		if v != nil {
			there++
		}
	}
	master := "nobody"
	if st, err := p.s.stack.status(ctx); err == nil {
		master = masterOf(st).Name
	}
	p.s.evidence("%d of %d keys that live for %v are there, with %s as the master", there, skewProbes, skewTTL, master)
	if promised && there < skewProbes {
		p.s.record.Wrong = append(p.s.record.Wrong, fmt.Sprintf("%d of %d keys expired before their time", skewProbes-there, skewProbes))
	}
	return nil
}
