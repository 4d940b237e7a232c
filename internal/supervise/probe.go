package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/redis"
)

// hangLimit is how long a node that was well may leave its liveness probe
// unanswered before it is killed. A hung balancer still has its share of new
// connections given to it by the kernel (SO_REUSEPORT), so nobody else can
// take it out. A redis node is not killed: it may be busy with its disk, and
// the Sentinels replace a master that is silent.
var hangLimit = map[plan.Kind]time.Duration{
	plan.Balancer: 3 * time.Second,
	plan.Web:      10 * time.Second,
	plan.Sentinel: 10 * time.Second,
}

// Sentinels ask for INFO and tell of themselves this often, so that they know
// of a new replica, and how far each one is, within a second.
const (
	infoPeriod    = 500 * time.Millisecond
	publishPeriod = time.Second
)

// pingPeriod is how often Sentinels ping. By default they do so as often as a
// node may be silent: after each change of the master, when they connect anew
// and count the silence from then on, the first ping comes as late as the
// verdict, and a healthy new master may be held for down. It must not be much
// shorter either: in a failover a replica is only eligible when its INFO is no
// older than five pings, and that is asked for once a second
// (sentinelSelectSlave in Redis 7.0).
func pingPeriod(downAfter time.Duration) time.Duration {
	return min(max(downAfter/2, 250*time.Millisecond), time.Second)
}

// probeResult is what one probe found.
type probeResult struct {
	proc   *process.Process
	live   bool // it answers
	ready  bool // it can serve
	role   string
	detail string // why it is not ready
}

// probe asks a process whether it is well.
func (s *Supervisor) probe(ctx context.Context, p plan.Process) probeResult {
	var err error
	r := probeResult{}
	switch p.Probe.Kind {
	case plan.ProbeHTTP:
		err = httpOK(ctx, p.Address, p.Probe.Ready)
		r.live = err == nil
		if err != nil && p.Probe.Live != "" {
			r.live = httpOK(ctx, p.Address, p.Probe.Live) == nil
		}
	case plan.ProbeTCP:
		var conn net.Conn
		var d net.Dialer
		if conn, err = d.DialContext(ctx, "tcp", p.Address); err == nil {
			conn.Close()
		}
		r.live = err == nil
	case plan.ProbeHAProxy:
		err = s.probeBalancer(ctx, p)
		r.live = err == nil
	case plan.ProbeRedis:
		var st redis.Standing
		if st, err = s.admins[p.Node].Standing(ctx); err == nil {
			r.live, r.role = true, "replica"
			if st.Master {
				r.role = "master"
			} else if !st.Linked {
				err = fmt.Errorf("not in step with its master %s yet", st.MasterAddress)
			}
		}
	case plan.ProbeSentinel:
		err = s.probeSentinel(ctx, p)
		r.live = err == nil
	default:
		err = fmt.Errorf("unknown probe %q", p.Probe.Kind)
	}
	r.ready = err == nil
	if err != nil {
		r.detail = err.Error()
	}
	return r
}

// httpOK asks for a path and wants a 2xx or 3xx, as HAProxy's check does.
func httpOK(ctx context.Context, address, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	resp, err := probeClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("%s answers %s: %s", path, resp.Status, body)
	}
	return nil
}

// probeClient makes a connection for each probe, so that a probe also sees
// whether new ones are accepted, and follows no redirect.
var probeClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (s *Supervisor) probeBalancer(ctx context.Context, p plan.Process) error {
	c := haproxy.NewClient(s.dir.path(p.Probe.Socket))
	_, err := c.Info(ctx)
	return err
}

// probeSentinel asks a Sentinel for its view; a Sentinel that is new to this
// supervisor is given its periods first.
func (s *Supervisor) probeSentinel(ctx context.Context, p plan.Process) error {
	admin := s.admins[p.Node]
	pid := 0
	if st, ok := s.board.snapshot().Node(p.Node); ok {
		pid = st.PID
	}
	s.hastenedMu.Lock()
	done := s.hastened[p.Node] == pid && pid != 0
	s.hastenedMu.Unlock()
	if !done {
		if err := admin.Hasten(ctx, infoPeriod, publishPeriod, pingPeriod(s.cfg.Stack.Redis.DownAfter)); err != nil {
			return err
		}
		s.hastenedMu.Lock()
		s.hastened[p.Node] = pid
		s.hastenedMu.Unlock()
	}
	_, err := admin.View(ctx, s.plan.Name)
	return err
}

// gather asks all Sentinels and redis nodes at once, and waits at most wait.
func (s *Supervisor) gather(ctx context.Context, wait time.Duration) facts {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	type answer struct {
		node     string
		view     *redis.View
		standing *redis.Standing
	}
	f := facts{Nodes: map[string]string{}, Standings: map[string]redis.Standing{}}
	answers := make(chan answer, len(s.nodes))
	asked := 0
	for name, n := range s.nodes {
		switch n.spec.Kind {
		case plan.Sentinel:
			f.Sentinels++
			asked++
			s.tasks.Go(func() {
				v, err := s.admins[name].View(ctx, s.plan.Name)
				if err != nil {
					answers <- answer{node: name}
					return
				}
				answers <- answer{node: name, view: &v}
			})
		case plan.Redis:
			f.Nodes[name] = n.spec.Address
			asked++
			s.tasks.Go(func() {
				st, err := s.admins[name].Standing(ctx)
				if err != nil {
					answers <- answer{node: name}
					return
				}
				answers <- answer{node: name, standing: &st}
			})
		}
	}
	for range asked {
		select {
		case a := <-answers:
			if a.view != nil {
				f.Views = append(f.Views, *a.view)
			}
			if a.standing != nil {
				f.Standings[a.node] = *a.standing
			}
		case <-ctx.Done():
			return f
		}
	}
	return f
}

// errTimeout is for waits that ended without their goal.
var errTimeout = errors.New("timed out")
