package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/stack"
)

// probeResult is what one probe found.
type probeResult struct {
	proc   machine.Process
	began  time.Time
	live   bool // it responds
	ready  bool // it can serve
	role   string
	holds  string // see NodeStatus.Holds
	detail string // why it is not ready
	// idle is the address of the master, if a replica has not begun to connect to it; empty
	// otherwise.
	idle string
	// away is true if the node's host cannot be asked, so that nothing is known about the node.
	away bool
	// connected is true if the replica was told to connect to its master.
	connected bool
}

// probe checks whether a process is healthy.
func (s *Supervisor) probe(ctx context.Context, p plan.Process) probeResult {
	var err error
	r := probeResult{}
	switch p.Probe.Kind {
	case plan.ProbeHTTP:
		err = s.askHealth(ctx, p, p.Probe.Ready)
		var refusal *statusError
		switch {
		case err == nil:
			r.live = true
		case p.Probe.Live != "":
			r.live = s.askHealth(ctx, p, p.Probe.Live) == nil
		default:
			// A "not ready" response also shows that it is alive: it may be waiting for something else.
			r.live = errors.As(err, &refusal)
		}
	case plan.ProbeTCP:
		var conn net.Conn
		if conn, err = s.dialProbe(ctx, p); err == nil {
			conn.Close()
		}
		r.live = err == nil
	case plan.ProbeHAProxy:
		_, err = s.balancer(p).Info(ctx)
		r.live = err == nil
	case plan.ProbeRedis:
		var st redis.Standing
		if st, err = s.admin(p.Node).Standing(ctx); err == nil {
			r.live, r.role = true, "replica"
			if st.Master {
				r.role = "master"
			} else if !st.Linked {
				if st.Idle {
					r.idle = st.MasterAddress
				}
				err = fmt.Errorf("not in step with its master %s yet", st.MasterAddress)
			}
		}
	case plan.ProbeSentinel:
		err = s.probeSentinel(ctx, p)
		r.live = err == nil
	case plan.ProbeKeepalived:
		err = s.probeKeepalived(ctx, p, &r)
	default:
		err = fmt.Errorf("unknown probe %q", p.Probe.Kind)
	}
	r.ready = err == nil
	if err != nil {
		r.detail = err.Error()
	}
	if host := s.home(p.Node); !r.live && s.hosts.several && !host.Present(s.ctx) {
		r.away = true
	}
	return r
}

// fromNobody is the header of a connection that a proxy opens for itself: PROXY protocol,
// version 2, command LOCAL (HAProxy, doc/proxy-protocol.txt, section 2.2). The checks of
// balancers begin with it, too.
const fromNobody = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

