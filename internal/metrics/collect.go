package metrics

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/redis"
	"holdfast/internal/supervise"
)

// collector gathers the metrics when Prometheus asks. It is safe for concurrent use.
type collector struct {
	stack    Stack
	version  string
	password string // the operator's password at Redis
	way      redis.Way
	only     string // the only node to report on; empty: all nodes, and the stack as a whole

	mu     sync.Mutex // held while it gathers
	last   []prometheus.Metric
	at     time.Time
	admins map[string]*redis.Admin // by address
	closed bool
}

func newCollector(stack Stack, version, password string, way redis.Way) *collector {
	return &collector{stack: stack, version: version, password: password, way: way, admins: map[string]*redis.Admin{}}
}

func (c *collector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, a := range c.admins {
		a.Close()
	}
}

// Describe implements prometheus.Collector. It describes nothing, because nodes come and go:
// which metrics there are is known only when they are gathered.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if time.Since(c.at) > fresh {
		g := &gathering{}
		c.gather(context.Background(), g)
		c.last, c.at = g.metrics, time.Now()
	}
	for _, m := range c.last {
		out <- m
	}
}

// gathering collects metrics. It is safe for concurrent use.
type gathering struct {
	mu      sync.Mutex
	metrics []prometheus.Metric
}

// add adds one value. Labels are names and values in turn.
func (g *gathering) add(m metric, value float64, labels ...string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	made := prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, names, nil), m.kind, value, values...)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.metrics = append(g.metrics, made)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds returns a time in seconds since 1970, as Prometheus needs it, or 0 for the zero time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// gather gathers all metrics. It asks all nodes at the same time.
func (c *collector) gather(ctx context.Context, g *gathering) {
	st, p := c.stack.Status(), c.stack.Plan()
	c.addStack(g, st)
	c.addNodes(g, st)
	addBackup(g, c.stack.StateDir())

	specs := map[string]plan.Process{}
	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			specs[process.Node] = process
		}
	}

	r := &replication{lags: map[string]behind{}, linked: map[string]bool{}}
	votes := &votes{}
	var asking sync.WaitGroup

	for _, n := range st.Nodes {
		if n.PID == 0 {
			continue
		}
		switch n.Kind {
		case plan.Redis:
			admin := c.admin(n.Address)
			asking.Go(func() { addRedis(ctx, g, n, admin, r) })
		case plan.Sentinel:
			admin := c.admin(n.Address)
			asking.Go(func() { addSentinel(ctx, g, n, admin, st.Stack, votes) })
		case plan.Web:
			if at := specs[n.Name].Admin; at != "" {
				asking.Go(func() { addWeb(ctx, g, n, at) })
			}
		case plan.Balancer:
			client := haproxy.NewClient(filepath.Join(c.stack.StateDir(), specs[n.Name].Probe.Socket))
			asking.Go(func() { addBalancer(ctx, g, n.Name, client) })
		}
	}

	asking.Wait()
	r.addTo(g, st)
	if c.only != "" {
		return // the supervisor of one node knows nothing about the others
	}
	r.addLinkedTo(g)
	if p.Stack.Redis.Enabled && p.Stack.Redis.Sentinels > 0 {
		g.add(sentinelsAgree, truth(votes.agree(p.Stack.Redis.Sentinels)))
	}
}

// admin returns the client of a redis node or Sentinel, which is kept between calls. The
// caller holds mu.
func (c *collector) admin(address string) *redis.Admin {
	a := c.admins[address]
	if a == nil {
		a = redis.NewAdmin(c.way, address, "operator", c.password)
		c.admins[address] = a
	}
	return a
}

