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

// supervisedStack is a stack to drill that a supervisor looks after.
type supervisedStack struct {
	spec    stack.Stack
	source  statusSource
	self    string // the holdfast program
	base    string // start of the relative paths in its file
	file    string // the stack's file, for commands on the stack; empty: they need none
	secrets plan.Secrets
	admins  adminConns // the connections to redis nodes and Sentinels
	// balancers holds the runtime sockets of the balancers, by name.
	balancers        map[string]balancerStats
	loads            loadTarget
	headers          map[string]string // they lead the load to its application
	metricsAddresses map[string]string // the host:port of each web node's metrics, by name
	ownStack         bool              // the drill stood the stack up for itself
	disks            bool              // its redis nodes have disks of their own
	hosts            *hosts            // nil: the stack runs directly on this machine, or on a user's hosts
	programs         bool              // each of its hosts has a program file of its own
	clocks           bool              // each of its hosts has a clock of its own
	// onUserHosts: it is a user's stack of several hosts, which userHosts holds. thisHost is the
	// name of this machine among them.
	onUserHosts bool
	userHosts   *hosts
	thisHost    string
	processes   processes
	// entries are the entries of a stack on hosts: its virtual addresses, or one at the address of
	// each host that has a balancer.
	entries []string
	entry   string // as the supervisor reports it; see directLoad
}

// state returns the state directory of the stack, and client its supervisor. On several hosts both
// belong to a host that answers.
func (s *supervisedStack) state() string           { return s.source.current().state }
func (s *supervisedStack) client() *control.Client { return s.source.current().client }

// stateOf returns the state directory that holds the files of a host's nodes.
func (s *supervisedStack) stateOf(host string) string {
	for _, s := range s.source.endpoints {
		if s.host == host {
			return s.state
		}
	}
	return s.state()
}

// nodesOf returns the names of an application's nodes.
func (s *supervisedStack) nodesOf(app string) []string {
	var all []string
	for n := range s.spec.Apps[app].Nodes {
		all = append(all, fmt.Sprintf("%s-%d", app, n+1))
	}
	return all
}

// open reads what the drill needs to talk to the stack's nodes: secrets, plan and addresses.
func (s *supervisedStack) open(ctx context.Context) error {
	st, err := s.source.status(ctx)
	if err != nil {
		return err
	}
	if s.secrets, err = supervise.Secrets(s.state()); err != nil {
		return err
	}

	p, err := s.plan()
	if err != nil {
		return err
	}

	if s.admins.way, err = supervise.Way(s.state(), s.spec); err != nil {
		return err
	}

	s.findMetrics(p)
	s.findBalancers(p)
	if s.onUserHosts {
		if err := s.findHosts(ctx, st.Entry, p); err != nil {
			return err
		}
	}

	if h := s.stackHosts(); h != nil {
		s.entries = h.entries(s.spec.Entry.Virtual.Bare(), p)
	}
	s.admins.learn(st, s.secrets.Operator)
	return nil
}

// stackHosts returns the hosts of the stack; nil: it runs on this machine alone.
func (s *supervisedStack) stackHosts() *hosts {
	if s.onUserHosts {
		return s.userHosts
	}
	return s.hosts
}

// withoutThisHost returns the given hosts without this machine.
func (s *supervisedStack) withoutThisHost(some []host) []host {
	return slices.DeleteFunc(slices.Clone(some), func(one host) bool { return one.name == s.thisHost })
}

// plan returns the plan of the stack. On hosts it is the plan by which they run, since only that
// one says where the nodes are.
func (s *supervisedStack) plan() (plan.Plan, error) {
	if s.hosts == nil && !s.onUserHosts {
		return supervise.Preview(s.spec, s.base, s.state())
	}
	runs, err := supervise.ReadRunsAs(s.state())
	return runs.Plan(), err
}

func (s *supervisedStack) close() { s.admins.close() }

// status returns the supervisor's status of the stack. Afterwards admin can reach every node in it.
func (s *supervisedStack) status(ctx context.Context) (supervise.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	st, err := s.source.status(ctx)
	if err == nil {
		s.admins.learn(st, s.secrets.Operator)
	}
	return st, err
}

// admin returns the connection to a redis node or Sentinel that was in a status.
func (s *supervisedStack) admin(node string) *redis.Admin { return s.admins.admin(node) }

// standing asks a redis node for its role, and waits at most 300 ms.
func (s *supervisedStack) standing(ctx context.Context, node string) (redis.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	return s.admin(node).Standing(ctx)
}

// command returns the words of a holdfast command on this stack.
func (s *supervisedStack) command(args ...string) []string {
	words := slices.Concat([]string{s.self}, args, []string{"--state", s.state()})
	if s.file != "" {
		words = append(words, "--file", s.file)
	}
	return words
}

// startLimit is how long a command may take that starts a node or the stack.
func (s *supervisedStack) startLimit() time.Duration { return commandLimit + s.spec.SlowestStart() }

// whyUnwell returns why the stack is not well; empty: it is. It is well if every node is up, there
// is one master with all its replicas in step, and every Sentinel agrees and knows all others.
func (s *supervisedStack) whyUnwell(ctx context.Context) string {
	st, err := s.status(ctx)
	if errors.Is(err, control.ErrNoSupervisor) {
		return "no supervisor runs"
	}
	if err != nil {
		return err.Error()
	}

	why := ""
	switch {
	case s.hosts != nil:
		why = s.whyHostsUnwell(ctx)
	case s.onUserHosts:
		why = s.whyUserHostsUnwell(ctx, st)
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
		case s.processes.hasEnded(n):
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

	if s.spec.Redis.Enabled && master == "" {
		return "no redis node is master"
	}

	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, n := range st.Nodes {
		switch n.Kind {
		case plan.Redis:
			s, err := s.admin(n.Name).Standing(ctx)
			switch {
			case err != nil:
				return err.Error()
			case s.Master != (n.Address == master):
				return n.Name + "'s role is changing"
			case !s.Master && (s.MasterAddress != master || !s.Linked):
				return n.Name + " does not follow the master"
			}
		case plan.Sentinel:
			v, err := s.admin(n.Name).View(ctx, st.Stack)
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

// awaitWell waits until the stack is well. After limit it returns why the stack is not.
func (s *supervisedStack) awaitWell(ctx context.Context, limit time.Duration) (why string) {
	every := askEvery
	if s.onUserHosts { // each look asks the hosts for every process
		every = 5 * askEvery
	}
	err := awaitEvery(ctx, every, "", limit, func() bool {
		why = s.whyUnwell(ctx)
		return why == ""
	})
	if err != nil && why == "" {
		why = err.Error()
	}
	return why
}
