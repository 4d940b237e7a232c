package cli

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/plan"
	"holdfast/internal/pod"
)

// servicesOf returns the Services of these redis nodes and Sentinels.
func (p *podProcess) servicesOf(nodes []string) *pod.Services {
	s := &pod.Services{
		StateDir: p.state, Names: map[string]string{}, Lookup: net.DefaultResolver.LookupHost, Log: p.log, Waiting: p.server.SetWaiting,
	}
	for _, node := range nodes {
		// A pod's own name is in its /etc/hosts, where it stands for the pod and not for the
		// Service.
		s.Names[node] = inNamespace(plan.PodService(p.file, node))
	}
	return s
}

// watchNames calls moved when a Service has another address than the one in found.
func (p *podProcess) watchNames(ctx context.Context, found pod.DiscoveredServices, moved func(*pod.Moved)) {
	nodes := plan.DataNodes(p.file)
	turn := 1 + slices.Index(nodes, p.pod.Node)
	if !p.pod.HasData() {
		turn = 1 + rand.IntN(len(nodes)+1)
	}
	if m := p.services.Watch(ctx, found, p.pod.Node, turn); m != nil {
		moved(m)
	}
}

// discoveryName returns where the balancers find an application's pods. It is a full name, because
// HAProxy does not add the search domains of the host.
func (p *podProcess) discoveryName(app string) string {
	return net.JoinHostPort(p.appName(app), strconv.Itoa(plan.PodAppPort(p.file.Apps[app])))
}

// appName returns the full name of the Service of an application's pods.
func (p *podProcess) appName(app string) string { return inNamespace(p.file.Name + "-" + app) }

// inNamespace returns the full name of a Service in the pod's namespace.
func inNamespace(service string) string {
	if domain := firstDomain("/etc/resolv.conf"); domain != "" {
		return service + "." + domain
	}
	return service
}

// firstDomain returns the first search domain of the host, which is that of the pod's namespace.
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