// addStack adds the metrics of the stack as a whole.
func (c *collector) addStack(g *gathering, st supervise.Status) {
	g.add(stackInfo, 1, "stack", st.Stack, "version", c.version)
	if c.only != "" {
		return
	}

	g.add(stackReady, truth(st.Ready))
	for _, phase := range []supervise.Phase{supervise.PhaseStarting, supervise.PhaseRunning, supervise.PhaseStopping} {
		g.add(supervisorPhase, truth(st.Phase == phase), "phase", string(phase))
	}

	unserved := map[[2]string]bool{}
	for _, u := range st.Unserved {
		unserved[[2]string{u.App, u.Balancer}] = true
	}
	for _, app := range c.stack.Plan().Stack.AppNames() {
		for _, n := range st.Nodes {
			if n.Kind == plan.Balancer && n.State == supervise.Up {
				g.add(appServed, truth(!unserved[[2]string{app, n.Name}]), "app", app, "balancer", n.Name)
			}
		}
	}

	for _, v := range st.Virtual {
		g.add(virtualHolders, float64(len(v.Hosts)), "address", v.Address)
		for _, n := range st.Nodes {
			if n.Kind == plan.Keepalived {
				g.add(virtualHolder, truth(slices.Contains(v.Hosts, n.Host)), "address", v.Address, "node", n.Name, "host", n.Host)
			}
		}
	}

	for _, cert := range st.Certificates {
		if cert.Fingerprint != "" {
			g.add(certificateEnds, seconds(cert.Ends), "certificate", cert.File, "host", cert.Host)
		}
		g.add(certificateRefused, truth(cert.Refused != ""), "certificate", cert.File, "host", cert.Host)
	}

	g.add(generation, float64(st.Generation))
	g.add(changeRuns, truth(st.Change != nil))
	g.add(changeStopped, truth(st.Stopped != nil))

	t := c.stack.Tally()
	g.add(failovers, float64(t.Failovers))
	g.add(switchovers, float64(t.Switchovers), "result", "done")
	g.add(switchovers, float64(t.Failed), "result", "failed")
	g.add(switchovers, float64(t.Refused), "result", "refused")
	g.add(switchoverRuns, truth(t.Switching))
}

// states are all states of a node.
var states = []supervise.State{supervise.Starting, supervise.Up, supervise.Paused, supervise.Draining, supervise.Down, supervise.Failed}

// addNodes adds the metrics of each node and its processes.
func (c *collector) addNodes(g *gathering, st supervise.Status) {
	var pids []int

	nodes := slices.DeleteFunc(slices.Clone(st.Nodes), func(n supervise.NodeStatus) bool {
		return c.only != "" && n.Name != c.only
	})

	for _, n := range nodes {
		if n.PID != 0 {
			pids = append(pids, n.PID)
		}
	}

	figures := process.FiguresOf(pids...)
	for _, n := range nodes {
		about := []string{"node", n.Name, "kind", string(n.Kind), "app", n.App, "host", n.Host}
		g.add(nodeUp, truth(n.State == supervise.Up), about...)
		for _, state := range states {
			g.add(nodeState, truth(n.State == state), "node", n.Name, "state", string(state))
		}
		g.add(nodeRestarts, float64(n.Restarts), "node", n.Name)
		g.add(nodeCrashes, float64(n.Crashes), "node", n.Name)
		g.add(nodeSince, seconds(n.Since), "node", n.Name)

		if n.Kind == plan.Web {
			g.add(nodeInRotation, truth(n.State == supervise.Up && n.Excluded == ""), "node", n.Name, "app", n.App)
		}
		if n.Kind == plan.Redis {
			for _, role := range []string{"master", "replica"} {
				g.add(nodeRole, truth(n.Role == role), "node", n.Name, "role", role)
			}
		}

		f, known := figures[n.PID]
		if n.PID == 0 || !known {
			continue
		}
		g.add(nodeCPU, f.CPU.Seconds(), "node", n.Name)
		g.add(nodeMemory, float64(f.Memory), "node", n.Name)
		g.add(nodeFiles, float64(f.OpenFiles), "node", n.Name)
		g.add(nodeMaxFiles, float64(f.MaxFiles), "node", n.Name)
	}
}

// addWeb adds those metrics of one of Holdfast's own web nodes that matter to the whole stack.
func addWeb(ctx context.Context, g *gathering, n supervise.NodeStatus, admin string) {
	ctx, cancel := within(ctx)
	defer cancel()
	if web, err := ReadWeb(ctx, admin); err == nil && web.Wrote {
		g.add(inSync, float64(web.InSync), "node", n.Name)
	}
}

