package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/logs"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// hostProcess is the process of this host in a stack of several hosts. While the host leads, it is
// the stack's supervisor.
type hostProcess struct {
	*hostStart
	g      *globals
	self   string // the path of this program
	stderr io.Writer
	log    *slog.Logger
	// failed is how many times in a row the supervisor did not begin here.
	failed int
}

// runHost runs the process of this host until the stack is taken down, the host is removed, another
// program takes over, or a signal ends the process. After a signal the nodes of the host go on.
func runHost(g *globals, start *hostStart, stdout, stderr io.Writer) error {
	return handingOver(runHostProcess(g, start, stdout, stderr))
}

func runHostProcess(g *globals, start *hostStart, stdout, stderr io.Writer) error {
	// Signals count from the first check on: a host that is stopped before it begins does nothing.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}

	release, err := claimHost(start.state)
	if err != nil {
		return err
	}
	defer release()
	if err := start.begin(); err != nil {
		return err
	}
	if err := os.MkdirAll(logs.Dir(start.state), 0o700); err != nil {
		return fmt.Errorf("make the directory of the logs: %w", err)
	}

	output := logs.NewLog(start.state, logs.Supervisor)
	defer output.Close()
	p := &hostProcess{
		hostStart: start, g: g, self: self, stderr: stderr,
		log: g.logs.with(output, start.self.Name),
	}
	defer g.logs.follow(start.state, g.renderMessage)()

	h, err := host.Open(host.Config{State: start.state, Version: version, Self: self, Lead: p.lead, Own: ownAnswers(start.state), Log: p.log})
	if err != nil {
		return err
	}

	closeHost := sync.OnceFunc(h.Close)
	defer closeHost()
	successor := make(chan string, 1)
	server, err := control.Listen(start.state, hostControl(h, successor))
	if err != nil {
		return err
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	defer func() {
		server.Close()
		<-served
	}()

	life, end := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	defer func() {
		end()
		tasks.Wait()
	}()
	tasks.Go(func() { supervise.KeepLogs(life, start.state, self, os.Environ(), p.log) })
	tasks.Go(func() { supervise.WatchCut(life, start.state, h, p.log) })
	tasks.Go(func() { showHost(life, g, start, stdout, stderr) })
	notify := newNotifier(g, func() string { return hostStatusText(h) })
	defer notify.stop()
	notify.started()

	stopped := make(chan os.Signal, 1)
	if g.contained {
		tasks.Go(func() { p.goDown(life, signals, stopped) })
	} else {
		tasks.Go(func() { forwardSignal(life, signals, stopped) })
	}

	select {
	case <-stopped:
		notify.stopping()
		if g.contained {
			end()
			tasks.Wait() // the log writer is not restarted any more
			closeHost()
			return p.endNodes()
		}
		after := whoLooksAfter(h)
		closeHost() // so that another host leads before this process ends
		fmt.Fprintf(stderr, "The part of host %s in the stack %s has ended. Its nodes run on%s\n", start.self.Name, start.self.Stack, g.renderMessage(after))
		return nil
	case <-h.Down():
		notify.stopping()
		end()
		tasks.Wait() // the log writer is not restarted any more
		endLogWriter(start.state)
		if h.Purged() {
			closeHost() // so that it uses nothing that is being removed
			server.Close()
			if err := purgeHost(start); err != nil {
				return err
			}
			fmt.Fprintln(stderr, "The stack was taken down, and all of it was removed.")
			return nil
		}
		fmt.Fprintln(stderr, "The stack was taken down. Data stays.")
		return nil
	case <-h.Rest():
		notify.stopping()
		end()
		tasks.Wait() // the log writer is not restarted any more
		closeHost()
		endLogWriter(start.state)
		fmt.Fprintf(stderr, "Host %s is down for maintenance, and the stack runs on without it: %s\n", start.self.Name, g.renderMessage("'holdfast up' here brings it back."))
		return nil
	case program := <-successor:
		p.log.Info("another program takes the place of this one", "program", program)
		return hostLeaving(g, start, program)
	case <-h.Removed():
		notify.stopping()
		closeHost()
		return leaveStack(start)
	case <-h.Done():
		return fmt.Errorf("the part of this host in the stack has ended, and its nodes run on: %w", h.Err())
	case err := <-served:
		served <- err
		return fmt.Errorf("the control socket failed: %w", err)
	}
}

// hostControl serves the control socket of a host. It serves the same requests as the control
// socket of a stack on one machine, except that an upgrade replaces the program of this host, not
// that of the leader.
func hostControl(h *host.Host, successor chan<- string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+control.UpgradePath, control.UpgradeHandler(func(program string) error {
		select {
		case successor <- program:
		default: // another program is waiting already
		}
		return nil
	}))
	mux.Handle("/", h.Control())
	return mux
}

