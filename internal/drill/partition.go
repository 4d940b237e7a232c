package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// cutLasts is how long hosts are cut off from each other: longer than a failover takes, and shorter
// than a web node holds a request.
const cutLasts = 6 * time.Second

// errNoHosts is the error of a fault that needs hosts, on a stack without hosts.
var errNoHosts = errors.New("the stack has no hosts of its own")

// masterHost returns the host of the Redis master, after checking that it is at work.
func (fc *faultContext) masterHost(ctx context.Context) (host, error) {
	one, err := fc.hostOfMaster(ctx)
	if err != nil {
		return host{}, err
	}
	return one, fc.requireBusyHost(ctx, one)
}

// otherHost returns a random host without the Redis master, after checking that it is at work. It
// avoids the host of the drill if it can.
func (fc *faultContext) otherHost(ctx context.Context) (host, error) {
	master, err := fc.hostOfMaster(ctx)
	if err != nil {
		return host{}, err
	}
	others := fc.stack.stackHosts().except(master)
	if len(others) == 0 {
		return host{}, fmt.Errorf("all is on one host: %w", errNoNode)
	}
	if elsewhere := fc.stack.withoutThisHost(others); len(elsewhere) > 0 {
		others = elsewhere
	}
	one := others[fc.random.IntN(len(others))]
	return one, fc.requireBusyHost(ctx, one)
}

func (fc *faultContext) hostOfMaster(ctx context.Context) (host, error) {
	if fc.stack.stackHosts() == nil {
		return host{}, errNoHosts
	}
	master, err := fc.randomUpNode(ctx, plan.Redis, "master")
	if err != nil {
		return host{}, err
	}
	return fc.stack.stackHosts().hostOf(master), nil
}

// requireBusyHost records that a host to be struck has a balancer or web node that gets requests,
// or a Redis node that works. Otherwise it returns an error.
func (fc *faultContext) requireBusyHost(ctx context.Context, one host) error {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	nodes := slices.DeleteFunc(slices.Clone(st.Nodes), func(n supervise.NodeStatus) bool {
		return n.Kind == plan.Sentinel || fc.stack.stackHosts().hostOf(n) != one
	})
	if len(nodes) == 0 {
		return fmt.Errorf("%s has no node but Sentinels: %w", one.name, errNoNode)
	}
	return fc.requireBusy(ctx, nodes...)
}

// cut lets nothing pass in some directions for a time, and checks that it stopped packets. what
// describes the cut. targets are the hosts on its wrong side.
func (fc *faultContext) cut(ctx context.Context, d time.Duration, what string, targets []host, drops []drop) error {
	if fc.stack.onUserHosts && slices.ContainsFunc(targets, func(one host) bool { return one.name == fc.stack.thisHost }) {
		return fmt.Errorf("%s: %w", fc.stack.thisHost, errHere)
	}
	fc.recordCutOff(ctx, targets...)
	if fc.stack.spec.Entry.Virtual.Enabled() && !cutFromClients(drops) {
		fc.recordAllEntriesCut()
	}
	if fc.stack.onUserHosts {
		return fc.cutUserHosts(ctx, what, fc.stack.cutsAt(targets, drops, d), d, hostNames(targets...)...)
	}
	h := fc.stack.hosts
	if err := fc.undo(h.uncutStep()); err != nil {
		return err
	}
	fc.say("cutting %s", what)
	fc.recordInjection(hostNames(targets...)...)
	if err := h.nft(ctx, h.cutRules(drops)); err != nil {
		return err
	}
	if err := sleep(ctx, d); err != nil {
		return err
	}
	counts, err := h.dropped(ctx)
	if err != nil {
		return err
	}
	return fc.recordDropped(counts)
}

// cutFromClients reports whether a cut stops packets from or to the clients.
func cutFromClients(drops []drop) bool {
	return slices.ContainsFunc(drops, func(d drop) bool { return d.from == clients || d.to == clients })
}

// recordAllEntriesCut records all entries as cut off, for a cut in which clients reach hosts that
// cannot reach each other. The virtual addresses are then on both sides, until the host that cannot
// serve gives its own away (supervise.WatchCut). A client's request may arrive at either side.
func (fc *faultContext) recordAllEntriesCut() {
	for _, e := range fc.stack.entries {
		if !slices.Contains(fc.record.Entries, e) {
			fc.record.Entries = append(fc.record.Entries, e)
		}
	}
}

// recordCutOff records that hosts are on the wrong side of a cut. What clients send to their
// entries is lost, or cannot be answered there. So are requests that balancers elsewhere send to
// their web nodes on existing connections, until the balancers have noticed. A virtual address is
// not recorded, because it moves to another host.
func (fc *faultContext) recordCutOff(ctx context.Context, some ...host) {
	fc.record.DetectionDelay = detectionDelay(fc.stack.spec, fc.stack.loads)
	st, err := fc.stack.status(ctx)
	for _, one := range some {
		if e := fc.stack.stackHosts().entryURL(one.address.String()); slices.Contains(fc.stack.entries, e) && !slices.Contains(fc.record.Entries, e) {
			fc.record.Entries = append(fc.record.Entries, e)
		}
		if err == nil {
			fc.recordRoles(st, one)
		}
	}
}

// recordRoles records what a host has that the others have to do without.
func (fc *faultContext) recordRoles(st supervise.Status, one host) {
	var roles []string
	if masterOf(st).Host == one.name {
		roles = append(roles, "the master")
	}
	for _, v := range st.Virtual {
		if slices.Contains(v.Hosts, one.name) {
			roles = append(roles, "the address "+v.Address)
		}
	}
	if st.Host == one.name {
		roles = append(roles, "the supervisor")
		fc.record.Targets = append(fc.record.Targets, "supervisor") // another supervisor takes its place
	}
	if len(roles) > 0 {
		fc.evidence("%s had %s", one.name, strings.Join(roles, ", "))
	}
}

// detectionDelay returns the longest time that a balancer takes to notice a web node that sends
// nothing: Fall failed checks in a row, each after an interval and its time-out (HAProxy's manual,
// "inter", "fall", "timeout check"), and 1 s until the supervisor has ended the node's sessions.
func detectionDelay(s stack.Stack, reaches loadTarget) (longest time.Duration) {
	for _, name := range reaches.apps {
		check := s.Apps[name].Health
		longest = max(longest, time.Duration(check.Fall)*(check.Interval+s.Timeouts.Check)+time.Second)
	}
	return longest
}

// recordDropped records how many packets a cut has stopped. It returns an error if there were none.
func (fc *faultContext) recordDropped(counts map[string]int) error {
	var words []string
	for _, direction := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[direction]; n > 0 {
			words = append(words, fmt.Sprintf("%s: %d", direction, n))
		}
	}
	if len(words) == 0 {
		return errors.New("the cut met not one packet")
	}
	fc.evidence("packets dropped, %s", strings.Join(words, ", "))
	return nil
}
