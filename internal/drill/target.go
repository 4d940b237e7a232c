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

// target is a stack to drill that a supervisor looks after.
type target struct {
	stack   stack.Stack
	source  statusSource
	self    string // the holdfast program
	base    string // start of the relative paths in its file
	file    string // the stack's file, for commands on the stack; empty: they need none
	secrets plan.Secrets
	admins  adminConns // the connections to redis nodes and Sentinels
	// balancers holds the runtime sockets of the balancers, by name.
	balancers map[string]statistician
	loads     loadTarget
	headers   map[string]string // they lead the load to its application
	numbers   map[string]string // the host:port of each web node's metrics, by name
	ownStack  bool              // the drill stood the stack up for itself
	disks     bool              // its redis nodes have disks of their own
	hosts     *hosts            // nil: the stack runs directly on this machine, or on a user's hosts
	programs  bool              // each of its hosts has a program file of its own
	clocks    bool              // each of its hosts has a clock of its own
	// afar: it is a user's stack of several hosts, which theirs holds. here is the name of this
	// machine among them.
	afar      bool
	theirs    *hosts
	here      string
	processes processes
	// entries are the entries of a stack on hosts: its virtual addresses, or one at the address of
	// each host that has a balancer.
	entries []string
	entry   string // as the supervisor reports it; see lead
}

// state returns the state directory of the stack, and client its supervisor. On several hosts both
// belong to a host that answers.
func (t *target) state() string           { return t.source.current().state }
func (t *target) client() *control.Client { return t.source.current().client }

// stateOf returns the state directory that holds the files of a host's nodes.
func (t *target) stateOf(host string) string {
	for _, s := range t.source.endpoints {
		if s.host == host {
			return s.state
		}
	}
	return t.state()
}

// nodesOf returns the names of an application's nodes.
func (t *target) nodesOf(app string) []string {
	var all []string
	for n := range t.stack.Apps[app].Nodes {
		all = append(all, fmt.Sprintf("%s-%d", app, n+1))
	}
	return all
}

// open reads what the drill needs to talk to the stack's nodes: secrets, plan and addresses.
func (t *target) open(ctx context.Context) error {
	st, err := t.source.status(ctx)
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

	if t.admins.way, err = supervise.Way(t.state(), t.stack); err != nil {
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
	t.admins.learn(st, t.secrets.Operator)
	return nil
}

// machines returns the hosts of the stack; nil: it runs on this machine alone.
func (t *target) machines() *hosts {
	if t.afar {
		return t.theirs
	}
	return t.hosts
}

// elsewhere returns the given hosts without this machine.
func (t *target) elsewhere(some []host) []host {
	return slices.DeleteFunc(slices.Clone(some), func(one host) bool { return one.name == t.here })
}

// plan returns the plan of the stack. On hosts it is the plan by which they run, since only that
// one says where the nodes are.
func (t *target) plan() (plan.Plan, error) {
	if t.hosts == nil && !t.afar {
		return supervise.Preview(t.stack, t.base, t.state())
	}
	runs, err := supervise.ReadRunsAs(t.state())
	return runs.Plan(), err
}

func (t *target) close() { t.admins.close() }

// status returns the supervisor's status of the stack. Afterwards admin can reach every node in it.
func (t *target) status(ctx context.Context) (supervise.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := t.source.status(ctx)
	if err == nil {
		t.admins.learn(st, t.secrets.Operator)
	}
	return st, err
}

// admin returns the connection to a redis node or Sentinel that was in a status.
func (t *target) admin(node string) *redis.Admin { return t.admins.admin(node) }

// standing asks a redis node for its role, and waits at most 300 ms.
func (t *target) standing(ctx context.Context, node string) (redis.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	return t.admin(node).Standing(ctx)
}

// command returns the words of a holdfast command on this stack.
func (t *target) command(args ...string) []string {
	words := slices.Concat([]string{t.self}, args, []string{"--state", t.state()})
	if t.file != "" {
		words = append(words, "--file", t.file)
	}
	return words
}

// startLimit is how long a command may take that starts a node or the stack.
func (t *target) startLimit() time.Duration { return commandLimit + t.stack.SlowestStart() }

// sick returns why the stack is not well; empty: it is. It is well if every node is up, there is
// one master with all its replicas in step, and every Sentinel agrees and knows all others.
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
		case t.processes.hasEnded(n):
			return n.Name + " has ended" // the supervisor has not noticed yet
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

// heal waits until the stack is well. After limit it returns why the stack is not.
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
