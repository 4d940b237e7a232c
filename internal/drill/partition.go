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
)

// cutLasts is how long hosts are cut off from each other: longer than a
// failover takes, and shorter than a web node holds a request.
const cutLasts = 6 * time.Second

// blowEvery is how often a cut breaks requests anew: those sent since the last
// time, by clients that are on its wrong side.
const blowEvery = 100 * time.Millisecond

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
// was stopped. What is done is told in words; the targets are the hosts that it is
// about.
func (s *scene) cut(ctx context.Context, d time.Duration, what string, targets []host, drops []drop) error {
	h := s.stack.hosts
	if err := s.undo(h.uncut()); err != nil {
		return err
	}
	s.say("cutting %s", what)
	for _, one := range targets {
		s.blow(one.name)
	}
	if err := h.nft(ctx, h.cutRules(drops)); err != nil {
		return err
	}
	if err := s.lastBlowing(ctx, d); err != nil {
		return err
	}
	counts, err := h.dropped(ctx)
	if err != nil {
		return err
	}
	return s.stopped(counts)
}

// lastBlowing lets a fault last that breaks requests all the time.
func (s *scene) lastBlowing(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := sleep(ctx, min(blowEvery, time.Until(end))); err != nil {
			return err
		}
		s.blow("")
	}
	return nil
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
