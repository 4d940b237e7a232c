package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// Faults of the virtual address: of keepalived, and of the address itself.

// moved is promised if the address leaves a host that is well. Connections to it end, and clients
// connect anew. Clients of another address may wait as long.
var moved = history.Promise{Failed: history.CutOff, Unknown: history.CutOff, Pause: 3 * time.Second, PauseElsewhere: 3 * time.Second}

var killKeepalived = fault{
	name: "kill-keepalived", about: "SIGKILL to keepalived where the virtual address is: two hosts have it until it runs again",
	hosts: true, needs: needVirtual, promise: moved,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, address, err := fc.holder(ctx)
		if err != nil {
			return err
		}
		nodes, err := fc.upNodes(ctx, plan.Keepalived, "")
		if err != nil {
			return err
		}
		i := slices.IndexFunc(nodes, func(n supervise.NodeStatus) bool { return n.Host == one.name })
		if i < 0 {
			return fmt.Errorf("%s has the address and no keepalived: %w", one.name, errNoNode)
		}
		fc.record.DetectionDelay = unsettled
		if err := fc.kill(ctx, nodes[i]); err != nil {
			return err
		}
		err = awaitEvery(ctx, askEvery, nodes[i].Name+" up again", 10*time.Second, func() bool {
			st, err := fc.stack.status(ctx)
			n, _ := st.Node(nodes[i].Name)
			return err == nil && n.State == supervise.Up && n.PID != nodes[i].PID
		})
		if err != nil {
			return err
		}
		return fc.awaitOneHolder(ctx, one, address)
	},
}

var loseAddress = fault{
	name: "lose-address", about: "the virtual address is removed from the interface of the host that has it, as a program that manages networks might do",
	hosts: true, needs: needVirtual, promise: moved,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, address, err := fc.holder(ctx)
		if err != nil {
			return err
		}
		fc.record.DetectionDelay = unsettled
		fc.say("removing %s from %s", address, one.name)
		fc.recordInjection(one.name)
		if err := ip(ctx, one.netns, "address delete "+address+"/24 dev "+hostLink); err != nil {
			return err
		}
		return fc.awaitOneHolder(ctx, one, address)
	},
}

// unsettled is how long after an injection clients may still send to a host that has lost the
// address, or shares it with another host.
const unsettled = 2 * time.Second

// awaitOneHolder waits until exactly one host has the address. lost is the host that had it.
func (fc *faultContext) awaitOneHolder(ctx context.Context, lost host, address string) error {
	return await(ctx, "one host that has the address", 10*time.Second, func() bool {
		all, err := fc.stack.holders(ctx, address)
		if err != nil || len(all) != 1 {
			return false
		}
		fc.evidence("%s had the address, and %s has it now", lost.name, all[0].name)
		return true
	})
}

// holders returns the hosts that have an address: by the machines' own account, or, for a user's
// hosts, by the stack's status.
func (s *supervisedStack) holders(ctx context.Context, address string) (all []host, err error) {
	if !s.onUserHosts {
		return s.hosts.holders(ctx, address)
	}
	st, err := s.status(ctx)
	for _, v := range st.Virtual {
		if v.Address == address {
			for _, name := range v.Hosts {
				all = append(all, s.userHosts.named(name))
			}
		}
	}
	return all, err
}

// holder returns the host that has the first virtual address, and that address. It returns an error
// if that host is not at work.
func (fc *faultContext) holder(ctx context.Context) (one host, address string, err error) {
	all := fc.stack.spec.Entry.Virtual.Bare()
	if fc.stack.stackHosts() == nil || len(all) == 0 {
		return host{}, "", errNoHosts
	}
	holders, err := fc.stack.holders(ctx, all[0])
	if err != nil {
		return host{}, "", err
	}
	if len(holders) != 1 {
		return host{}, "", fmt.Errorf("%s is at %s: %w", all[0], strings.Join(hostNames(holders...), ", "), errNoNode)
	}
	return holders[0], all[0], fc.requireBusyHost(ctx, holders[0])
}
