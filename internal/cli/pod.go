package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/control"
	"holdfast/internal/logs"
	"holdfast/internal/plan"
	"holdfast/internal/pod"
	"holdfast/internal/private"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// podOptions are what the manifests tell a pod of itself.
type podOptions struct {
	name, address, seed string
	linger              time.Duration
}

func podCommand(g *globals) *cobra.Command {
	var o podOptions
	c := &cobra.Command{
		Use:   "pod",
		Short: "Run one node of a stack in Kubernetes (started by the manifests of 'export kubernetes')",
		Long: `Run the node of a stack that a pod is for, as its name says: the first process of
the container. The stack file is the generation: all pods have the same.

A pod with data starts its redis node or Sentinel when it is known whether the stack is
new, which takes the word of all pods with data, and who was the master. On SIGTERM a
redis node that is the master gives that to another one, and then ends.

It answers at port ` + strconv.Itoa(plan.PodPort) + `: ` + pod.LivePath + ` and ` + pod.ReadyPath + ` for the kubelet.`,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(g, cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&o.name, "name", g.getenv("POD_NAME"), "the pod's `NAME` [POD_NAME]")
	c.Flags().StringVar(&o.address, "address", g.getenv("POD_IP"), "the pod's `IP` address [POD_IP]")
	c.Flags().DurationVar(&o.linger, "linger", 0, "how long the node serves on after SIGTERM")
	pathVar(c.Flags(), &o.seed, g.getenv, "seed", "", "`FILE` with the stack's seed, from which its secrets follow")
	return c
}

// podProcess is a pod while it runs.
type podProcess struct {
	podOptions
	pod     plan.Pod
	file    stack.Stack // as it is for all pods
	base    string
	state   string
	secrets plan.Secrets
	server  *pod.Server
	log     *slog.Logger
	// addresses are those of the Services of redis nodes and Sentinels, and of this pod.
	addresses map[string]string
	// found is true once a balancer had a server.
	found atomic.Bool
}

func (o podOptions) run(g *globals, stdout io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, base, err := loadStack(g)
	if err != nil {
		return err
	}
	p := &podProcess{podOptions: o, file: s, base: base}
	if p.state, err = stateDir(g, s.Name); err != nil {
		return err
	}
	// The volume is this container's alone, and often everybody's by its mode.
	private.Alone(filepath.Dir(p.state))
	if err := plan.CheckPods(s); err != nil {
		return usageError{err}
	}
	if p.pod, err = plan.PodOf(s, o.name); err != nil {
		return usageError{err}
	}
	if err := p.readSeed(o.seed); err != nil {
		return err
	}
	if p.server, err = pod.Listen(); err != nil {
		return err
	}
	defer p.server.Close()
	if err := os.MkdirAll(logs.Dir(p.state), 0o700); err != nil {
		return fmt.Errorf("make the directory of the logs: %w", err)
	}
	output := logs.NewLog(p.state, logs.Supervisor)
	defer output.Close()
	p.log = slog.New(slog.NewTextHandler(output, &slog.HandlerOptions{ReplaceAttr: withoutTime}))

	life, end := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	defer func() {
		end()
		tasks.Wait()
		endLogWriter(p.state)
	}()
	tasks.Go(func() { p.showLogs(life, stdout) })
	return p.live(ctx, life, &tasks)
}

// live is the pod from the agreement to the end of its node. ctx ends when the pod is to go,
// life when the process does.
func (p *podProcess) live(ctx, life context.Context, tasks *sync.WaitGroup) error {
	agreed, err := p.agree(ctx)
	if ctx.Err() != nil {
		return nil // nothing runs
	}
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	inPod, placed := plan.InPod(p.file, p.pod, p.addresses, p.findBy)
	err = supervise.PreparePod(p.state, supervise.PodFacts{
		Booted: agreed.Booted, Replication: agreed.Replication,
		Ports: plan.PodPorts(p.pod), Placement: placed, Secrets: p.secrets,
	})
	if err != nil {
		return err
	}
	sup, err := supervise.OpenPod(supervise.Config{
		Stack: inPod, BaseDir: p.base, StateDir: p.state, Self: self, Version: version,
		Environ: os.Environ(), Log: p.log,
	}, p.pod.Node)
	if err != nil {
		return err
	}
	defer sup.Close()
	if err := sup.Prepare(); err != nil {
		return err
	}
	tasks.Go(func() { supervise.KeepLogs(life, p.state, self, os.Environ(), p.log) })
	endControl, err := p.control(sup)
	if err != nil {
		return err
	}
	defer endControl()
	p.server.SetReady(func() error { return p.ready(sup) })
	if p.pod.HasData() {
		p.server.SetAbout(func() pod.Answer {
			r := sup.Remembered()
			return pod.Answer{Node: p.pod.Node, Booted: r.Booted, Replication: r.Replication}
		})
	}

	started := make(chan error, 1)
	go func() { started <- sup.Start(ctx) }()
	<-ctx.Done()
	<-started
	if p.linger > 0 {
		time.Sleep(p.linger) // until nobody sends new connections here
	}
	return sup.Leave(context.Background(), p.pod.Node)
}

// readSeed reads the file with the stack's seed.
func (p *podProcess) readSeed(file string) error {
	if file == "" {
		return usagef("--seed FILE is missing: the file with the stack's seed")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return usagef("read the stack's seed: %w", err)
	}
	seed, err := plan.ParseSeed(string(text))
	if err != nil {
		return usagef("%s: %w", file, err)
	}
	p.secrets, err = seed.Secrets(p.file)
	return err
}

// agree finds out what the node may start on.
func (p *podProcess) agree(ctx context.Context) (pod.Agreed, error) {
	p.addresses = map[string]string{}
	nodes := plan.DataNodes(p.file)
	for _, node := range nodes {
		// A pod's own name is in its /etc/hosts, where it leads to the pod and not to the Service.
		address, err := p.resolve(ctx, inNamespace(plan.PodService(p.file, node)))
		if err != nil {
			return pod.Agreed{}, err
		}
		p.addresses[node] = address
	}
	if !p.pod.HasData() {
		p.addresses[p.pod.Node] = p.address
		return pod.Agreed{}, nil
	}
	r, err := supervise.Remember(ctx, p.state, p.pod.Node)
	if err != nil {
		return pod.Agreed{}, err
	}
	own := pod.Answer{Node: p.pod.Node, Booted: r.Booted, Replication: r.Replication}
	p.server.SetAbout(func() pod.Answer { return own })
	return pod.Peers{
		Own: own, Nodes: nodes,
		Ask:   func(ctx context.Context, node string) (pod.Answer, error) { return pod.Ask(ctx, p.addresses[node]) },
		Named: p.named,
		Waiting: func(why string) {
			p.log.Info("not started yet", "node", p.pod.Node, "why", why)
			p.server.SetWaiting(why)
		},
	}.Agree(ctx)
}

// resolve waits until a name has an address, and returns it.
func (p *podProcess) resolve(ctx context.Context, name string) (string, error) {
	for said := false; ; said = true {
		addresses, err := net.DefaultResolver.LookupHost(ctx, name)
		if err == nil && len(addresses) > 0 {
			slices.Sort(addresses)
			return addresses[0], nil
		}
		if !said {
			p.log.Info("the name of a Service does not resolve yet", "name", name, "error", err)
			p.server.SetWaiting("the name " + name + " does not resolve")
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// named is whom a majority of the Sentinels names.
func (p *podProcess) named(ctx context.Context) (r plan.Replication, err error) {
	sentinels := map[string]string{}
	for node, address := range p.addresses {
		if strings.HasPrefix(node, "sentinel-") {
			sentinels[node] = net.JoinHostPort(address, strconv.Itoa(plan.PodSentinelPort))
		}
	}
	address, epoch, err := supervise.AskMaster(ctx, p.file.Name, p.secrets.Operator, sentinels, time.Second)
	if err != nil {
		return r, err
	}
	for node, at := range p.addresses {
		if net.JoinHostPort(at, strconv.Itoa(plan.PodRedisPort)) == address && strings.HasPrefix(node, "redis-") {
			return plan.Replication{Master: node, ConfigEpoch: epoch, CurrentEpoch: epoch}, nil
		}
	}
	return r, fmt.Errorf("the Sentinels name %s, which is no pod's address", address)
}

// findBy is where the balancers find an application's pods. HAProxy takes names as they are,
// without the domains that the host adds.
func (p *podProcess) findBy(app string) string {
	return net.JoinHostPort(inNamespace(p.file.Name+"-"+app), strconv.Itoa(plan.PodWebPort))
}

// inNamespace is the whole name of a Service of the pod's namespace.
func inNamespace(service string) string {
	if domain := firstDomain("/etc/resolv.conf"); domain != "" {
		return service + "." + domain
	}
	return service
}

// firstDomain is the domain that the host adds to names first: that of the pod's namespace.
func firstDomain(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "search" {
			return words[1]
		}
	}
	return ""
}

// ready reports why the pod's node cannot serve.
func (p *podProcess) ready(sup *supervise.Supervisor) error {
	node, there := sup.Status().Node(p.pod.Node)
	switch {
	case !there:
		return fmt.Errorf("there is no %s", p.pod.Node)
	case node.State != supervise.Up:
		return fmt.Errorf("%s is %s: %s", node.Name, node.State, node.Detail)
	case p.pod.Kind == plan.Balancer && !p.found.Load():
		return p.awaitServers()
	}
	return nil
}

// awaitServers reports why a balancer that has just begun has no server yet: it finds them by
// DNS. Once it had one it stays ready, since nobody else would have more.
func (p *podProcess) awaitServers() error {
	_, port, err := net.SplitHostPort(p.file.Entry.Listen)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + net.JoinHostPort("127.0.0.1", port) + "/healthz/live")
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Holdfast-Balancer") != "" {
		return errors.New("the balancer has found no server yet")
	}
	p.found.Store(true)
	return nil
}

// control answers the commands that are given in the pod, such as 'holdfast status'.
func (p *podProcess) control(sup *supervise.Supervisor) (end func(), err error) {
	no := errors.New("the pods' part is Kubernetes' to change: delete the pod, or apply other manifests")
	server, err := control.Listen(p.state, control.Handler(sup,
		func(bool) error { return no }, func(string) error { return no }, func(control.Founding) error { return no }))
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	return func() {
		server.Close()
		<-served
	}, nil
}

// showLogs writes what the pod's nodes say to its output.
func (p *podProcess) showLogs(ctx context.Context, w io.Writer) {
	all := logs.NewMerged(p.state, logs.Query{Since: time.Now()})
	defer all.Close()
	for {
		_, _ = all.Find() // a log that is not there yet
		for {
			entry, there, err := all.Next()
			if err != nil || !there {
				break
			}
			fmt.Fprintf(w, "%s %s\n", entry.Node, entry.Line)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}
