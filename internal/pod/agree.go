package pod

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/plan"
)

// Answer is what one pod with data tells the others of what it remembers.
type Answer struct {
	Node string `json:"node"`
	// Booted is true where the pod knows that the stack has had its first boot.
	Booted bool `json:"booted"`
	// Replication is who was the master, as far as the pod knows.
	Replication plan.Replication `json:"replication"`
}

// Agreed is what a pod may start its node on.
type Agreed struct {
	Booted      bool
	Replication plan.Replication
}

// judge says what follows from the answers of pods, the own one among them; wait is why
// nothing does yet. Nodes are all that keep something, and named is whom a majority of the
// Sentinels names; zero: nobody.
//
// That the stack is new takes everybody's word: one pod that is silent may have all the data.
// That it is not takes one.
//
// A pod that is silent is waited for however long that takes. Its volume may hold the only
// memory of the last failover, and so of a master whose writes were acknowledged; of a pod that
// is gone for good, nobody but a person can know that. Who deletes its volume says so: the pod
// comes back with an empty one, and answers that it remembers nothing.
func judge(own string, nodes []string, answers map[string]Answer, named plan.Replication) (a Agreed, wait string) {
	best := named
	for _, answer := range answers {
		a.Booted = a.Booted || answer.Booted
		r := answer.Replication
		if r.Master != "" && (best.Master == "" || r.ConfigEpoch > best.ConfigEpoch) {
			best.Master, best.ConfigEpoch = r.Master, r.ConfigEpoch
		}
		best.CurrentEpoch = max(best.CurrentEpoch, r.CurrentEpoch, r.ConfigEpoch)
	}
	// A memory of an epoch without its master: the Sentinel named one that nobody knows.
	doubt, doubts := int64(0), ""
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		if r := answers[node].Replication; r.Master == "" && r.ConfigEpoch > max(doubt, best.ConfigEpoch) {
			doubt, doubts = r.ConfigEpoch, node
		}
	}
	silent := slices.DeleteFunc(slices.Clone(nodes), func(node string) bool {
		_, answered := answers[node]
		return answered
	})

	mine := answers[own].Replication
	switch {
	case !a.Booted && named.Master != "" && named.ConfigEpoch > 0:
		a.Booted = true // there has been a failover
	case !a.Booted && len(silent) > 0:
		return a, fmt.Sprintf("whether the stack is new takes everybody's word, and %s says nothing yet%s", strings.Join(silent, ", "), goneForGood)
	case !a.Booted:
		return a, ""
	}

	switch {
	case doubts != "" && (mine.Master == "" || named.Master == ""):
		return a, fmt.Sprintf("%s remembers that a redis node became the master in epoch %d, and not which: no node had the address that its Sentinel names%s", doubts, doubt, goneForGood)
	case best.Master != "" && !slices.Contains(nodes, best.Master):
		return a, fmt.Sprintf("%[1]s was the Redis master and has the newest data, but the stack file has no %[1]s: put it back (redis.replicas)", best.Master)
	case mine.Master != "":
		// What it has voted for is its own to know.
		a.Replication = mine
		if best.ConfigEpoch > mine.ConfigEpoch {
			a.Replication.Master, a.Replication.ConfigEpoch = best.Master, best.ConfigEpoch
		}
		a.Replication.CurrentEpoch = max(mine.CurrentEpoch, best.CurrentEpoch)
		return a, ""
	case named.Master == "" && len(silent) > 0:
		// Without a memory of its own a pod believes a majority of the Sentinels, or everybody.
		return a, fmt.Sprintf("this pod remembers nothing, the Sentinels name nobody, and %s says nothing yet%s", strings.Join(silent, ", "), goneForGood)
	case best.Master == "":
		return a, "nobody remembers who was the master"
	}
	a.Replication = best
	// It may have voted in an epoch that it does not remember: it votes in none of them again.
	a.Replication.LeaderEpoch = best.CurrentEpoch
	return a, ""
}

// goneForGood is what a person does about a pod that the others wait for in vain.
const goneForGood = "; if its volume is gone for good, delete its claim and then the pod"

// Peers are the other pods that keep something, and how to ask them.
type Peers struct {
	Own   Answer
	Nodes []string // all of them, the own one too
	Ask   func(ctx context.Context, node string) (Answer, error)
	// Named returns whom a majority of the Sentinels names; an error where none does.
	Named func(ctx context.Context) (plan.Replication, error)
	// Waiting is told why the pod waits, when that changes.
	Waiting func(why string)
}

// Agree asks until it is known what the pod may start its node on, or the context ends.
func (p Peers) Agree(ctx context.Context) (Agreed, error) {
	said := ""
	for {
		answers := p.askAll(ctx)
		named, err := p.Named(ctx)
		if err != nil {
			named = plan.Replication{}
		}
		agreed, wait := judge(p.Own.Node, p.Nodes, answers, named)
		if wait == "" {
			return agreed, nil
		}
		if wait != said {
			p.Waiting(wait)
			said = wait
		}
		select {
		case <-ctx.Done():
			return Agreed{}, fmt.Errorf("the pods have not agreed: %s", wait)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func (p Peers) askAll(ctx context.Context) map[string]Answer {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answers := map[string]Answer{p.Own.Node: p.Own}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, node := range p.Nodes {
		if node == p.Own.Node {
			continue
		}
		all.Go(func() {
			answer, err := p.Ask(ctx, node)
			if err != nil || answer.Node != node {
				return // it is asked again
			}
			mu.Lock()
			defer mu.Unlock()
			answers[node] = answer
		})
	}
	all.Wait()
	return answers
}