// hostLeaving returns the error of a host's process that hands over to another program. It always
// continues as 'up', even if it began as 'join'.
func hostLeaving(g *globals, start *hostStart, program string) error {
	args := []string{"up", "--state", start.state}
	if g.background {
		args = append(args, "--background")
	}
	if g.file != "" {
		args = append(args, "--file", g.file)
	}
	if g.logs != nil {
		args = append(args, "--log-format", "json")
	}
	if g.contained {
		args = append(args, "--"+containedFlag)
	}
	return &handOverError{program: program, args: args}
}

// ownAnswers serves what only this host can answer: logs, staged files, processes, balancers.
func ownAnswers(state string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+control.LogsPath, control.LogsHandler(state))
	mux.Handle("POST "+control.StagePath, control.StageHandler(state))
	mux.Handle("POST "+control.ProcessPath, control.ProcessHandler(state))
	mux.Handle("GET "+control.DrilledPath, control.DrilledHandler(state))
	mux.Handle(control.CutPath, control.CutHandler(state))
	mux.Handle("GET "+control.BalancerPath+"{node}", control.BalancerHandler(state))
	return mux
}

// claimHost claims the state directory for this process. It returns an error if the supervisor of a
// stack on one machine uses the directory.
func claimHost(state string) (release func(), err error) {
	release, err = host.Claim(state)
	if errors.As(err, new(*host.ClaimedError)) {
		err = fmt.Errorf("%w; see 'holdfast status', or take the stack down with 'holdfast down'", err)
	}
	return release, err
}

// hostStatusText returns the state of the host, for systemd.
func hostStatusText(h *host.Host) string {
	self, leader := h.Self(), h.Leader()
	switch leader {
	case "":
		return fmt.Sprintf("host %s of %s; no host leads", self.Name, self.Stack)
	case self.Name:
		return fmt.Sprintf("host %s of %s; it leads", self.Name, self.Stack)
	}
	return fmt.Sprintf("host %s of %s; host %s leads", self.Name, self.Stack, leader)
}

// whoLooksAfter returns words for what looks after the nodes of this host when its process has
// ended.
func whoLooksAfter(h *host.Host) string {
	v := h.View(context.Background())
	votes, there := 0, 0
	var others []string
	for _, s := range v.Hosts {
		if s.Votes {
			votes++
		}
		if s.Votes && s.Reachable && s.Name != v.Here {
			there++
			others = append(others, s.Name)
		}
	}
	switch {
	case there <= votes/2:
		return ", and nobody looks after the stack until a majority of its hosts is up: 'holdfast up'."
	case v.Leader != v.Here && v.Leader != "":
		return fmt.Sprintf(", and host %s looks after them.", v.Leader)
	case len(others) == 1:
		return fmt.Sprintf(", and host %s looks after them.", others[0])
	}
	return fmt.Sprintf(", and one of the hosts %s looks after them.", listed(others))
}

// leaveStack turns the state directory of a removed host into one that can join again. It stops the
// host's nodes, because a host that was away when it was removed may still run some.
func leaveStack(start *hostStart) error {
	if err := supervise.EndNodes(context.Background(), start.state); err != nil {
		return err
	}
	if err := host.Leave(start.state); err != nil {
		return err
	}
	return fmt.Errorf("host %s was removed from the stack %s, and has left it; what its nodes had stays in %s", start.self.Name, start.self.Stack, start.state)
}

// leadTries is how often a supervisor that cannot begin is tried before another host leads. The
// reason may be on this host alone, such as a full disk or a damaged file.
const leadTries = 3

