package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/clock"
	"holdfast/internal/identity"
	"holdfast/internal/logs"
	"holdfast/internal/plan"
	"holdfast/internal/pod"
	"holdfast/internal/private"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// podOptions is what the manifests tell a pod about itself.
type podOptions struct {
	container
	name, address, seedFile string
	programs                string // directory; see readPrograms
	linger                  time.Duration
	certificateLife         time.Duration
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

It answers at port ` + strconv.Itoa(plan.PodPort) + `: ` + pod.LivePath + ` and ` + pod.ReadyPath + ` for the kubelet, and with TLS
` + pod.AboutPath + ` for the other pods.`,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(g, false); err != nil {
				return err
			}
			if o.first() {
				return o.runAsFirst(g)
			}
			return o.logged(g, cmd.OutOrStdout(), cmd.ErrOrStderr(), func(stdout, _ io.Writer) error {
				return o.run(g, stdout)
			})
		},
	}

	o.flags(c)
	c.AddCommand(podCheckCommand(g))
	c.Flags().StringVar(&o.name, "name", g.getenv("POD_NAME"), "the pod's `NAME` [POD_NAME]")
	c.Flags().StringVar(&o.address, "address", g.getenv("POD_IP"), "the pod's `IP` address [POD_IP]")
	c.Flags().DurationVar(&o.linger, "linger", 0, "how long the node serves on after SIGTERM")
	pathVar(c.Flags(), &o.seedFile, g.getenv, "seed", "", "`FILE` with the stack's seed, from which its secrets follow")
	pathVar(c.Flags(), &o.programs, g.getenv, "programs", "", "`DIR` with the passwords of users' programs at Redis: a file for each application, by its name")
	c.Flags().DurationVar(&o.certificateLife, "certificate-life", identity.DefaultLife, "how long the pod's certificate is valid; it is renewed after two thirds of that")
	return c
}

// podProcess is a pod while it runs.
type podProcess struct {
	podOptions
	pod     plan.Pod
	file    stack.Stack // the same for all pods
	base    string
	state   string
	seed    plan.Seed
	secrets plan.Secrets
	server  *pod.Server
	who     *pod.Identity
	log     *slog.Logger
	// services are those of redis nodes and Sentinels. addresses are theirs and this pod's own.
	services  *pod.Services
	addresses map[string]string
	// stack is the stack as this pod plans it, and placed is where its nodes are.
	stack  stack.Stack
	placed plan.Placement
	// hadServer is true once the balancer in this pod has had a server, or was ready without one.
	hadServer atomic.Bool
	// alone is for how long every probe has found that a program waits for this balancer.
	alone pod.Streak
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

	// The volume belongs to this container alone, although its mode often lets everybody write.
	private.Alone(filepath.Dir(p.state))
	if err := plan.CheckPods(s); err != nil {
		return usageError{err}
	}
	if p.pod, err = plan.PodOf(s, o.name); err != nil {
		return usageError{err}
	}
	if err := p.readSeed(o.seedFile); err != nil {
		return err
	}
	if err := os.MkdirAll(logs.Dir(p.state), 0o700); err != nil {
		return fmt.Errorf("make the directory of the logs: %w", err)
	}

	output := logs.NewLog(p.state, logs.Supervisor)
	defer output.Close()
	p.log = g.logs.with(output, o.name)
	if err := p.readPrograms(o.programs); err != nil {
		return err
	}
	if p.server, err = pod.Listen(); err != nil {
		return err
	}
	defer p.server.Close()
	p.services = p.servicesOf(plan.DataNodes(s))

	life, end := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	defer func() {
		end()
		tasks.Wait()
		endLogWriter(p.state)
	}()
	if g.logs == nil {
		tasks.Go(func() { p.showLogs(life, stdout) })
	}
	defer g.logs.follow(p.state, g.renderMessage)()
	return p.runPod(ctx, life, &tasks)
}

// runPod runs the pod from the agreement with the others to the end of its node. ctx ends when the
// pod is to go, and life when the process is to end.
func (p *podProcess) runPod(ctx, life context.Context, tasks *sync.WaitGroup) error {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	outlived, err := supervise.Running(p.state)
	if err != nil {
		return err
	}

	found, takesOver, err := p.takeOver(outlived)
	if err == nil && !takesOver {
		found, err = p.findServices(ctx)
	}
	if err == nil {
		tasks.Go(func() { p.who.Keep(life, p.log) })
		tasks.Go(func() { p.watchNames(ctx, found, func(why *pod.Moved) { leave(why) }) })
	}

	var agreed pod.Agreed
	if err == nil && !takesOver {
		agreed, err = p.agree(ctx)
	}
	if ctx.Err() != nil && !takesOver {
		return errors.Join(p.endOutlived(outlived), whyLeft(ctx))
	}
	if err != nil {
		return err
	}

	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}

	err = supervise.PreparePod(p.state, supervise.PodFacts{
		Booted: agreed.Booted, Replication: agreed.Replication, Outlived: takesOver, OwnFile: agreed.OwnFile,
		Ports: plan.PodPorts(p.pod), Placement: p.placed, Secrets: p.secrets,
	})
	if err != nil {
		return err
	}

	sup, err := supervise.OpenPod(supervise.Config{
		Stack: p.stack, BaseDir: p.base, StateDir: p.state, Self: self, Version: version,
		Environ: os.Environ(), Log: p.log, OwnFile: agreed.OwnFile,
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

	if p.file.Metrics.Enabled {
		endMetrics, err := p.metrics(sup)
		if err != nil {
			return err
		}
		defer endMetrics()
	}

	p.server.SetReady(func() error { return p.ready(sup) })
	if p.pod.HasData() {
		p.server.SetAbout(func() pod.Answer {
			r := sup.Remembered()
			return pod.Answer{Node: p.pod.Node, Booted: r.Booted, Replication: r.Replication, Sentinels: p.file.Redis.Sentinels}
		})
	}

	if ctx.Err() != nil { // the node outlived a supervisor, and now has to end
		sup.Watch()
	} else {
		_ = sup.Start(ctx) // the node's own status reports how it went
		<-ctx.Done()
	}
	if p.linger > 0 {
		time.Sleep(p.linger) // until nothing sends new connections here any more
	}
	if err := sup.Leave(context.Background(), p.pod.Node); err != nil {
		return err
	}
	return whyLeft(ctx)
}

// endOutlived ends a node that outlived its supervisor, if it is not known what the node runs as.
// It would otherwise be killed together with this container.
func (p *podProcess) endOutlived(outlived bool) error {
	if !outlived {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	return supervise.EndNodes(ctx, p.state)
}

// whyLeft returns the error of a pod that ended by itself, or nil if it was told to end.
func whyLeft(ctx context.Context) error {
	if moved := new(pod.Moved); errors.As(context.Cause(ctx), &moved) {
		return moved
	}
	return nil
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
	if p.seed, err = plan.ParseSeed(string(text)); err != nil {
		return usagef("%s: %w", file, err)
	}
	p.secrets, err = p.seed.Secrets(p.file)
	return err
}

// readPrograms reads the passwords of users' programs, which do not follow from the seed: a program
// has its password in its environment, and must not learn any other secret by it. Only a pod of
// Redis needs them.
//
// A pod with data must not end because one program has no password. The Redis user of that program
// keeps the password that follows from the seed. No program knows it, so Redis refuses this one.
func (p *podProcess) readPrograms(dir string) error {
	if p.pod.Kind != plan.Redis {
		return nil
	}
	for _, app := range p.file.Programs() {
		if dir == "" {
			p.log.Warn("Redis refuses a program, because this pod has no --programs: it is older than the program. Apply the manifests of this stack file",
				"application", app)
			continue
		}
		file := filepath.Join(dir, app)
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			p.log.Warn("Redis refuses a program, because its password is missing. Create the Secret, and then restart the redis pods",
				"application", app, "file", file, "secret", p.file.Name+"-"+app, "restart", "kubectl rollout restart statefulset "+p.file.Name+"-redis")
			continue
		}
		if err != nil {
			return usagef("read the password of apps.%s at Redis: %w", app, err)
		}
		if p.secrets.Programs[app], err = plan.ParseProgramPassword(string(text)); err != nil {
			return usagef("%s: %w", file, err)
		}
	}
	return nil
}

// showLogs writes the output of the pod's nodes to w.
func (p *podProcess) showLogs(ctx context.Context, w io.Writer) {
	all := logs.NewMerged(p.state, logs.Query{Since: time.Now()})
	defer all.Close()
	for {
		_, _ = all.Find() // a new log may have appeared
		for {
			entry, there, err := all.Next()
			if err != nil || !there {
				break
			}
			fmt.Fprintf(w, "%s %s\n", entry.Node, entry.Line)
		}
		if !clock.Sleep(ctx, 200*time.Millisecond) {
			return
		}
	}
}