// behind is how far a replica is behind its master, as the master sees it.
type behind struct {
	bytes   int64
	seconds float64
}

// replication collects what the redis nodes report about each other.
type replication struct {
	mu     sync.Mutex
	lags   map[string]behind // by address
	linked map[string]bool   // by node
}

// addRedis adds the metrics of one redis node, and adds to r what it reports about others.
func addRedis(ctx context.Context, g *gathering, n supervise.NodeStatus, admin *redis.Admin, r *replication) {
	ctx, cancel := within(ctx)
	defer cancel()
	info, err := admin.Info(ctx)
	g.add(redisAnswers, truth(err == nil), "node", n.Name)
	if err != nil {
		return
	}

	number := func(name string) float64 {
		v, _ := strconv.ParseFloat(info[name], 64)
		return v
	}

	g.add(redisMemory, number("used_memory"), "node", n.Name)
	g.add(redisMaxMemory, number("maxmemory"), "node", n.Name)
	g.add(redisClients, number("connected_clients"), "node", n.Name)
	g.add(redisCommands, number("total_commands_processed"), "node", n.Name)
	g.add(redisEvicted, number("evicted_keys"), "node", n.Name)
	g.add(redisAOF, truth(info["aof_last_write_status"] == "ok" && info["aof_enabled"] == "1"), "node", n.Name)
	g.add(redisSnapshot, truth(info["rdb_last_bgsave_status"] == "ok"), "node", n.Name)

	r.mu.Lock()
	defer r.mu.Unlock()
	if info["role"] != "master" {
		r.linked[n.Name] = info["master_link_status"] == "up"
		return
	}

	offset := int64(number("master_repl_offset"))
	for name, value := range info {
		if !strings.HasPrefix(name, "slave") || !strings.HasPrefix(value, "ip=") {
			continue
		}
		fields := map[string]string{}
		for field := range strings.SplitSeq(value, ",") {
			k, v, _ := strings.Cut(field, "=")
			fields[k] = v
		}
		has, _ := strconv.ParseInt(fields["offset"], 10, 64)
		lag, _ := strconv.ParseFloat(fields["lag"], 64)
		r.lags[fields["ip"]+":"+fields["port"]] = behind{max(0, offset-has), lag}
	}
}

// addTo adds the metrics of the replicas. It is called after all nodes were asked.
func (r *replication) addTo(g *gathering, st supervise.Status) {
	for _, n := range st.Nodes {
		if n.Kind != plan.Redis {
			continue
		}
		if linked, is := r.linked[n.Name]; is {
			g.add(redisLinked, truth(linked), "node", n.Name)
		}
		if lag, known := r.lags[n.Address]; known {
			g.add(redisLagBytes, float64(lag.bytes), "node", n.Name)
			g.add(redisLagSeconds, lag.seconds, "node", n.Name)
		}
	}
}

// addLinkedTo adds the number of linked replicas. It is called after all nodes were asked.
func (r *replication) addLinkedTo(g *gathering) {
	online := 0
	for _, linked := range r.linked {
		online += int(truth(linked))
	}
	if len(r.linked)+len(r.lags) > 0 {
		g.add(redisReplicas, float64(online))
	}
}

// votes collects which master each Sentinel names.
type votes struct {
	mu    sync.Mutex
	names []string
}

// agree reports whether a majority of the Sentinels has answered, and all of these name the
// same master.
func (v *votes) agree(sentinels int) bool {
	for _, name := range v.names {
		if name != v.names[0] {
			return false
		}
	}
	return len(v.names) > sentinels/2
}

// addSentinel adds the metrics of one Sentinel, and adds its master to v.
func addSentinel(ctx context.Context, g *gathering, n supervise.NodeStatus, admin *redis.Admin, master string, v *votes) {
	ctx, cancel := within(ctx)
	defer cancel()
	view, err := admin.View(ctx, master)
	g.add(redisAnswers, truth(err == nil), "node", n.Name)
	if err != nil {
		return
	}
	g.add(sentinelEpoch, float64(view.Epoch), "node", n.Name)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.names = append(v.names, view.Address)
}
