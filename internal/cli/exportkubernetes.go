package cli

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/export"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// kubernetesExport is 'holdfast export kubernetes'.
type kubernetesExport struct {
	image, service, storage, storageClass string
	autoscale                             string
	nodePort                              int
	secret, policies, monitor             bool
}

func exportKubernetesCommand(g *globals) *cobra.Command {
	var o kubernetesExport
	c := &cobra.Command{
		Use:   "kubernetes",
		Short: "Print the manifests by which the stack runs in Kubernetes",
		Long: `Print the manifests by which the stack runs in Kubernetes: web nodes and balancers as
Deployments, Redis and Sentinels as StatefulSets with volumes, Services, budgets for
disruptions, and network policies. The stack file becomes a ConfigMap, which all pods go
by. The Helm chart in deploy/chart makes the same objects, with more to choose.

All secrets of the stack follow from one seed, which --secret makes, once. Who has the
seed has all rights. Applied again, the manifests change what has changed in the stack file.

An application with an image is a Deployment of that image. Its password at Redis is a Secret
of its own, which --secret makes, too: where an application is added, 'kubectl create' makes
that Secret, and says of the others that they exist.

The entry is not the pods' loopback: the stack file has entry.listen, such as 0.0.0.0:6301,
and tokens or "auth: none".`,
		Example: `  holdfast export kubernetes --secret | kubectl create -f -
  holdfast export kubernetes --image registry.example/holdfast-stack:1 | kubectl apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(g, cmd.OutOrStdout()) },
	}
	c.Flags().StringVar(&o.image, "image", "holdfast-stack:"+version, "the container `IMAGE`, with HAProxy and Redis in it")
	c.Flags().StringVar(&o.service, "service", "ClusterIP", "the `TYPE` of the entry's Service: ClusterIP, NodePort or LoadBalancer")
	c.Flags().IntVar(&o.nodePort, "node-port", 0, "the `PORT` of the entry at every machine, with --service NodePort; 0: Kubernetes chooses")
	c.Flags().StringVar(&o.storage, "storage", "8Gi", "how much room the volume of a redis node has")
	c.Flags().StringVar(&o.storageClass, "storage-class", "", "the `CLASS` of the volumes (default: the cluster's)")
	c.Flags().StringVar(&o.autoscale, "autoscale", "", "let an autoscaler choose how many nodes each application has, such as 2-10 (`MIN-MAX`)")
	c.Flags().BoolVar(&o.policies, "network-policies", true, "let only the stack's own pods reach its nodes, and everybody the entry")
	c.Flags().BoolVar(&o.monitor, "monitor", false, "add a PodMonitor for the Prometheus Operator, and the dashboard for Grafana")
	c.Flags().BoolVar(&o.secret, "secret", false, "print a Secret with a new seed, those with new passwords of programs, and nothing else")
	return c
}

func (o kubernetesExport) run(g *globals, stdout io.Writer) error {
	if !slices.Contains([]string{"ClusterIP", "NodePort", "LoadBalancer"}, o.service) {
		return usagef("--service %s: write ClusterIP, NodePort or LoadBalancer", o.service)
	}
	if o.nodePort != 0 && o.service != "NodePort" {
		return usagef("--node-port is for --service NodePort")
	}

	between, err := o.autoscaleRange()
	if err != nil {
		return err
	}

	s, _, err := loadStack(g)
	if err != nil {
		return err
	}
	if err := plan.CheckPods(s); err != nil {
		return usageError{err}
	}

	file, err := os.ReadFile(stackFile(g.file))
	if err != nil {
		return usagef("read the stack file: %w", err)
	}

	k := export.Kubernetes{
		Stack: s, File: string(file), Image: o.image, ServiceType: o.service, NodePort: o.nodePort,
		Storage: o.storage, StorageClass: o.storageClass, Autoscale: between, Unguarded: !o.policies, Monitor: o.monitor,
	}

	text := k.Manifests()
	if o.secret {
		if text, err = newSecrets(k); err != nil {
			return err
		}
	}

	_, err = fmt.Fprint(stdout, text)
	return err
}

// newSecrets returns the Secrets of a stack, with random texts.
func newSecrets(k export.Kubernetes) (string, error) {
	seed, err := plan.NewSeed(rand.Reader)
	if err != nil {
		return "", err
	}
	passwords := map[string]string{}
	for _, app := range k.Stack.Programs() {
		if passwords[app], err = plan.NewSeed(rand.Reader); err != nil {
			return "", err
		}
	}
	return k.Secrets(seed, passwords), nil
}

// autoscaleRange returns the least and the greatest number of nodes for an autoscaler.
func (o kubernetesExport) autoscaleRange() (a export.Autoscale, err error) {
	if o.autoscale == "" {
		return a, nil
	}
	low, high, _ := strings.Cut(o.autoscale, "-")
	a.Min, err = strconv.Atoi(low)
	if err == nil {
		a.Max, err = strconv.Atoi(high)
	}
	if err != nil || a.Min < 1 || a.Max < a.Min || a.Max > plan.MaxDiscovered {
		return a, usagef("--autoscale %s: write the least and the most, such as 2-10; the balancers have room for %d", quote.Text(o.autoscale), plan.MaxDiscovered)
	}
	return a, nil
}
