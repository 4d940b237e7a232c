package cli

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/identity"
	"holdfast/internal/plan"
	"holdfast/internal/pod"
	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

// agree finds out what the node may start on. ctx and life are those of live; moved is told by
// watchNames.
func (p *podProcess) agree(ctx, life context.Context, tasks *sync.WaitGroup, moved func(*movedError)) (pod.Agreed, error) {
	if err := p.findAddresses(ctx); err != nil {
		return pod.Agreed{}, err
	}
	p.stack, p.placed = plan.InPod(p.file, p.pod, p.addresses, p.findBy)
	if err := p.identify(); err != nil {
		return pod.Agreed{}, err
	}
	tasks.Go(func() { p.who.Keep(life, p.log) })
	tasks.Go(func() { p.watchNames(ctx, moved) })
	if !p.pod.HasData() {
		return pod.Agreed{}, nil
	}
	way, err := supervise.Way(p.state, p.stack)
	if err != nil {
		return pod.Agreed{}, err
	}
	r, err := supervise.Remember(ctx, p.state, p.pod.Node, p.addresses)
	if err != nil {
		return pod.Agreed{}, err
	}
	own := pod.Answer{Node: p.pod.Node, Booted: r.Booted, Replication: r.Replication}
	p.server.SetAbout(func() pod.Answer { return own })
	return pod.Peers{
		Own: own, Nodes: plan.DataNodes(p.file),
		Ask: func(ctx context.Context, node string) (pod.Answer, error) {
			return pod.Ask(ctx, p.addresses[node], p.who.Client(node))
		},
		Named: func(ctx context.Context) (plan.Replication, error) { return p.named(ctx, way) },
		Waiting: func(why string) {
			p.log.Info("not started yet", "node", p.pod.Node, "why", why)
			p.server.SetWaiting(why)
		},
		Refused: func(node string, why error) {
			p.log.Error("an answer is not believed", "of", cmp.Or(node, "the Sentinels"), "why", why)
		},
	}.Agree(ctx)
}

// findAddresses resolves the names of the Services of redis nodes and Sentinels.
func (p *podProcess) findAddresses(ctx context.Context) error {
	p.addresses = map[string]string{}
	for _, node := range plan.DataNodes(p.file) {
		// A pod's own name is in its /etc/hosts, where it leads to the pod and not to the Service.
		address, err := p.resolve(ctx, inNamespace(plan.PodService(p.file, node)))
		if err != nil {
			return err
		}
		p.addresses[node] = address
	}
	if !p.pod.HasData() {
		p.addresses[p.pod.Node] = p.address
	}
	return nil
}

// identify has the pod show who it is, and recognize the others.
func (p *podProcess) identify() error {
	secret, err := p.seed.Derive(p.file.Name, plan.AuthorityLabel, identity.DerivedKeySize)
	if err != nil {
		return err
	}
	authority, err := identity.DeriveAuthority(p.file.Name, secret)
	if err != nil {
		return err
	}
	addresses, err := pod.Addresses(p.addresses[p.pod.Node], p.address, "127.0.0.1")
	if err != nil {
		return fmt.Errorf("the addresses of the pod (--address, and that of its Service): %w", err)
	}
	life := p.certificateLife
	if p.pod.Kind == plan.Sentinel { // each starts anew with its certificate: not all on one day
		life -= life / 90 * time.Duration(p.pod.Number())
	}
	p.who, err = pod.OpenIdentity(p.state, authority, pod.Bearer{Node: p.pod.Node, Addresses: addresses, Life: life})
	if err != nil {
		return err
	}
	p.server.SetTLS(p.who.Server())
	return nil
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
func (p *podProcess) named(ctx context.Context, way redis.Way) (r plan.Replication, err error) {
	sentinels := map[string]string{}
	for node, address := range p.addresses {
		if strings.HasPrefix(node, "sentinel-") {
			sentinels[node] = net.JoinHostPort(address, strconv.Itoa(plan.PodSentinelPort))
		}
	}
	address, epoch, err := supervise.AskMaster(ctx, way, p.file.Name, p.secrets.Operator, sentinels)
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
