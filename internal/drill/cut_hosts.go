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

// A cut drops packets silently: connections stay open and nothing answers until they time out. The
// drill's clients are cut off or not, depending on the fault; the supervisor is on their side.

// unreached is promised if a host cannot be reached. Requests that its balancer and web node are
// working on hang, and so do those sent on existing connections. New connections go to another
// host.
var unreached = history.Promise{Failed: history.CutOff, Unknown: history.CutOff, Pause: aroundCut, PauseElsewhere: besideCut}

// withoutMaster is promised if clients reach a host that cannot reach the master. Its web nodes
// hold requests for as long as they may and then refuse them. Only another entry could have served
// these clients.
var withoutMaster = history.Promise{Failed: history.CutOff, Unknown: history.CutOff, Pause: aroundCut, PauseElsewhere: besideCut}

// besideCut is promised to clients whose own entry is well: the time to elect another master, or to
// notice a missing replica, when nothing refuses and nothing answers. Their balancer takes up to 5
// s to notice a web node behind the cut (see Fault.DetectionDelay). Requests passed on there may
// wait longer than besideCut, which the verdict only warns of.
const besideCut = 4 * time.Second

// aroundCut is how long a client on the wrong side of a cut waits: until the cut ends, and then
// until TCP sends again, which it does at growing intervals.
const aroundCut = cutLasts + 2*time.Second

var cutHost = fault{
	name: "cut-host", about: "a host without the master is cut off from all others and from the clients for 6 s",
	hosts: true, ready: requireCuttable, needs: needFailover, promise: unreached,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, err := fc.otherHost(ctx)
		if err != nil {
			return err
		}
		return fc.cutOff(ctx, one, true)
	},
}

var cutMaster = fault{
	name: "cut-master", about: "the master's host is cut off from the others for 6 s, and not from the clients: with one Sentinel of three, it has to stop taking writes, and clients on its side get 503 after as long as a web node holds a request",
	hosts: true, ready: requireCuttable, needs: needFailover, promise: withoutMaster,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, err := fc.masterHost(ctx)
		if err != nil {
			return err
		}
		return fc.cutOff(ctx, one, false)
	},
}

var cutMasterHost = fault{
	name: "cut-master-host", about: "the master's host is cut off from the others and from the clients for 6 s",
	hosts: true, ready: requireCuttable, needs: needFailover, promise: unreached,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, err := fc.masterHost(ctx)
		if err != nil {
			return err
		}
		return fc.cutOff(ctx, one, true)
	},
}

var cutHalves = fault{
	name: "cut-halves", about: "the master's host and another one are cut off from the rest for 6 s, and none from the clients: the smaller part has a replica that must not be promoted, and web nodes there have no master and answer 503 in the end",
	hosts: true, ready: requireCuttable, needs: needFailover, promise: withoutMaster,
	inject: func(ctx context.Context, fc *faultContext) error {
		master, err := fc.masterHost(ctx)
		if err != nil {
			return err
		}
		with, err := fc.sideOfMaster(ctx, master)
		if err != nil {
			return err
		}
		rest := fc.stack.stackHosts().except(master, with)
		return fc.cut(ctx, cutLasts, strings.Join(hostNames(rest...), ", ")+" off from the others", rest, both(hostNames(master, with), hostNames(rest...)))
	},
}

var cutOneWay = fault{
	name: "cut-one-way", about: "what the master's host sends to the others is lost for 6 s, and what they send arrives",
	hosts: true, ready: requireCuttable, needs: needFailover, promise: withoutMaster,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, err := fc.masterHost(ctx)
		if err != nil {
			return err
		}
		return fc.cut(ctx, cutLasts, "the way from "+one.name+" to the others", []host{one}, oneWay(hostNames(one), hostNames(fc.stack.stackHosts().except(one)...)))
	},
}

var cutOtherWay = fault{
	name: "cut-other-way", about: "what the others send to the master's host is lost for 6 s, and what it sends arrives",
	hosts: true, ready: requireCuttable, needs: needFailover, promise: withoutMaster,
	inject: func(ctx context.Context, fc *faultContext) error {
		one, err := fc.masterHost(ctx)
		if err != nil {
			return err
		}
		return fc.cut(ctx, cutLasts, "the way from the others to "+one.name, []host{one}, oneWay(hostNames(fc.stack.stackHosts().except(one)...), hostNames(one)))
	},
}

// sideOfMaster returns a host that stays on the master's side; the rest must still have a replica.
// Among a user's hosts it is the one where the drill's clients are, unless that is the master's
// host.
func (fc *faultContext) sideOfMaster(ctx context.Context, master host) (host, error) {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return host{}, err
	}
	all := fc.stack.stackHosts()
	var able []host
	for _, one := range all.except(master) {
		replica := slices.ContainsFunc(st.Nodes, func(n supervise.NodeStatus) bool {
			return n.Kind == plan.Redis && n.Host != master.name && n.Host != one.name
		})
		if replica {
			able = append(able, one)
		}
	}
	here := all.named(fc.stack.thisHost)
	switch {
	case fc.stack.onUserHosts && here != master && !slices.Contains(able, here):
		return host{}, fmt.Errorf("cut off from the master and from %s, no host has a replica: %w", here.name, errNoNode)
	case fc.stack.onUserHosts && here != master:
		return here, nil
	case len(able) == 0:
		return host{}, fmt.Errorf("no two hosts have replicas: %w", errNoNode)
	}
	return able[fc.random.IntN(len(able))], nil
}

// cutOff cuts one host off from all others and, with fromClients, from the clients.
func (fc *faultContext) cutOff(ctx context.Context, one host, fromClients bool) error {
	others := hostNames(fc.stack.stackHosts().except(one)...)
	words := one.name + " off from the others"
	if fromClients {
		others = append(others, clients)
		words += " and the clients"
	}
	return fc.cut(ctx, cutLasts, words, []host{one}, both(hostNames(one), others))
}
