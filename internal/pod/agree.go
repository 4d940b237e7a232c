package pod

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// Answer is what one pod with data tells the others of what it remembers.
type Answer struct {
	Node string `json:"node"`
	// Booted is true where the pod knows that the stack has had its first boot.
	Booted bool `json:"booted"`
	// Replication is who was the master, as far as the pod knows.
	Replication plan.Replication `json:"replication"`
	// Sentinels is how many Sentinels the pod's stack file has, or for a Sentinel that waits for
	// its start how many it knew last; 0: not known.
	Sentinels int `json:"sentinels,omitempty"`
}

// maxEpoch is more than an epoch ever is: each is an attempt at a failover, and with one every
// second this many take thirty years.
const maxEpoch = 1_000_000_000

// ImpossibleError is why an answer is not believed. The pod counts as silent.
type ImpossibleError struct{ why string }

func (e *ImpossibleError) Error() string { return e.why }

func impossible(format string, args ...any) error {
	return &ImpossibleError{fmt.Sprintf(format, args...)}
}

// check returns why an answer of the pod of a node cannot be true. An epoch that one pod claims
// is everybody's from then on: one that is too high would leave none for the next failover, and
// the master of one that is too low would be believed by nobody.
func (a Answer) check(node string) error {
	if a.Node != node {
		return impossible("it says that it is the pod of %s", quote.Text(a.Node))
	}
	return checkEpochs(a.Replication)
}

func checkEpochs(r plan.Replication) error {
	for _, e := range []struct {
		what  string
		epoch int64
	}{{"configuration", r.ConfigEpoch}, {"leader's", r.LeaderEpoch}, {"current", r.CurrentEpoch}} {
		if e.epoch < 0 || e.epoch > maxEpoch {
			return impossible("its %s epoch is %d: Sentinels count attempts at a failover, from 0, and never reach %d", e.what, e.epoch, int64(maxEpoch))
		}
	}
	return nil
}

// Agreed is what a pod may start its node on.
type Agreed struct {
	Booted      bool
	Replication plan.Replication
	// OwnFile is true where a Sentinel starts on its own file as it is: see judge.
	OwnFile bool
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
//
// The master may be a node that the stack file does not have any more: Kubernetes has ended its
// pod, and no other node has taken its place yet. Redis nodes wait until the Sentinels name
// another one. A Sentinel whose file names a removed node (watchedMaster) starts on that file
// unchanged: the failover needs a majority of all former Sentinels, and every one that is left
// may be needed.
func judge(own, watchedMaster string, nodes []string, answers map[string]Answer, named plan.Replication) (a Agreed, wait string) {
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
	sentinels := sentinelsOf(nodes)
	if node, has := tooFarFrom(sentinels, answers); node != "" {
		return a, fmt.Sprintf("the stack file has %d Sentinels, and %s goes by %d: change redis.sentinels by one at a time, beginning from %[3]d, and wait until all pods are ready", sentinels, node, has)
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
	case best.Master != "" && !slices.Contains(nodes, best.Master) && watchedMaster != "" && !slices.Contains(nodes, watchedMaster):
		a.Replication, a.OwnFile = mine, true
		return a, ""
	case best.Master != "" && !slices.Contains(nodes, best.Master):
		return a, fmt.Sprintf("%[1]s was the Redis master and has the newest data, and the stack file has no %[1]s any more: waits until the Sentinels name another one; if they do not, put %[1]s back (redis.replicas)", best.Master)
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

// sentinelsOf is how many Sentinels are among nodes.
func sentinelsOf(nodes []string) (n int) {
	for _, node := range nodes {
		if strings.HasPrefix(node, "sentinel-") {
			n++
		}
	}
	return n
}

// tooFarFrom returns a pod that goes by another number of Sentinels than n, and by how many; empty:
// there is none. One more or one less is near enough: any majority of n and any of n+1 have a Sentinel
// in common, whose one vote in an epoch keeps them from naming two masters. Of 3 and of 5 they need
// not have one.
func tooFarFrom(n int, answers map[string]Answer) (node string, has int) {
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		if has := answers[node].Sentinels; has > 0 && (has < n-1 || has > n+1) {
			return node, has
		}
	}
	return "", 0
}

// goneForGood is what a person does about a pod that the others wait for in vain.
const goneForGood = "; if its volume is gone for good, delete its claim and then the pod"

// Peers are the other pods that keep something, and how to ask them.
type Peers struct {
	Own Answer
	// WatchedMaster is the redis node that the file of the pod's own Sentinel names; empty: none.
	WatchedMaster string
	Nodes         []string // all of them, the own one too
	Ask           func(ctx context.Context, node string) (Answer, error)
	// Named returns whom a majority of the Sentinels names; an error where none does.
	Named func(ctx context.Context) (plan.Replication, error)
	// Waiting is told why the pod waits, when that changes.
	Waiting func(why string)
	// Refused is told of an answer that is not believed, once for each reason. Node is empty
	// for that of the Sentinels.
	Refused func(node string, why error)
}

// Agree asks until it is known what the pod may start its node on, or the context ends.
func (p Peers) Agree(ctx context.Context) (Agreed, error) {
	said, refused := "", map[string]string{}
	for {
		answers, wrong := p.askAll(ctx)
		named, err := p.Named(ctx)
		if err == nil {
			err = checkEpochs(named)
		}
		if err != nil {
			named = plan.Replication{}
		}
		if errors.As(err, new(*ImpossibleError)) {
			wrong[""] = err
		}
		for node, why := range wrong {
			if refused[node] != why.Error() {
				refused[node] = why.Error()
				p.Refused(node, why)
			}
		}
		agreed, wait := judge(p.Own.Node, p.WatchedMaster, p.Nodes, answers, named)
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

// askAll asks all other pods. Wrong is why some answers are not believed.
func (p Peers) askAll(ctx context.Context) (answers map[string]Answer, wrong map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answers, wrong = map[string]Answer{p.Own.Node: p.Own}, map[string]error{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, node := range p.Nodes {
		if node == p.Own.Node {
			continue
		}
		all.Go(func() {
			answer, err := p.Ask(ctx, node)
			if err == nil {
				err = answer.check(node)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				answers[node] = answer
			case errors.As(err, new(*ImpossibleError)):
				wrong[node] = err
			} // else it is silent, and is asked again
		})
	}
	all.Wait()
	return answers, wrong
}