// lead runs the supervisor while this host leads.
func (p *hostProcess) lead(ctx context.Context, l host.Leadership) error {
	err := p.superviseAs(ctx, l)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// Clients are told why. The host tries again after a pause, because the reason may go away.
	const pause = 3 * time.Second
	l.Answer(control.Unable(fmt.Errorf("host %s leads, and the supervisor does not begin: %w", l.Here, err)))
	clock.Sleep(ctx, pause)
	if p.givesUp(err) {
		l.HandOver(fmt.Errorf("the supervisor does not begin on host %s: %w", l.Here, err))
	}
	return err
}

// givesUp counts a failed attempt, and reports whether another host shall lead. A supervisor that
// waits for another host has not failed. What it waits to do, such as changing the network, is in
// the stack file of this host; another leader might begin without it.
func (p *hostProcess) givesUp(err error) bool {
	if errors.As(err, new(*control.WaitsError)) {
		return false
	}
	p.failed++
	return p.failed%leadTries == 0
}

func (p *hostProcess) superviseAs(ctx context.Context, l host.Leadership) error {
	s, base, known := supervise.LastFile(p.state)
	switch {
	case known && len(s.Hosts) > 0:
		var err error
		if s, err = p.withNetwork(ctx, l, s); err != nil {
			return err
		}
	case p.file && len(p.stack.Hosts) > 0: // this includes a stack that used to run on one machine and is down
		s, base, known = p.stack, p.base, false
	default:
		// The lead passes on until it reaches the host that has the file.
		l.HandOver(errors.New("this host has no stack file, and the stack has not begun yet"))
		return errors.New("the stack has not begun yet, and this host has no stack file: call 'holdfast up' where the file is")
	}

	if !known {
		// The first start needs all hosts: the first master is chosen only once, and where the
		// files of nodes are is known only from a host that is up.
		if why := p.whyWaiting(s, l); why != nil {
			l.Answer(control.Unable(why))
			<-ctx.Done()
			return nil
		}
	}

	sup, err := supervise.Open(supervise.Config{
		Stack: s, BaseDir: base, StateDir: p.state, Self: p.self, Version: version, Environ: os.Environ(), Log: p.log,
		Hosts: placesOf(s, l.Hosts), Life: ctx, Several: true, Share: l.Share, Run: l.Run,
		Secret:  l.Secret,
		Machine: func(p plan.Place) machine.Machine { return l.Machine(p.Name) },
	})
	if err != nil {
		return err
	}
	defer sup.Close() // the nodes go on
	if err := sup.Prepare(); err != nil {
		return err
	}

	p.failed = 0
	if stop, err := serveMetrics(sup, p.stderr); err != nil {
		p.log.Error("no metrics", "error", err)
	} else {
		defer stop()
	}

	asked := make(chan downRequest, 1)
	l.Answer(control.Handler(leaderSupervisor{sup, l}, func(purge bool) error { return askLeader(ctx, sup, asked, purge) }, nil, nil))

	starting, stopStarting := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := sup.Start(starting); err != nil && starting.Err() == nil {
			p.log.Error("not all nodes are up", "error", err)
		}
	}()
	endStart := func() { // this must come before Stop and Close, with which the start would race
		stopStarting()
		<-ended
	}
	defer endStart()

	select {
	case <-ctx.Done():
		return nil
	case err := <-sup.Reopen():
		p.log.Error("the supervisor begins anew", "error", err)
		return nil
	case down := <-asked:
		endStart()
		return p.takeDown(ctx, sup, l, down)
	}
}

// withNetwork returns a stack that has been up before, with the network of the stack file at hand.
// Nodes cannot change to or from TLS one after the other. So the network stays the same while any
// node runs, or while a host is away that may run some.
func (p *hostProcess) withNetwork(ctx context.Context, l host.Leadership, s stack.Stack) (stack.Stack, error) {
	if !p.file || p.stack.Name != s.Name || len(p.stack.Hosts) == 0 || p.stack.Network == s.Network {
		return s, nil
	}
	var machines []machine.Machine
	var names []string
	for _, h := range l.Hosts {
		m := l.Machine(h.Name)
		defer m.Close()
		machines, names = append(machines, m), append(names, h.Name)
	}
	away, runs, err := supervise.AnyRuns(ctx, machines)
	switch {
	case err != nil:
		return s, err
	case runs:
		p.log.Warn("the stack file says another network than the stack runs with, which stays until the stack is down", "is", s.Network, "file", p.stack.Network)
		return s, nil
	case len(away) > 0:
		var missing []string
		for _, i := range away {
			missing = append(missing, names[i])
		}
		return s, &control.WaitsError{Why: fmt.Sprintf("the stack file here says network: %s, and the stack was up with %s. All hosts change together: it starts when %s up, or when the file says %s again",
			p.stack.Network, s.Network, areOrIs(missing), s.Network)}
	}
	p.log.Info("the stack starts with another network", "was", s.Network, "is", p.stack.Network)
	s.Network = p.stack.Network
	return s, nil
}

