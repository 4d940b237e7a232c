package examine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/doctor"
	"holdfast/internal/haproxy"
	"holdfast/internal/metrics"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/servers"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// askAll asks all running nodes concurrently.
func (e *examination) askAll(ctx context.Context) {
	var asking sync.WaitGroup
	asking.Go(func() { e.installed(ctx) })
	for i, p := range e.processes() {
		n := &e.facts.Nodes[i] // in the same order
		if n.Process == nil || n.Process.Stopped || p.Kind == plan.Balancer && e.elsewhere[p.Node] != "" {
			continue
		}
		asking.Go(func() {
			if err := e.ask(ctx, p, n); err != nil {
				n.Silent = err.Error()
			}
		})
	}
	asking.Wait()
	for i, p := range e.processes() {
		if n := &e.facts.Nodes[i]; n.Version != "" && e.elsewhere[p.Node] == "" {
			n.Installed = e.versions[p.Program]
		}
	}
}

// installed asks the installed server programs for their versions.
func (e *examination) installed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	for _, program := range []plan.Program{plan.HAProxy, plan.RedisProgram(e.seen.Plan.Stack.Redis)} {
		is, path, err := supervise.Installed(ctx, program, e.StateDir)
		if err != nil {
			e.unseen("the installed version of "+program.String(), err.Error())
		}
		e.versions[program] = is.Version
		if program == plan.HAProxy && path != "" && len(e.seen.Plan.Stack.Programs()) > 0 {
			out, err := exec.CommandContext(ctx, path, "-vv").Output()
			e.facts.NoLua = err == nil && !builtWithLua(string(out))
		}
	}
}

// builtWithLua reports whether a HAProxy has Lua, by the output of 'haproxy -vv'.
func builtWithLua(says string) bool { return strings.Contains(says, " +LUA ") }

// ask asks one node. Its error is why the node does not answer.
func (e *examination) ask(ctx context.Context, p plan.Process, n *doctor.Node) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	var err error
	switch p.Kind {
	case plan.Redis:
		err = e.askRedis(ctx, p, n)
	case plan.Sentinel:
		err = e.askSentinel(ctx, n)
	case plan.Balancer:
		err = e.askBalancer(ctx, p, n)
	case plan.Web:
		err = e.askWeb(ctx, p, n)
	}
	if err != nil && ctx.Err() != nil && !redis.Spoke(err) {
		return context.Cause(ctx)
	}
	return err
}

func (e *examination) askRedis(ctx context.Context, p plan.Process, n *doctor.Node) error {
	admin := redis.NewAdmin(e.way, n.Address, "operator", e.secrets.Operator)
	defer admin.Close()
	r := &doctor.Redis{Wanted: doctor.Settings(e.contentOf(p.Node, "base.conf"))}
	asked := time.Now()
	info, err := admin.Info(ctx)
	if err != nil {
		return err
	}
	r.Info = info
	if micros, err := strconv.ParseInt(info["server_time_usec"], 10, 64); err == nil {
		now := time.Now()
		r.Ahead = time.UnixMicro(micros).Sub(asked.Add(now.Sub(asked) / 2))
	}
	is, _ := servers.OfInfo(info)
	n.Server, n.Version = is.Name, is.Version
	standing, err := admin.Standing(ctx)
	if err != nil {
		return err
	}
	r.Master, r.Follows, r.Linked, r.Offset = standing.Master, standing.MasterAddress, standing.Linked, standing.Offset
	if r.Settings, err = e.settings(ctx, admin); err != nil {
		return err
	}
	n.Redis = r
	return nil
}

// moving are the settings that a switchover changes for a moment, with the values that it gives
// them.
var moving = map[string]string{"min-replicas-to-write": "1000", "repl-ping-replica-period": "3600", "replica-priority": "1"}

// settings asks a redis node for its settings. If a switchover under way may have changed them, it
// asks again for a while.
func (e *examination) settings(ctx context.Context, admin *redis.Admin) (map[string]string, error) {
	for {
		settings, err := admin.Settings(ctx)
		if err != nil || e.facts.Supervisor.PID == 0 {
			return settings, err
		}
		settled := true
		for name, value := range moving {
			settled = settled && settings[name] != value
		}
		if settled {
			return settings, nil
		}
		if !clock.Sleep(ctx, patience/5) {
			return settings, nil
		}
		if deadline, _ := ctx.Deadline(); time.Until(deadline) < patience/4 {
			return settings, nil // no switchover takes that long
		}
	}
}

