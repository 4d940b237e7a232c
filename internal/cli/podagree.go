package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"strconv"
	"time"

	"holdfast/internal/identity"
	"holdfast/internal/plan"
	"holdfast/internal/pod"
	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

// takeOver plans the pod's part for a node that outlived its supervisor. What the node runs on was
// agreed before, so neither DNS nor the other pods are asked. known is false if no node outlived its
// supervisor, or if the agreement is not known.
func (p *podProcess) takeOver(outlived bool) (found pod.DiscoveredServices, known bool, err error) {
	if !outlived {
		return found, false, nil
	}
	if found.Addresses, known = p.services.Cached(); !known {
		return found, false, nil
	}
	p.log.Info("the node outlived its supervisor, and is taken over", "node", p.pod.Node)
	return found, true, p.planPart(found.Addresses)
}

// agree finds out what the node may start with. It ends with ctx.
func (p *podProcess) agree(ctx context.Context) (pod.Agreed, error) {
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
	own := pod.Answer{Node: p.pod.Node, Booted: r.Booted, Replication: r.Replication, Sentinels: r.Sentinels}
	p.server.SetAbout(func() pod.Answer { return own })
	return pod.Peers{
		Own: own, WatchedMaster: r.WatchedMaster, Nodes: plan.DataNodes(p.file),
		Ask: func(ctx context.Context, node string) (pod.Answer, error) {
			return pod.Ask(ctx, p.addresses[node], p.who.Client(node))
		},
		Named: func(ctx context.Context) (plan.Replication, error) { return p.namedMaster(ctx, way) },
		Waiting: func(why string) {
			p.log.Info("not started yet", "node", p.pod.Node, "why", why)
			p.server.SetWaiting(why)
		},
		Refused: func(node string, why error) {
			p.log.Error("an answer is not believed", "of", cmp.Or(node, "the Sentinels"), "why", why)
		},
	}.Agree(ctx)
}

// findServices finds the addresses of the redis nodes and Sentinels, and plans the pod's part.
// Where it needs DNS it waits for that, until ctx ends.
func (p *podProcess) findServices(ctx context.Context) (pod.DiscoveredServices, error) {
	for {
		found, err := p.services.Find(ctx)
		if err != nil {
			return found, err
		}
		if err := p.planPart(found.Addresses); err != nil {
			return found, err
		}
		if !p.services.Distrust(ctx, found, p.who.Client) {
			return found, nil
		}
	}
}

// planPart plans the pod's part with the addresses of the Services, and prepares its certificate.
func (p *podProcess) planPart(services map[string]string) error {
	p.addresses = maps.Clone(services)
	if !p.pod.HasData() {
		p.addresses[p.pod.Node] = p.address
	}
	p.stack, p.placed = plan.InPod(p.file, p.pod, p.addresses, p.discoveryName)
	return p.identify()
}

// identify prepares the certificate that the pod presents, and the authority by which it recognises
// the others.
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
	if p.pod.Kind == plan.Sentinel { // Sentinels restart for a new certificate, so theirs do not all end on one day
		life -= life / 90 * time.Duration(p.pod.Number())
	}
	p.who, err = pod.OpenIdentity(p.state, authority, pod.Bearer{Node: p.pod.Node, Addresses: addresses, Life: life})
	if err != nil {
		return err
	}
	p.server.SetTLS(p.who.Server())
	return nil
}

// namedMaster returns the master that a majority of the Sentinels names.
func (p *podProcess) namedMaster(ctx context.Context, way redis.Way) (r plan.Replication, err error) {
	sentinels := map[string]string{}
	for node, address := range p.addresses {
		if plan.KindByName(node) == plan.Sentinel {
			sentinels[node] = net.JoinHostPort(address, strconv.Itoa(plan.PodSentinelPort))
		}
	}
	address, epoch, err := supervise.AskMaster(ctx, way, p.file.Name, p.secrets.Operator, sentinels)
	if err != nil {
		return r, err
	}
	for node, at := range p.addresses {
		if net.JoinHostPort(at, strconv.Itoa(plan.PodRedisPort)) == address && plan.KindByName(node) == plan.Redis {
			return plan.Replication{Master: node, ConfigEpoch: epoch, CurrentEpoch: epoch}, nil
		}
	}
	return r, fmt.Errorf("the Sentinels name %s, which is no pod's address", address)
}
