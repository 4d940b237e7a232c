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
)

// cutLasts is how long hosts are cut off from each other: longer than a
// failover takes, and shorter than a web node holds a request.
const cutLasts = 6 * time.Second

// errNoHosts says that a fault was tried on this machine as it is.
var errNoHosts = errors.New("the stack has no hosts of its own")

// masterHost is the host of the Redis master.
func (s *scene) masterHost(ctx context.Context) (host, error) {
	if s.stack.hosts == nil {
		return host{}, errNoHosts
	}
	master, err := s.pick(ctx, plan.Redis, "master")
	if err != nil {
		return host{}, err
	}
	return s.stack.hosts.of(master), nil
}

// otherHost is a host that has not the Redis master.
func (s *scene) otherHost(ctx context.Context) (host, error) {
	master, err := s.masterHost(ctx)
	if err != nil {
		return host{}, err
	}
	others := s.stack.hosts.but(master)
	if len(others) == 0 {
		return host{}, fmt.Errorf("all is on one host: %w", errNobody)
	}
	return others[s.random.IntN(len(others))], nil
}

// cut lets nothing pass in some directions for a time, and sees that something
// was stopped. What is done is told in words; the targets are the hosts on its
// wrong side.
func (s *scene) cut(ctx context.Context, d time.Duration, what string, targets []host, drops []drop) error {
	h := s.stack.hosts
	if err := s.undo(h.uncut()); err != nil {
		return err
	}
	s.say("cutting %s", what)
	s.behind(targets...)
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

// behind records that hosts are on the wrong side of a cut: what clients send to
// their entries is lost, or nobody there can answer it. So is what the balancers
// elsewhere send to their web nodes on connections that there are, until they
// have missed them.
func (s *scene) behind(some ...host) {
	s.record.Unaware = s.stack.unaware()
	for _, one := range some {
		i := slices.Index(s.stack.hosts.all, one)
		if i >= 0 && i < len(s.stack.entries) && !slices.Contains(s.record.Entries, s.stack.entries[i]) {
			s.record.Entries = append(s.record.Entries, s.stack.entries[i])
		}
	}
}

// unaware is how long a balancer takes, at the most, to miss a web node that
// nothing comes from: as many checks in a row as have to fail, each after an
// interval and its time-out (HAProxy's manual, "inter", "fall", "timeout check").
// The drill's clients reach only the kv applications that a route leads to.
func (t *target) unaware() (longest time.Duration) {
	for _, route := range t.stack.Routes {
		app := t.stack.Apps[route.App]
		if app.Kind() == stack.KV {
			longest = max(longest, time.Duration(app.Health.Fall)*(app.Health.Interval+t.stack.Timeouts.Check))
		}
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