// dialProbe connects to an application's node.
func (s *Supervisor) dialProbe(ctx context.Context, p plan.Process) (net.Conn, error) {
	conn, err := s.home(p.Node).Dial(ctx, "tcp", p.LocalAddress())
	if err != nil || !p.Probe.Proxy {
		return conn, err
	}
	if _, err := conn.Write([]byte(fromNobody)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// patience returns how long a probe may take. It is at least as long as a balancer's check, so
// that a node which responds in time for the balancers does so for the supervisor, too.
func (n *node) patience() time.Duration {
	return max(probeTimeout, n.spec().Probe.Timeout)
}

// hangLimit returns how long a node that was healthy may leave its liveness probe without a
// response; 0: for any time. One of Holdfast's own web nodes gets only the limit of a balancer
// if nothing but its end frees the requests that it holds (see freeClients): balancers then
// send these requests to another node.
func (n *node) hangLimit() time.Duration {
	p := n.spec()
	limit := p.Kind.Traits().HangLimit
	if p.Kind == plan.Web && n.sup.sessionsEnd.Load() && n.sup.stack().Apps[p.App].Kind() == stack.KV {
		limit = min(limit, plan.Balancer.Traits().HangLimit)
	}
	return limit
}

// probeLimit returns how long the next probe may take: no longer than until a hanging node is
// to be killed, but at least probeUp, so that the node can still respond.
func (n *node) probeLimit() time.Duration {
	hang := n.hangLimit()
	if hang == 0 || n.hungFrom.IsZero() {
		return n.patience()
	}
	return min(n.patience(), max(hang-time.Since(n.hungFrom), probeUp))
}

// enterService tells the balancers, in a goroutine of its own, that an application's node is up.
func (n *node) enterService() {
	n.enteringService = true
	proc := n.proc
	n.sup.tasks.Go(func() {
		n.sup.putIntoService(n.sup.ctx, n.spec().Node)
		select {
		case n.inService <- proc:
			n.sup.showRotation(n.sup.ctx)
		case <-n.gone:
		case <-n.sup.ctx.Done():
		}
	})
}

// probed handles the result of a probe.
func (n *node) probed(r probeResult) {
	if r.proc != n.proc || n.want != wantUp || !n.killAt.IsZero() {
		return // the probe was of a process that has ended or is being stopped
	}

	if r.away {
		n.hungFrom, n.detail = time.Time{}, "its host is away"
		if n.state == Up {
			n.state = Starting
		}
		return
	}

	n.connected = n.connected || r.connected
	if r.role != "" {
		role := r.role
		n.sup.statusBoard.update(n.spec().Node, func(s *NodeStatus) { s.Role, s.Holds = role, r.holds })
	}
	if r.role == "replica" && r.ready {
		n.sup.cold.Store(false)
	}
	if r.role == "master" {
		if err := n.sup.markBooted(); err != nil {
			// Until this is recorded, a later start would make redis-1 the first master again, whatever
			// data it has.
			r.ready, r.detail = false, fmt.Sprintf("cannot write down that the stack has booted: %v", err)
			if n.detail != r.detail {
				n.log.Error(r.detail)
			}
		}
	}

	if r.ready {
		if n.upSince.IsZero() {
			n.upSince = time.Now()
			n.deadAt = time.Time{}
			if n.spec().Kind.Traits().Rotates {
				n.enterService()
			}
			if n.spec().Kind == plan.Redis && !n.sup.hosts.apart {
				// It may run with settings that keep it from taking writes: see untilCopied. An earlier
				// supervisor may have left them, too. In pods, another pod's switchover may need them.
				n.sup.unsettled.Store(true)
			}
		}
		if n.died > 0 && time.Since(n.upSince) > calm {
			n.died = 0
		}
		n.state, n.detail, n.hungFrom = Up, "", time.Time{}
		n.settle()
		return
	}

	n.detail, n.inherited = r.detail, record{}
	if n.state == Up {
		n.state = Starting
	}
	switch {
	case n.proc.Stopped():
		n.state, n.detail = Paused, "stopped by a signal"
	case n.state == Paused:
		n.state = Starting
	}
	if r.live {
		n.hungFrom = time.Time{}
		return
	}
	// A process that was healthy and hangs now is killed, so that a new one takes its place.
	if n.hungFrom.IsZero() {
		// If the supervisor itself was suspended, that time does not count as waiting.
		n.hungFrom = time.Now().Add(-min(time.Since(r.began), n.patience()))
	}
	if limit := n.hangLimit(); limit > 0 && !n.upSince.IsZero() && time.Since(n.hungFrom) >= limit {
		n.log.Error("does not answer: killed", "for", time.Since(n.hungFrom), "probe", r.detail)
		n.proc.SignalGroup(syscall.SIGKILL)
		n.hungFrom = time.Time{}
	}
}

// connect makes a replica that was just started connect to its master at once; by itself it
// would do so within a second. It reports whether the replica was told. While it holds
// switching, nothing changes the master.
func (s *Supervisor) connect(ctx context.Context, node, master string) bool {
	if !s.switching.TryLock() {
		return false
	}
	defer s.switching.Unlock()
	// The replica refuses while it loads its data.
	return s.admin(node).Connect(ctx, master) == nil
}

// balancer returns a client of a balancer's runtime socket.
func (s *Supervisor) balancer(p plan.Process) *haproxy.Client {
	return haproxy.NewClient(s.home(p.Node).Path(p.Probe.Socket)).Via(s.socket(p.Node, p.Probe.Socket))
}

// socket returns a function that connects to a unix socket of a node.
func (s *Supervisor) socket(node, name string) haproxy.Dial {
	return func(ctx context.Context) (net.Conn, error) { return s.home(node).Dial(ctx, "unix", name) }
}

// leftoverBalancer returns the pid of a balancer that still runs in the place of the one about to
// start; 0: there is none. A supervisor that was killed between the start of a process and its
// record leaves such a balancer. For other kinds of nodes the taken port would make the start
// fail; the balancers' port is shared.
func (s *Supervisor) leftoverBalancer(ctx context.Context, p plan.Process) int {
	if p.Probe.Kind != plan.ProbeHAProxy {
		return 0
	}
	// If no balancer runs, the connection is refused at once.
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	info, err := s.balancer(p).Info(ctx)
	if err != nil {
		return 0
	}
	return info.PID
}
