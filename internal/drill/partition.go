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

// cutLasts is how long hosts are cut off from each other: longer than a
// failover takes, and shorter than a web node holds a request.
const cutLasts = 6 * time.Second

// errNoHosts says that a fault was tried on this machine as it is.
var errNoHosts = errors.New("the stack has no hosts of its own")

// masterHost is the host of the Redis master, under load.
func (s *scene) masterHost(ctx context.Context) (host, error) {
	one, err := s.hostOfMaster(ctx)
	if err != nil {
		return host{}, err
	}
	return one, s.hostAtWork(ctx, one)
}

// otherHost is a host that has not the Redis master, under load.
func (s *scene) otherHost(ctx context.Context) (host, error) {
	master, err := s.hostOfMaster(ctx)
	if err != nil {
		return host{}, err
	}
	others := s.stack.machines().but(master)
	if len(others) == 0 {
		return host{}, fmt.Errorf("all is on one host: %w", errNobody)
	}
	if elsewhere := s.stack.elsewhere(others); len(elsewhere) > 0 {
		others = elsewhere
	}
	one := others[s.random.IntN(len(others))]
	return one, s.hostAtWork(ctx, one)
}

func (s *scene) hostOfMaster(ctx context.Context) (host, error) {
	if s.stack.machines() == nil {
		return host{}, errNoHosts
	}
	master, err := s.find(ctx, plan.Redis, "master")
	if err != nil {
		return host{}, err
	}
	return s.stack.machines().of(master), nil
}

// hostAtWork records that a host which is to be struck has a balancer or a web
// node that gets requests, or a Redis node that works.
func (s *scene) hostAtWork(ctx context.Context, one host) error {
	st, err := s.stack.status(ctx)
	if err != nil {
		return err
	}
	nodes := slices.DeleteFunc(slices.Clone(st.Nodes), func(n supervise.NodeStatus) bool {
		return n.Kind == plan.Sentinel || s.stack.machines().of(n) != one
	})
	if len(nodes) == 0 {
		return fmt.Errorf("%s has no node but Sentinels: %w", one.name, errNobody)
	}
	return s.struckAtWork(ctx, nodes...)
}

// cut lets nothing pass in some directions for a time, and sees that something
// was stopped. What is done is told in words; the targets are the hosts on its
// wrong side.
func (s *scene) cut(ctx context.Context, d time.Duration, what string, targets []host, drops []drop) error {
	if s.stack.afar && slices.ContainsFunc(targets, func(one host) bool { return one.name == s.stack.here }) {
		return fmt.Errorf("%s: %w", s.stack.here, errHere)
	}
	s.behind(ctx, targets...)
	if s.stack.stack.Entry.Virtual.Enabled() && !cutFromClients(drops) {
		s.bothHaveIt()
	}
	if s.stack.afar {
		return s.cutThere(ctx, what, s.stack.cutsAt(targets, drops, d), d, hostNames(targets...)...)
	}
	h := s.stack.hosts
	if err := s.undo(h.uncut()); err != nil {
		return err
	}
	s.say("cutting %s", what)
	s.blow(hostNames(targets...)...)
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
	return s.stopped(counts)
}

// cutFromClients reports whether a cut stops what clients send, or get.
func cutFromClients(drops []drop) bool {
	return slices.ContainsFunc(drops, func(d drop) bool { return d.from == clients || d.to == clients })
}

// bothHaveIt records that clients reach hosts which do not reach each other: the virtual
// addresses are on both sides, until the host that cannot serve gives its own away
// (supervise.WatchCut), and what a client sends may get to either.
func (s *scene) bothHaveIt() {
	for _, e := range s.stack.entries {
		if !slices.Contains(s.record.Entries, e) {
			s.record.Entries = append(s.record.Entries, e)
		}
	}
}

// behind records that hosts are on the wrong side of a cut: what clients send to
// their entries is lost, or nobody there can answer it. So is what the balancers
// elsewhere send to their web nodes on connections that there are, until they
// have missed them. A virtual address is no such entry: it goes elsewhere.
func (s *scene) behind(ctx context.Context, some ...host) {
	s.record.Unaware = unaware(s.stack.stack, s.stack.aim)
	st, err := s.stack.status(ctx)
	for _, one := range some {
		if e := s.stack.machines().at(one.address.String()); slices.Contains(s.stack.entries, e) && !slices.Contains(s.record.Entries, e) {
			s.record.Entries = append(s.record.Entries, e)
		}
		if err == nil {
			s.tellRoles(st, one)
		}
	}
}

// tellRoles records what a host has that others have to do without.
func (s *scene) tellRoles(st supervise.Status, one host) {
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
		s.record.Targets = append(s.record.Targets, "supervisor") // another one takes its place
	}
	if len(roles) > 0 {
		s.evidence("%s had %s", one.name, strings.Join(roles, ", "))
	}
}

// unaware is how long a balancer takes, at the most, to miss a web node that
// nothing comes from: as many checks in a row as have to fail, each after an
// interval and its time-out (HAProxy's manual, "inter", "fall", "timeout check"),
// and a second until the supervisor has ended what the node had there.
func unaware(s stack.Stack, reaches aim) (longest time.Duration) {
	for _, name := range reaches.apps {
		check := s.Apps[name].Health
		longest = max(longest, time.Duration(check.Fall)*(check.Interval+s.Timeouts.Check)+time.Second)
	}
	return longest
}

// stopped records how many packets a cut has stopped.
func (s *scene) stopped(counts map[string]int) error {
	var words []string
	for _, direction := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[direction]; n > 0 {
			words = append(words, fmt.Sprintf("%s: %d", direction, n))
		}
	}
	if len(words) == 0 {
		return errors.New("the cut met not one packet")
	}
	s.evidence("packets dropped, %s", strings.Join(words, ", "))
	return nil
}
