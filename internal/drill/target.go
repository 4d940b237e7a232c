package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/redis"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// target is the stack that is drilled.
type target struct {
	stack   stack.Stack
	helm    helm
	self    string // the holdfast program
	base    string // where the relative paths of its file start from
	file    string // its file, for commands on this stack; empty: they need none
	secrets plan.Secrets
	reach   reach // of redis nodes and Sentinels
	// balancers are the runtime sockets of the balancers, by name.
	balancers map[string]statistician
	aim       aim
	headers   map[string]string // that lead the load to its application
	numbers   map[string]string // host:port of the numbers of web nodes, by name
	own       bool              // the drill stood it up for itself
	disks     bool              // its redis nodes have disks of their own
	hosts     *hosts            // nil: it runs on this machine as it is, or on a user's hosts
	programs  bool              // each of its hosts has a program file of its own
	clocks    bool              // each of its hosts has a clock of its own
	// afar: it is a user's stack of several hosts, which are theirs. This machine is the one
	// called here.
	afar   bool
	theirs *hosts
	here   string
	hands  hands
	// entries are those of a stack on hosts: its virtual addresses, or one for each
	// balancer, at the address of its host.
	entries []string
	entry   string // as the supervisor tells it; see lead
}

// state is the state directory of the stack, and client its supervisor: on hosts, those of
// one that answers.
func (t *target) state() string           { return t.helm.seat().state }
func (t *target) client() *control.Client { return t.helm.seat().client }

// stateOf is the state directory that has the files of a host's nodes.
func (t *target) stateOf(host string) string {
	for _, s := range t.helm.seats {
		if s.host == host {
			return s.state
		}
	}
	return t.state()
}

// nodesOf are the names of an application's nodes.
func (t *target) nodesOf(app string) []string {
	var all []string
	for n := range t.stack.Apps[app].Nodes {
		all = append(all, fmt.Sprintf("%s-%d", app, n+1))
	}
	return all
}

// open gets what it takes to speak to the stack's nodes.
func (t *target) open(ctx context.Context) error {
	st, err := t.helm.status(ctx)
	if err != nil {
		return err
	}
	if t.secrets, err = supervise.Secrets(t.state()); err != nil {
		return err
	}
	p, err := t.plan()
	if err != nil {
		return err
	}
	if t.reach.way, err = supervise.Way(t.state(), t.stack); err != nil {
		return err
	}
	t.findAdmins(p)
	t.findBalancers(p)
	if t.afar {
		if err := t.findHosts(ctx, st.Entry, p); err != nil {
			return err
		}
	}
	if h := t.machines(); h != nil {
		t.entries = h.entries(t.stack.Entry.Virtual.Bare(), p)
	}
	t.reach.learn(st, t.secrets.Operator)
	return nil
}

// machines are the hosts of the stack; nil: it runs on this machine alone.
func (t *target) machines() *hosts {
	if t.afar {
		return t.theirs
	}
	return t.hosts
}

// elsewhere is some hosts without the one that this machine is.
func (t *target) elsewhere(some []host) []host {
	return slices.DeleteFunc(slices.Clone(some), func(one host) bool { return one.name == t.here })
}

// plan is the plan of the stack. Of hosts the one by which they run says where its nodes are.
func (t *target) plan() (plan.Plan, error) {
	if t.hosts == nil && !t.afar {
		return supervise.Preview(t.stack, t.base, t.state())
	}
	runs, err := supervise.ReadRunsAs(t.state())
	return runs.Plan(), err
}

func (t *target) close() { t.reach.close() }

// status is what the supervisor says of the stack. The nodes that it has can be spoken to
// from then on: see admin.
func (t *target) status(ctx context.Context) (supervise.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := t.helm.status(ctx)
	if err == nil {
		t.reach.learn(st, t.secrets.Operator)
	}
	return st, err
}

// admin is the connection to a redis node or Sentinel that a status has had.
func (t *target) admin(node string) *redis.Admin { return t.reach.admin(node) }

// standing asks a redis node for its role; it does not wait long.
func (t *target) standing(ctx context.Context, node string) (redis.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	return t.admin(node).Standing(ctx)
}

// command is a holdfast command on this stack.
func (t *target) command(args ...string) []string {
	words := slices.Concat([]string{t.self}, args, []string{"--state", t.state()})
	if t.file != "" {
		words = append(words, "--file", t.file)
	}
	return words
}

// startLimit is how long a command may take that starts a node or the stack.
func (t *target) startLimit() time.Duration { return commandLimit + t.stack.SlowestStart() }

// sick says why the stack is not well; empty: it is. Every node is up, there is
// one master with all its replicas in step, and every Sentinel agrees and knows
// of all the others.
func (t *target) sick(ctx context.Context) string {
	st, err := t.status(ctx)
	if errors.Is(err, control.ErrNoSupervisor) {
		return "no supervisor runs"
	}
	if err != nil {
		return err.Error()
	}
	why := ""
	switch {
	case t.hosts != nil:
		why = t.hostsSick(ctx)
	case t.afar:
		why = t.theirsSick(ctx, st)
	}
	if why != "" {
		return why
	}
	if st.Phase != supervise.PhaseRunning {
		return "the supervisor is " + string(st.Phase)
	}
	master, replicas, sentinels := "", 0, 0
	for _, n := range st.Nodes {
		switch {
		case n.State != supervise.Up:
			return strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", n.Name, n.State, n.Detail), ": ")
		case t.hands.gone(n):
			return n.Name + " has ended" // and the supervisor has yet to see it
		case n.Kind == plan.Sentinel:
			sentinels++
		case n.Kind == plan.Redis && n.Role == "master" && master != "":
			return "two redis nodes are master"
		case n.Kind == plan.Redis && n.Role == "master":
			master = n.Address
		case n.Kind == plan.Redis:
			replicas++
		}
	}
	if t.stack.Redis.Enabled && master == "" {
		return "no redis node is master"
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, n := range st.Nodes {
		switch n.Kind {
		case plan.Redis:
			s, err := t.admin(n.Name).Standing(ctx)
			switch {
			case err != nil:
				return err.Error()
			case s.Master != (n.Address == master):
				return n.Name + "'s role is changing"
			case !s.Master && (s.MasterAddress != master || !s.Linked):
				return n.Name + " does not follow the master"
			}
		case plan.Sentinel:
			v, err := t.admin(n.Name).View(ctx, st.Stack)
			switch {
			case err != nil:
				return err.Error()
			case v.Address != master:
				return n.Name + " holds another node for the master"
			case v.Failing || v.Down:
				return n.Name + " holds the master for down"
			case v.Replicas != replicas || v.Others != sentinels-1:
				return fmt.Sprintf("%s knows of %d replicas and %d other Sentinels", n.Name, v.Replicas, v.Others)
			}
		}
	}
	return ""
}

func gone(pid int) bool {
	_, err := process.Identify(pid)
	return err != nil
}

// heal waits until the stack is well, and answers why it is not after a time.
func (t *target) heal(ctx context.Context, limit time.Duration) (why string) {
	every := askEvery
	if t.afar { // each look asks the hosts for every process
		every = 5 * askEvery
	}
	err := awaitEvery(ctx, every, "", limit, func() bool {
		why = t.sick(ctx)
		return why == ""
	})
	if err != nil && why == "" {
		why = err.Error()
	}
	return why
}
