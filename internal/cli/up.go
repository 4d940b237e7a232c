package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
	"holdfast/internal/logs"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func upCommand(g *globals) *cobra.Command {
	var detach bool
	var as string
	var joined bool
	var pass string
	var in container
	c := &cobra.Command{
		Use:   "up",
		Short: "Stand the stack up, or adopt what still runs of it",
		Long: `Stand the stack up: check everything, then start the Sentinels, Redis, the
applications and the balancers, each when those before are ready. Nodes that run
already are adopted, not started again.

In the foreground Ctrl-C takes the stack down cleanly; a second one at once.
With -d it goes on in the background: see 'holdfast status', 'holdfast down'.

Where the stack file has hosts, the first 'up' makes this machine the first of them:
the one whose address it has, or --as. The others join ('holdfast host add'). A
machine that is one of several needs no stack file: 'up' has it take part again.
Ctrl-C there ends the part of this machine; the stack goes on, and its nodes, too.
With --joined nothing but that is done: a machine whose disk was emptied begins no
stack of its own.

As the first process of a container (pid 1) it waits for every process that lost its
parent, and SIGTERM, SIGINT, SIGHUP and SIGQUIT take down what runs there: the stack,
or the part of this host, whose master another host takes over first. --log-format json
writes what the supervisor and all nodes here say to standard output, for the
container's log.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := in.check(g, detach); err != nil {
				return err
			}
			if in.first() {
				return in.runAsFirst(g)
			}
			return in.logged(g, cmd.OutOrStdout(), cmd.ErrOrStderr(), func(stdout, stderr io.Writer) error {
				var start *hostStart
				var err error
				if pass != "" {
					start, err = hostWith(cmd.Context(), g, pass, as)
				} else {
					start, err = findHost(g, as, joined)
				}
				switch {
				case err != nil:
					return err
				case start != nil && g.background:
					return runHost(g, start, io.Discard, stderr)
				case start != nil && detach:
					return upHostDetached(cmd.Context(), g, start, backgroundUp(g, start.state, "--as", start.self.Name), stdout, stderr)
				case start != nil:
					return runHost(g, start, stdout, stderr)
				case g.background:
					return supervisor(g, io.Discard, io.Discard)
				case detach:
					return upDetached(cmd.Context(), g, stdout, stderr)
				}
				return supervisor(g, stdout, stderr)
			})
		},
	}

	in.flags(c)
	pathVar(c.Flags(), &pass, g.getenv, "pass", "", "`FILE` that makes this container a host of its stack, also when its state directory is empty ('holdfast export compose')")
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when the stack is up; it runs on in the background")
	c.Flags().BoolVar(&g.background, "background", false, "be the background half of --detach")
	c.Flags().MarkHidden("background")
	c.Flags().StringVar(&as, "as", "", "which host of the stack file this machine is: its `NAME`")
	c.Flags().BoolVar(&joined, "joined", false, "only take part again: fail where this machine is no host of a stack of several")
	return c
}

// supervisor runs the supervisor until it is told to take the stack down, or another program takes
// over.
func supervisor(g *globals, stdout, stderr io.Writer) error {
	return handingOver(upForeground(g, stdout, stderr))
}

// upForeground is the supervisor. It starts the stack and stays until it is told to take it down.
func upForeground(g *globals, stdout, stderr io.Writer) error {
	began := time.Now()
	// Signals count from the first check to the end of the last node. One means "down", and a
	// second one "at once". A terminal that is closed means "down", too.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	s, base, state, err := locateRunnable(g)
	if err != nil {
		return err
	}

	sup, closeLog, err := openSupervisor(g, s, base, state)
	if err != nil {
		return differing(g, err)
	}
	defer closeLog()
	defer sup.Close()
	if err := sup.Prepare(); err != nil {
		if errors.As(err, new(*supervise.ReferenceError)) {
			return usageError{err}
		}
		return err
	}
	defer g.logs.follow(state, g.renderMessage)()

	stopMetrics, err := serveMetrics(sup, stderr)
	if err != nil {
		return err
	}
	defer stopMetrics()

	asked := make(chan bool, 1) // a request to take the stack down; true: with its data
	successor := make(chan string, 1)
	initRequests := make(chan control.InitRequest, 1) // a request to become one of several hosts
	down := func(purge bool) error {
		select {
		case asked <- purge:
		default: // a request is waiting already
		}
		return nil
	}

	handOver := func(program string) error {
		if err := sup.MayLeave(); err != nil {
			return err
		}
		select {
		case successor <- program:
		default: // another program is waiting already
		}
		return nil
	}

	initFirst := func(h control.InitRequest) error {
		if err := sup.MayLeave(); err != nil {
			return err
		}
		select {
		case initRequests <- h:
		default: // a request is waiting already
		}
		return nil
	}

	server, err := control.Listen(sup.StateDir(), control.Handler(sup, down, handOver, initFirst))
	if err != nil {
		return err
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	defer func() {
		server.Close()
		<-served
	}()

	starting, stopStarting := context.WithCancel(context.Background())
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		started <- sup.Start(starting)
	}()
	endStart := func() { // this must come before Stop and Close, with which the start would race
		stopStarting()
		<-ended
	}
	defer endStart()

	shown := make(chan struct{})
	showing, stopShowing := context.WithCancel(context.Background())
	defer stopShowing()
	go func() {
		defer close(shown)
		showStart(showing, g, stderr, func() (supervise.Status, error) { return sup.Status(), nil })
	}()

	notify := newNotifier(g, func() string { return statusText(sup.Status()) })
	defer notify.stop()
	purge := false
	for waiting := true; waiting; {
		select {
		case err := <-started:
			<-shown
			started = nil
			if err != nil && starting.Err() == nil {
				fmt.Fprintf(stderr, "holdfast: %s\n", g.renderMessage(err.Error()))
			}
			showSummary(stdout, g, sup.Status(), sup.Plan(), time.Since(began))
			notify.started()
			if !g.background && !notify.listens && !g.contained {
				fmt.Fprintln(stdout, "\nCtrl-C takes it down.")
			}
		case <-signals:
			waiting = false
		case purge = <-asked:
			waiting = false
		case program := <-successor:
			stopShowing()
			<-shown
			return &handOverError{program: program, args: os.Args[1:]}
		case h := <-initRequests:
			stopShowing()
			<-shown
			return &handOverError{first: func() error { return initFirstHost(state, s.Name, h) }}
		case err := <-served:
			served <- err
			return fmt.Errorf("the control socket failed: %w", err)
		}
	}

	notify.stopping()
	endStart()
	stopShowing()
	<-shown
	if purge {
		fmt.Fprintln(stderr, "Taking the stack down, and its data away.")
	} else {
		fmt.Fprintln(stderr, "Taking the stack down. Data stays.")
	}

	hurry, stopped := make(chan struct{}), make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-signals:
			fmt.Fprintln(stderr, "At once.")
			close(hurry)
		case <-stopped:
		}
	}()
	if err := sup.Stop(context.Background(), hurry); err != nil {
		return err
	}
	if purge {
		return sup.Purge()
	}
	return nil
}

// openSupervisor opens the supervisor of a stack's state directory. It logs to logs/supervisor.log
// there.
func openSupervisor(g *globals, s stack.Stack, base, state string) (*supervise.Supervisor, func() error, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find the path of this program: %w", err)
	}
	output := logs.NewLog(state, logs.Supervisor)
	log := g.logs.with(output, "")
	sup, err := supervise.Open(supervise.Config{
		Stack: s, BaseDir: base, StateDir: state, Self: self, Version: version,
		Environ: os.Environ(),
		Log:     log,
	})
	if err != nil {
		var locked *supervise.LockedError
		if errors.As(err, &locked) {
			err = fmt.Errorf("%w; see 'holdfast status', or take it down with 'holdfast down'", err)
		}
		output.Close()
		return nil, nil, err
	}
	for _, page := range g.keptPages {
		log.Warn("the file of a page is refused, and the page before stays", "why", page)
	}
	return sup, output.Close, nil
}

// differing returns the error of a stack that is up already. If the stack file differs from what
// runs, the error says so.
func differing(g *globals, err error) error {
	var locked *supervise.LockedError
	if !errors.As(err, &locked) {
		return err
	}
	read, readErr := statusReader(g)
	if readErr != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if st, readErr := read(ctx); readErr == nil && st.Differs {
		return fmt.Errorf("%w. The stack file differs from what runs: 'holdfast apply' makes the stack what it says", err)
	}
	return err
}

// withoutTime removes the time from slog's lines, because the log adds one itself.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// upDetached starts the supervisor as a process of its own, and waits until the stack is up.
func upDetached(ctx context.Context, g *globals, stdout, stderr io.Writer) error {
	began := time.Now()
	s, base, state, err := locateRunnable(g)
	if err != nil {
		return err
	}

	args := backgroundUp(g, state)
	// An interrupted start is undone, but a service that ran before goes on.
	before, _ := supervise.OfflineStatus(s, base, state) // if something is wrong there, the child reports it
	serving := slices.ContainsFunc(before.Nodes, func(n supervise.NodeStatus) bool { return n.PID != 0 })
	child, err := startBackground(args)
	if err != nil {
		return err
	}

	client := control.NewClient(state)
	status := func() (supervise.Status, error) {
		st, err := client.Status(ctx)
		if err == nil && st.Supervisor != child.pid {
			return st, control.ErrNoSupervisor // it is another supervisor: ours is about to end
		}
		return st, err
	}

	for {
		if _, err := status(); err == nil {
			break
		}
		select {
		case err := <-child.ended:
			return err
		case <-ctx.Done():
			child.signal(syscall.SIGTERM)
			return <-child.ended
		case <-time.After(20 * time.Millisecond):
		}
	}

	st, err := showStart(ctx, g, stderr, status)
	if ctx.Err() != nil && serving {
		return errors.New("interrupted: the stack goes on in the background; see 'holdfast status'")
	}
	if ctx.Err() != nil {
		child.signal(syscall.SIGTERM)
		<-child.ended
		return errors.New("interrupted: the stack was taken down again")
	}
	if err != nil {
		return err
	}

	p, err := supervise.Preview(s, base, state)
	if err != nil {
		return err
	}

	showSummary(stdout, g, st, p, time.Since(began))
	for _, n := range st.Nodes {
		if n.State == supervise.Failed && !n.Kind.Traits().Optional {
			return &supervise.FailedError{Node: n.Name, Detail: n.Detail, Log: logs.Tail(state, n.Name, n.Began)}
		}
	}

	if st.Stopped != nil {
		return errors.New(st.Stopped.Why)
	}
	if !st.Ready {
		return fmt.Errorf("%s runs but is not ready; 'holdfast status' shows how it goes on", st.Stack)
	}
	return nil
}

// backgroundUp returns the command line of the background half of up.
func backgroundUp(g *globals, state string, more ...string) []string {
	args := []string{"up", "--background", "--state", state}
	if g.file != "" {
		args = append(args, "--file", g.file)
	}
	return append(args, more...)
}

// nodesNotUp returns a line for each node that is not up, with the reason.
func nodesNotUp(g *globals, st supervise.Status) string {
	var text strings.Builder
	for _, n := range st.Nodes {
		if n.State != supervise.Up {
			fmt.Fprintf(&text, "\n  %s is %s", n.Name, n.State)
			if n.Detail != "" {
				fmt.Fprintf(&text, ": %s", g.nodeDetail(n))
			}
		}
	}
	return text.String()
}

// child is the background half of up.
type child struct {
	pid    int
	signal func(os.Signal) error
	ended  <-chan error // gets the error of its end, with the text that it printed
}

// startBackground starts this program in a session of its own.
func startBackground(args []string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// What the child prints before it can log goes to a file without a name. A pipe would break
	// when this process ends.
	words, err := os.CreateTemp("", "holdfast-up-*")
	if err != nil {
		return nil, err
	}
	os.Remove(words.Name())
	cmd := exec.Command(self, args...)
	cmd.Stderr = words
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		words.Close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		defer words.Close()
		err := cmd.Wait()
		said := make([]byte, 64<<10)
		n, _ := words.ReadAt(said, 0)
		ended <- backgroundError(err, string(said[:n]))
	}()
	return &child{pid: cmd.Process.Pid, signal: cmd.Process.Signal, ended: ended}, nil
}

// backgroundError returns the error of the background half, with the text that it printed.
func backgroundError(err error, said string) error {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(said)) {
		if !strings.HasPrefix(line, "warning: ") { // this half has shown it
			lines = append(lines, line)
		}
	}
	words := strings.TrimPrefix(strings.Join(lines, ""), "holdfast: ")
	if words == "" {
		words = "the supervisor ended before the stack was up"
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitUsage {
		return usagef("%s", words)
	}
	return errors.New(words)
}
