package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/plan"
	"holdfast/internal/pod"
	"holdfast/internal/supervise"
)

// ready returns why the pod's node cannot serve, or nil.
func (p *podProcess) ready(sup *supervise.Supervisor) error {
	node, there := sup.Status().Node(p.pod.Node)
	switch {
	case !there:
		return fmt.Errorf("there is no %s", p.pod.Node)
	case node.State != supervise.Up:
		return fmt.Errorf("%s is %s: %s", node.Name, node.State, node.Detail)
	case p.pod.Kind == plan.Balancer && !p.hadServer.Load():
		return p.awaitServers(time.Now())
	}
	return nil
}

// awaitServers returns why a new balancer has no server yet; it finds its servers by DNS. A
// balancer that has had a server stays ready, because the other balancers would find no more
// servers than this one.
func (p *podProcess) awaitServers(now time.Time) error {
	_, port, err := net.SplitHostPort(p.file.Entry.Listen)
	if err != nil {
		return err
	}
	const path = "/healthz/live"
	host := net.JoinHostPort("127.0.0.1", port)
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + host + path)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Holdfast-Balancer") != "" {
		waits := p.programWaits(p.file.AppAt(http.MethodGet, host, path))
		if p.alone.Lasted(waits, now) < aloneFor {
			return errors.New("the balancer has found no server yet")
		}
	}
	p.hadServer.Store(true)
	return nil
}

// aloneFor is how long every probe has to find that a program waits for this balancer, before the
// balancer is ready without a server. It stays ready from then on, so one wrong answer of DNS or of
// the network must not decide.
const aloneFor = 10 * time.Second

// programWaits reports whether an application is a user's program that may wait for this balancer:
// DNS says that no pod of it is ready, and no other balancer leads to Redis. The program reaches Redis
// through a ready balancer, so this one must not wait for the program. It returns false if DNS does
// not tell.
func (p *podProcess) programWaits(app string) bool {
	if !slices.Contains(p.file.Programs(), app) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := p.services.Lookup(ctx, p.appName(app)); !pod.IsNoName(err) {
		return false
	}

	// This Service leads to ready balancers alone.
	name, port := plan.PodRedisMaster(p.file)
	return p.services.Nobody(ctx, inNamespace(name), port)
}

// control serves the commands that are run in the pod, such as 'holdfast status'.
func (p *podProcess) control(sup *supervise.Supervisor) (stop func() error, err error) {
	no := errors.New("the pods' part is Kubernetes' to change: delete the pod, or apply other manifests")
	return control.Start(p.state, control.Handler(sup,
		func(bool) error { return no }, func(string) error { return no }, func(control.InitRequest) error { return no }))
}