// placesOf returns the hosts of a stack, including those that have joined but have no nodes yet.
func placesOf(s stack.Stack, joined []host.Member) []plan.Place {
	all := plan.HostsOf(s)
	for _, m := range joined {
		if !slices.ContainsFunc(all, func(p plan.Place) bool { return p.Name == m.Name }) {
			all = append(all, plan.Place{Name: m.Name, Address: m.Address.Addr().String()})
		}
	}
	return all
}

// whyWaiting returns an error that names the missing hosts of a stack that has not begun, or nil.
func (p *hostProcess) whyWaiting(s stack.Stack, l host.Leadership) error {
	joined, begun := map[string]bool{}, map[string]bool{}
	for _, m := range l.Hosts {
		joined[m.Name], begun[m.Name] = true, m.AgreementID != "" || m.Name == l.Here
	}
	if absent := absentFrom(s, joined); len(absent) > 0 {
		return &control.WaitsError{Why: howToJoin(absent) + ". The stack starts when all of its hosts are there"}
	}
	if absent := absentFrom(s, begun); len(absent) > 0 {
		return fmt.Errorf("the stack starts when all of its hosts are up, and %s not yet: 'holdfast up -d' there", areOrIs(absent))
	}
	return nil
}

// areOrIs returns "host two is" or "hosts two and three are".
func areOrIs(names []string) string {
	if len(names) == 1 {
		return hostNames(names) + " is"
	}
	return hostNames(names) + " are"
}

// absentFrom returns the hosts of a stack that have not joined, in the order of its file.
func absentFrom(s stack.Stack, joined map[string]bool) (names []string) {
	for _, h := range s.Hosts {
		if !joined[h.Name] {
			names = append(names, h.Name)
		}
	}
	return names
}

// leaderSupervisor is the supervisor of a stack of several hosts, on the host that leads.
type leaderSupervisor struct {
	*supervise.Supervisor
	lead host.Leadership
}

// Rest takes a host down for maintenance. If that is the leading host, it hands the lead over and
// returns a BusyError: the next leader has to be asked.
func (s leaderSupervisor) Rest(ctx context.Context, name string, anyway bool) error {
	if name == s.lead.Here {
		s.lead.HandOver(fmt.Errorf("host %s goes down for maintenance", name))
		return &control.BusyError{Why: fmt.Sprintf("host %s leads, and another one has to do so first", name)}
	}
	if err := s.Supervisor.Rest(ctx, name, anyway); err != nil {
		return err
	}
	return s.lead.EndHost(context.WithoutCancel(ctx), name)
}

// Switchover returns an error while the supervisor of a new leader is still starting. It has not
// seen the nodes yet, and would consider none of them fit.
func (s leaderSupervisor) Switchover(ctx context.Context, to string) (supervise.Switched, error) {
	if s.Supervisor.Status().Phase == supervise.PhaseStarting {
		return supervise.Switched{}, &supervise.StartingError{}
	}
	return s.Supervisor.Switchover(ctx, to)
}

// Status returns the status, with the host on which the supervisor runs.
func (s leaderSupervisor) Status() supervise.Status {
	st := s.Supervisor.Status()
	st.Host = s.lead.Here
	return st
}

// Subscribe adds that host, too.
func (s leaderSupervisor) Subscribe() (now supervise.Status, changes <-chan supervise.NodeStatus, cancel func()) {
	now, changes, cancel = s.Supervisor.Subscribe()
	now.Host = s.lead.Here
	return now, changes, cancel
}
