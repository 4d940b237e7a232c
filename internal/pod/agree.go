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

	"holdfast/internal/clock"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// Answer is what a pod with data tells the others about what it remembers.
type Answer struct {
	Node string `json:"node"`
	// Booted is true if the pod knows that the stack has had its first boot.
	Booted bool `json:"booted"`
	// Replication is which node was the master, as far as the pod knows.
	Replication plan.Replication `json:"replication"`
	// Sentinels is how many Sentinels the pod's stack file has. For a Sentinel that waits for
	// its start it is how many that one knew last. 0 means unknown.
	Sentinels int `json:"sentinels,omitempty"`
}

// maxEpoch is higher than any epoch ever gets. Each epoch is an attempt at a failover; with one
// every second, this many take thirty years.
const maxEpoch = 1_000_000_000

// ImpossibleError is the error of an answer that cannot be true. Its pod counts as silent.
type ImpossibleError struct{ why string }

func (e *ImpossibleError) Error() string { return e.why }

func impossible(format string, args ...any) error {
	return &ImpossibleError{fmt.Sprintf(format, args...)}
}

// check returns why an answer of a node's pod cannot be true, or nil. The epochs have to be
// checked because all pods take over the highest epoch that one pod claims. If it were too
// high, no epoch would be left for the next failover.
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

// Agreed is the state with which a pod may start its node.
type Agreed struct {
	Booted      bool
	Replication plan.Replication
	// OwnFile is true if a Sentinel starts with its own file unchanged: see judge.
	OwnFile bool
}

// judge returns what follows from the answers of the pods, including the own one. Wait is why
// nothing follows yet; it is empty if something does. Nodes are all nodes that keep data. Named
// is the master that a majority of the Sentinels names; it is zero if there is none.
//
// The stack is new only if all pods say so, because a silent pod may have all the data. It is
// not new if one pod says so.
//
// A silent pod is waited for without limit. Its volume may hold the only record of the last
// failover, and so of a master whose writes were acknowledged. Only a person can know that a
// volume is gone for good. Deleting its claim tells that to the pods: the pod comes back with
// an empty volume, and answers that it remembers nothing.
//
// The master may be a node that is not in the stack file any more: Kubernetes has ended its
// pod, and no other node has taken over yet. Redis nodes wait until the Sentinels name another
// master. A Sentinel whose file names a removed node (watchedMaster) starts with that file
// unchanged: the failover needs a majority of all former Sentinels, and all the remaining ones
// may be needed for it.
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

	// A pod may remember an epoch without its master: its Sentinel named an address that no
	// node had.
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
		// The pod keeps its own record of its votes (LeaderEpoch).
		a.Replication = mine
		if best.ConfigEpoch > mine.ConfigEpoch {
			a.Replication.Master, a.Replication.ConfigEpoch = best.Master, best.ConfigEpoch
		}
		a.Replication.CurrentEpoch = max(mine.CurrentEpoch, best.CurrentEpoch)
		return a, ""
	case named.Master == "" && len(silent) > 0:
		// A pod that remembers nothing needs a majority of the Sentinels, or all pods.
		return a, fmt.Sprintf("this pod remembers nothing, the Sentinels name nobody, and %s says nothing yet%s", strings.Join(silent, ", "), goneForGood)
	case best.Master == "":
		return a, "nobody remembers who was the master"
	}
	a.Replication = best
	// It may have voted in an epoch that it has forgotten. With this it does not vote again in
	// any epoch so far.
	a.Replication.LeaderEpoch = best.CurrentEpoch
	return a, ""
}

// sentinelsOf returns how many of the nodes are Sentinels.
func sentinelsOf(nodes []string) (n int) {
	for _, node := range nodes {
		if plan.KindByName(node) == plan.Sentinel {
			n++
		}
	}
	return n
}

// tooFarFrom returns a node whose pod has a number of Sentinels that differs from n by more than
// one, and that number; node is "" if there is none. A difference of one is safe: any majority of n
// and any majority of n+1 share a Sentinel, which votes only once in an epoch, so they cannot name
// two masters. Majorities of 3 and of 5 need not share one.
func tooFarFrom(n int, answers map[string]Answer) (node string, has int) {
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		if has := answers[node].Sentinels; has > 0 && (has < n-1 || has > n+1) {
			return node, has
		}
	}
	return "", 0
}

// goneForGood is the advice for the case that a pod never comes back.
const goneForGood = "; if its volume is gone for good, delete its claim and then the pod"

// Peers are the pods of the nodes that keep data, and how to ask them.
type Peers struct {
	Own Answer
	// WatchedMaster is the redis node that the file of the pod's own Sentinel names, or empty.
	WatchedMaster string
	Nodes         []string // all of them, including the own one
	Ask           func(ctx context.Context, node string) (Answer, error)
	// Named returns the master that a majority of the Sentinels names, or an error if there is
	// none.
	Named func(ctx context.Context) (plan.Replication, error)
	// Waiting is called with why the pod waits, whenever that changes.
	Waiting func(why string)
	// Refused is called for an answer that cannot be true, once for each new reason. Node is
	// empty for the answer of the Sentinels.
	Refused func(node string, why error)
}

// Agree asks the other pods until it is known with which state the pod may start its node, or
// until the context ends.
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
		if !clock.Sleep(ctx, 300*time.Millisecond) {
			return Agreed{}, fmt.Errorf("the pods have not agreed: %s", wait)
		}
	}
}

// askAll asks all other pods, for at most one second. Wrong has the answers that cannot be
// true.
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
			} // any other error: the pod is silent, and is asked again
		})
	}

	all.Wait()
	return answers, wrong
}
