package drill

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"holdfast/internal/process"
)

// hostAway is how long a lost host is away.
const hostAway = cutLasts

var loseHost = fault{
	name: "lose-host", about: "a host without the master dies: no packet leaves it, and everything on it is killed; it is back after 6 s",
	hosts: true, needs: needFailover, promise: unreached,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, err := fc.otherHost(ctx)
		if err != nil {
			return err
		}
		return fc.lose(ctx, one)
	},
}

var loseMasterHost = fault{
	name: "lose-master-host", about: "the master's host dies: no packet leaves it, and everything on it is killed; it is back after 6 s",
	hosts: true, needs: needFailover, promise: unreached,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, err := fc.masterHost(ctx)
		if err != nil {
			return err
		}
		return fc.lose(ctx, one)
	},
}

var loseSupervisorHost = fault{
	name: "lose-supervisor-host", about: "the host whose supervisor leads dies: no packet leaves it, and everything on it is killed; it is back after 6 s",
	hosts: true, needs: needFailover, promise: unreached,
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.supervisor(ctx)
		if err != nil {
			return err
		}
		one := fc.stack.hosts.named(n.Host)
		if err := fc.requireBusyHost(ctx, one); err != nil {
			return err
		}
		return fc.lose(ctx, one)
	},
}

// lose makes a host die as by a loss of power. Its link goes first, because a dead host closes no
// connection. When the host is back, its link is up first; then its holdfast process starts, as at
// boot, and starts the host's nodes.
func (fc *faultContext) lose(ctx context.Context, one host) error {
	for _, st := range []step{
		fc.stack.startHostStep(one, "the end of Holdfast's process on "+one.name),
		{
			Why:     "the loss of " + one.name,
			Command: []string{"ip", "-netns", one.netns, "link", "set", hostLink, "up"}, Unless: netnsDir + "/" + one.netns,
		},
	} {
		if err := fc.undo(st); err != nil {
			return err
		}
	}

	pids, err := one.pids(ctx)
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return fmt.Errorf("nothing runs on %s: %w", one.name, errNoNode)
	}

	var ids []process.ID
	for _, pid := range pids {
		if id, err := process.Identify(pid); err == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return fmt.Errorf("all that ran on %s has ended by itself: %w", one.name, errNoNode)
	}

	fc.say("losing %s, with %d processes", one.name, len(ids))
	fc.recordCutOff(ctx, one)
	fc.recordInjection(one.name)
	if err := ip(ctx, one.netns, "link set "+hostLink+" down"); err != nil {
		return err
	}
	for _, id := range ids {
		// The process may have ended together with its parent.
		_ = process.Signal(id, syscall.SIGKILL, false)
	}

	err = await(ctx, "the end of all that runs on "+one.name, 5*time.Second, func() bool {
		pids, err := one.pids(ctx)
		for _, pid := range pids { // a process that was just being started
			if id, err := process.Identify(pid); err == nil {
				_ = process.Signal(id, syscall.SIGKILL, false)
			}
		}
		return err == nil && len(pids) == 0
	})
	if err != nil {
		return err
	}
	if err := fc.stack.hosts.removeVirtual(ctx, one, fc.stack.spec.Entry.Virtual.Bare()); err != nil {
		return err
	}
	if err := sleep(ctx, hostAway); err != nil {
		return err
	}
	if back, err := one.pids(ctx); err != nil || len(back) > 0 {
		return fmt.Errorf("%d processes came back before %s did (%v)", len(back), one.name, err)
	}
	fc.evidence("%s had %d processes, and none until it was back", one.name, len(ids))
	return nil
}

// removeVirtual removes the virtual addresses that a host has. keepalived added them, and a machine
// that lost its power comes back without them.
func (h *hosts) removeVirtual(ctx context.Context, one host, addresses []string) error {
	for _, address := range addresses {
		holders, err := h.holders(ctx, address)
		if err != nil {
			return err
		}
		if slices.Contains(hostNames(holders...), one.name) {
			if err := ip(ctx, one.netns, "address delete "+address+"/24 dev "+hostLink); err != nil {
				return err
			}
		}
	}
	return nil
}
