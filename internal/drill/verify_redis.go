package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// sentinelListLimit limits how long a Sentinel may take to list the nodes that it knows.
const sentinelListLimit = 5 * time.Second

// verifyRedis checks that the stack's redis nodes are those of a stack file, that every Sentinel
// knows exactly the existing nodes, and that web nodes wait for every replica.
func (fc *faultContext) verifyRedis(ctx context.Context, file stack.Stack) error {
	fc.say("looking at what Redis' nodes are")
	if why := fc.stack.awaitWell(ctx, healBeyond+fc.stack.spec.SlowestStart()); why != "" {
		return fmt.Errorf("after the change the stack is not well: %s", why)
	}
	now, err := supervise.ReadRunsAs(fc.stack.state())
	if err != nil {
		return err
	}
	runs, err := now.Stack()
	if err != nil {
		return err
	}
	if d := stack.Differences(file, runs); len(d) > 0 {
		return fmt.Errorf("the stack runs by another file than it was to: %s", d[0])
	}
	if err := fc.verifyNodesKnown(ctx, file); err != nil {
		return err
	}
	return fc.stack.awaitInSyncOf(ctx, file.Redis.Replicas)
}

// verifyNodesKnown checks that the stack's redis nodes are those of a stack file. It also checks
// that each Sentinel knows all others, no more, and has the quorum that follows from their number.
func (fc *faultContext) verifyNodesKnown(ctx context.Context, file stack.Stack) error {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	var replicas, sentinels []string // addresses
	master := masterOf(st)

	var watching []supervise.NodeStatus
	for _, n := range st.Nodes {
		switch {
		case n.Kind == plan.Sentinel:
			sentinels = append(sentinels, n.Address)
			watching = append(watching, n)
		case n.Kind == plan.Redis && n.Name != master.Name:
			replicas = append(replicas, n.Address)
		}
	}

	switch {
	case master.Name == "":
		return errors.New("there is no master, or more than one")
	case len(replicas) != file.Redis.Replicas || len(sentinels) != file.Redis.Sentinels:
		return fmt.Errorf("there are %d replicas and %d Sentinels, and were to be %d and %d", len(replicas), len(sentinels), file.Redis.Replicas, file.Redis.Sentinels)
	}

	for i, port := range file.Redis.Ports {
		n, _ := st.Node(fmt.Sprintf("redis-%d", i+1))
		if _, at, _ := net.SplitHostPort(n.Address); port != 0 && at != strconv.Itoa(port) {
			return fmt.Errorf("%s was to have port %d, and is at %q", n.Name, port, n.Address)
		}
	}

	for _, n := range watching {
		if err := fc.verifySentinelKnows(ctx, n, replicas, slices.DeleteFunc(slices.Clone(sentinels), func(a string) bool { return a == n.Address })); err != nil {
			return err
		}
	}
	fc.evidence("every Sentinel knows the %d replicas and the %d other Sentinels that there are", len(replicas), len(sentinels)-1)
	return nil
}

// verifySentinelKnows checks that a Sentinel knows exactly these replicas and other Sentinels, by
// address.
func (fc *faultContext) verifySentinelKnows(ctx context.Context, sentinel supervise.NodeStatus, replicas, others []string) error {
	ctx, cancel := context.WithTimeout(ctx, sentinelListLimit)
	defer cancel()
	admin, name := fc.stack.admin(sentinel.Name), fc.stack.spec.Name
	knownReplicas, err := admin.KnownReplicas(ctx, name)
	if err != nil {
		return err
	}
	knownOthers, err := admin.KnownSentinels(ctx, name)
	if err != nil {
		return err
	}
	watching, err := admin.Watching(ctx, name)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		what        string
		known, want []string
	}{{"replicas", slices.Sorted(maps.Keys(knownReplicas)), replicas}, {"other Sentinels", slices.Sorted(maps.Keys(knownOthers)), others}} {
		slices.Sort(c.want)
		if !slices.Equal(c.known, c.want) {
			return fmt.Errorf("%s knows the %s %v, and there are %v", sentinel.Name, c.what, c.known, c.want)
		}
	}
	if quorum := (len(others)+1)/2 + 1; watching.Quorum != quorum || watching.Unable != "" {
		return fmt.Errorf("%s has the quorum %d, and was to have %d: %s", sentinel.Name, watching.Quorum, quorum, watching.Unable)
	}
	return nil
}
