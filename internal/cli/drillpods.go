package cli

import (
	"regexp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/internal/drill"
	"holdfast/internal/kubectl"
)

// podDrill are the flags of a drill in Kubernetes.
type podDrill struct {
	namespace, entry, stack, program string
}

func (d *podDrill) flags(flags *pflag.FlagSet, g *globals) {
	flags.StringVar(&d.namespace, "kubernetes", "", "drill the stack in this `NAMESPACE` of the cluster that kubectl is set up for, with --entry")
	flags.StringVar(&d.entry, "entry", "", "base `URL` at which this machine reaches the entry of a stack in Kubernetes")
	flags.StringVar(&d.stack, "stack", "", "`NAME` of the stack, where the namespace has several")
	pathVar(flags, &d.program, g.getenv, "kubectl", "", "`PATH` of the program kubectl (default that of PATH)")
}

// notInName matches characters that a context of kubectl may have, but the name of a directory
// should not.
var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// locate finds the stack to drill. With --kubernetes that is a stack in Kubernetes.
func (d *podDrill) locate(g *globals, cmd *cobra.Command, cfg *drill.Config) error {
	if d.namespace == "" {
		for _, name := range []string{"entry", "stack", "kubectl"} {
			if cmd.Flags().Changed(name) {
				return usagef("--%s is for a stack in Kubernetes: say by --kubernetes in which namespace it is", name)
			}
		}
		return locateDrilled(g, cfg)
	}

	switch {
	case d.entry == "":
		return usagef("--kubernetes: say by --entry at which URL this machine reaches the stack, such as a NodePort's, a load balancer's, or that of 'kubectl port-forward'")
	case g.file != "":
		return usagef("--file: the stack in Kubernetes has its stack file in a ConfigMap; leave it out")
	}

	if err := drill.CheckEntry(d.entry); err != nil {
		return usagef("--entry: %w", err)
	}

	program := d.program
	if program == "" {
		program = "kubectl"
	}

	cluster, err := kubectl.Open(cmd.Context(), program, d.namespace)
	if err != nil {
		return usageError{err}
	}

	name, s, err := drill.FindPods(cmd.Context(), cluster, d.stack)
	if err != nil {
		return asUsage(err)
	}

	cfg.Stack = s
	cfg.Pods = &drill.Pods{
		Cluster: cluster, Stack: name, Entry: d.entry, Environ: kubectl.Environment(g.getenv), Named: d.program,
	}

	// The @ keeps this name apart from those of stacks.
	own := name + "@" + d.namespace
	if cluster.Context != "" {
		own += "@" + notInName.ReplaceAllString(cluster.Context, "-")
	}
	if cfg.State, err = stateDir(g, own); err != nil {
		return err
	}

	cfg.Args = []string{"--state", cfg.State}
	return nil
}