func (e *examination) askSentinel(ctx context.Context, n *doctor.Node) error {
	admin := redis.NewAdmin(e.way, n.Address, "operator", e.secrets.Operator)
	defer admin.Close()
	name := e.Config.Stack.Name
	view, err := admin.View(ctx, name)
	if err != nil {
		return err
	}
	watching, err := admin.Watching(ctx, name)
	if err != nil {
		return err
	}
	info, err := admin.Info(ctx)
	if err != nil {
		return err
	}
	is, _ := servers.OfInfo(info)
	n.Server, n.Version = is.Name, is.Version
	n.Sentinel = &doctor.Sentinel{
		Master: view.Address, Epoch: view.Epoch, Failing: view.Failing, Down: view.Down,
		Quorum: watching.Quorum, Replicas: view.Replicas, Others: view.Others,
		DownAfter: watching.DownAfter, Timeout: watching.Timeout, Unable: watching.Unable,
		Tilt: info["sentinel_tilt"] == "1",
	}
	return nil
}

func (e *examination) askBalancer(ctx context.Context, p plan.Process, n *doctor.Node) error {
	client := haproxy.NewClient(filepath.Join(e.StateDir, p.Probe.Socket))
	info, err := client.Info(ctx)
	if err != nil {
		return err
	}
	stats, err := client.Stat(ctx)
	if err != nil {
		return err
	}
	n.Server, n.Version = servers.HAProxy, info.Version
	n.Balancer = &doctor.Balancer{Connections: info.Connections, MaxConnections: info.MaxConnections, Stopping: info.Stopping}
	for _, s := range stats {
		if s.IsServer() {
			n.Balancer.Servers = append(n.Balancer.Servers, doctor.Server{
				Backend: s.Backend, Name: s.Server, App: appOf(e.Config.Stack, s.Backend),
				Serves: s.Serves(), State: s.State(), Finding: s.Finding(),
			})
		}
	}
	return nil
}

// appOf returns the application of a proxy of the balancers (package plan's haproxy.cfg); empty: it
// has none.
func appOf(s stack.Stack, proxy string) string {
	if _, there := s.Apps[proxy]; there {
		return proxy
	}
	if number, ok := strings.CutPrefix(proxy, "tcp."); ok {
		if i, err := strconv.Atoi(number); err == nil && i >= 1 && i <= len(s.TCP) {
			return s.TCP[i-1].App
		}
	}
	return ""
}

// askWeb checks that an application's node answers. It asks one of Holdfast's own web nodes what it
// sees of Redis.
func (e *examination) askWeb(ctx context.Context, p plan.Process, n *doctor.Node) error {
	if p.Local != "" && e.elsewhere[p.Node] != "" {
		return listens(ctx, n.Address) // it speaks TLS with the balancers only; the supervisor knows its state
	}
	if err := answers(ctx, p, cmp.Or(p.Local, n.Address)); err != nil {
		return err
	}
	if e.Config.Stack.Apps[p.App].Kind() != stack.KV || e.elsewhere[p.Node] != "" {
		return nil
	}
	if p.Admin == "" {
		e.unseen("the in-sync set of "+p.Node, "its metrics are off (apps."+p.App+".kv.admin)")
		return nil
	}
	web, err := metrics.ReadWeb(ctx, p.Admin)
	if err != nil {
		e.unseen("the in-sync set of "+p.Node, err.Error())
		return nil
	}
	n.Web = (*doctor.Web)(&web)
	return nil
}

// answers sends a node the request of its health check. Any answer will do, even that it is not
// ready.
func answers(ctx context.Context, p plan.Process, address string) error {
	if p.Probe.Kind != plan.ProbeHTTP {
		return listens(ctx, address)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+p.Probe.Ready, nil)
	if err != nil {
		return err
	}
	req.Host, req.Close = p.Probe.Host, true
	resp, err := noRedirects.Do(req)
	if err != nil {
		return unwrapped(err)
	}
	return resp.Body.Close()
}

// listens returns an error unless something listens at an address.
func listens(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return err
}

// noRedirects is an HTTP client that follows no redirects and keeps no connection open.
var noRedirects = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// unwrapped returns the error of a request without the URL around it.
func unwrapped(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// contentOf returns the content that the plan has for a file of a node.
func (e *examination) contentOf(node, name string) string {
	for _, h := range e.seen.Plan.Hosts {
		for _, f := range h.Files {
			if f.Path == filepath.Join("nodes", node, name) {
				return f.Content
			}
		}
	}
	return ""
}
