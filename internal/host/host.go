// Package host is one host's part in a stack of several. It has the host's identity, its
// vote in what the hosts agree on, and its agent; it serves all of them, and the control
// API, at one port over mutual TLS.
//
// The hosts agree on one of them that leads. The leader runs the supervisor, for the nodes
// of every host, by the machines that the agents of the others are. What a supervisor
// writes down about the stack (stack.json, running.json, change.json and so on) is what
// the hosts agree on, and each of them has a copy in its state directory: a new leader
// goes on where the former one was, as a supervisor does after a crash.
//
//   - host.go: the parts, and how they run together. listen.go: one port for all.
//   - roster.go: which hosts there are. shared.go: the files that all hosts have.
//   - claim.go: one process for each host. list.go: what a host says of all. meet.go: who is
//     at an address.
//   - found.go: the first host. admit.go: how others join and leave. leave.go: how a host
//     hears that it was removed. down.go: how all of them end. rest.go: how one of them does.
//   - lead.go: the machines of a leader. forward.go: what the leader is asked. at.go: what each
//     host is asked about itself.
package host

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/agent"
	"holdfast/internal/agree"
	"holdfast/internal/identity"
	"holdfast/internal/machine"
)

// Port is where the hosts reach each other, if nothing else was said.
const Port = 6300

// Config is what a host is run with.
type Config struct {
	// State is the stack's state directory; absolute.
	State string
	// Version is that of Holdfast, and Self the path of its program.
	Version, Self string
	// Lead is called when this host leads, and returns when its context has ended: then
	// another one may lead already. It is called anew when the hosts of the stack change.
	Lead func(ctx context.Context, l Leadership) error
	// Own answers what only this host knows about itself, for any host: see AtPath. Nil:
	// nothing.
	Own http.Handler
	Log *slog.Logger
}

// Host is one host of a stack while it runs. Its methods are safe for concurrent use.
type Host struct {
	cfg    Config
	self   Self
	keeper *identity.Keeper
	trust  *identity.Trust

	local  *machine.Local
	terms  *agent.Terms
	agent  *agent.Server
	port   *port
	web    *http.Server
	member *agree.Member

	// changed is closed, and made anew, when the roster changes.
	mu      sync.Mutex
	roster  roster
	changed chan struct{}
	turn    int // of anyOther
	// voting is held while votes are given and taken: by a host that leads.
	voting sync.Mutex
	// term is that of this host's leadership; 0: it does not lead. api is what answers
	// then; nil: the supervisor has not begun.
	term uint64
	api  http.Handler

	passing passing

	// opened is the last entry of the log when this host was opened. down is closed when the
	// stack was taken down since, and gone when this host was removed from it.
	opened   uint64
	down     chan struct{}
	downOnce sync.Once
	purged   atomic.Bool
	gone     chan struct{}
	doubts   chan struct{}
	goneOnce sync.Once
	// run is this process, and rest is closed when it is to end for maintenance.
	run      string
	rest     chan struct{}
	restOnce sync.Once

	tasks sync.WaitGroup
	life  context.Context
	halt  context.CancelFunc
}

// Open begins this host's part in its stack. ErrNotJoined: it has none.
func Open(cfg Config) (h *Host, err error) {
	h = &Host{
		cfg: cfg, changed: make(chan struct{}), doubts: make(chan struct{}, 1),
		down: make(chan struct{}), gone: make(chan struct{}), rest: make(chan struct{}), run: rand.Text(),
	}
	if h.self, err = ReadSelf(cfg.State); err != nil {
		return nil, err
	}
	h.life, h.halt = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	if err := h.openIdentity(); err != nil {
		return nil, err
	}
	h.local = machine.NewLocal(cfg.State)
	h.terms = &agent.Terms{Known: func() uint64 { return h.member.Status().Term }}
	h.agent = agent.NewServer(h.local, cfg.Self, h.terms)
	listener, err := net.Listen("tcp", h.self.Address.String())
	if err != nil {
		return nil, fmt.Errorf("host %s cannot listen where the other hosts reach it: %w", h.self.Name, err)
	}
	h.port = newPort(listener, h.serverTLS(), cfg.Log)
	begun := make(chan struct{})
	defer close(begun)
	h.member, err = agree.Start(agree.Config{
		Dir: agreeDir(cfg.State), Name: h.self.Name, Address: h.self.name(),
		Listener: h.port.agreement, Dial: h.dialAgreement,
		Lead: func(ctx context.Context, term uint64) {
			<-begun
			h.lead(ctx, term)
		},
		Log: cfg.Log.With("part", "agreement"),
	})
	if err != nil {
		return nil, err
	}
	h.opened = h.member.Status().Last
	h.recall()
	h.web = identity.NewServer(h.handler(), nil, cfg.Log)
	h.web.ConnState = h.port.webState
	h.port.admits = h.admits
	h.port.onMachine = func(conn *tls.Conn) { h.serveMachine(conn) }
	h.tasks.Go(func() { _ = h.web.Serve(h.port.web) }) // ends with the port
	h.tasks.Go(h.port.serve)
	h.tasks.Go(h.follow)
	h.tasks.Go(func() { h.keeper.Run(h.life, h.renewed) })
	h.tasks.Go(h.enter)
	h.tasks.Go(h.watchMembership)
	return h, nil
}

// Self is who this host is.
func (h *Host) Self() Self { return h.self }

// Done is closed when the host's part has ended by itself: see Err.
func (h *Host) Done() <-chan struct{} { return h.member.Done() }

// Err is why the host's part has ended by itself.
func (h *Host) Err() error { return h.member.Err() }

// Close ends this host's part. If it leads, another host does after it. The nodes go on
// running.
func (h *Host) Close() {
	if h.member != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		_ = h.member.Stop(ctx) // what it has not done by then ends with the process
	}
	h.halt()
	if h.web != nil {
		_ = h.web.Close()
	}
	h.passing.close()
	if h.port != nil {
		h.port.close()
	}
	if h.agent != nil {
		_ = h.agent.Close()
	}
	h.tasks.Wait()
	if h.local != nil {
		_ = h.local.Close()
	}
}

// closeLimit is how long a leader may take to hand over when it ends.
const closeLimit = 10 * time.Second

func (h *Host) openIdentity() error {
	dir, err := identity.OpenDir(identityDir(h.cfg.State))
	if err != nil {
		return err
	}
	if h.keeper, err = identity.NewKeeper(dir, h.renew, time.Now); err != nil {
		return fmt.Errorf("the certificate of host %s: %w", h.self.Name, err)
	}
	h.trust, err = identity.NewTrust(h.keeper.Credentials().Authority, h.removed, time.Now)
	return err
}

// renewed is told when the host's certificate was renewed, or why it was not.
func (h *Host) renewed(_ []string, err error) {
	if err != nil {
		h.cfg.Log.Error("the certificate of this host was not renewed", "error", err)
		return
	}
	h.cfg.Log.Info("the certificate of this host was renewed")
}

// Renew renews the certificate of this host now.
func (h *Host) Renew(ctx context.Context) (until time.Time, err error) {
	_, err = h.keeper.Renew(ctx)
	h.renewed(nil, err)
	return h.keeper.Credentials().Certificate.NotAfter, err
}

// serverTLS is for what comes to this host's port.
func (h *Host) serverTLS() *tls.Config {
	return identity.AdmitJoins(h.trust.Server(h.keeper, protocols...), h.keeper)
}

// connect connects to another host, for one of the protocols.
func (h *Host) connect(ctx context.Context, name, protocol string) (net.Conn, error) {
	at, known := h.addressOf(name)
	if !known {
		return nil, fmt.Errorf("host %s has not joined yet", name)
	}
	d := tls.Dialer{
		NetDialer: &net.Dialer{KeepAliveConfig: keepAlive, Control: limitUnsent},
		Config:    h.trust.Client(h.keeper, name, protocol),
	}
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, h.trust.Explain(err, "host "+name)
	}
	if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != protocol {
		_ = conn.Close() // the error is the one to tell
		return nil, fmt.Errorf("host %s does not speak %s: it may be of another version of Holdfast", name, protocol)
	}
	return conn, nil
}

// keepAlive has a connection to a host that has vanished end soon.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}

// dialAgreement connects to a member. Its address is the host's name, with a port that
// says nothing: so a host may move to another address.
func (h *Host) dialAgreement(ctx context.Context, address string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return h.connect(ctx, name, agreementProtocol)
}

// serveMachine answers a leader that works on this host.
func (h *Host) serveMachine(conn *tls.Conn) {
	if err := h.agent.Serve(conn); err != nil && !errors.Is(err, net.ErrClosed) {
		h.cfg.Log.Debug("a leader's connection has ended", "from", conn.RemoteAddr(), "why", err)
	}
}

// addressOf is where a host is reached.
func (h *Host) addressOf(name string) (netip.AddrPort, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, known := h.roster.Hosts[name]
	return m.Address, known
}

// removed reports whether the owner of a certificate is not one of the hosts any more.
func (h *Host) removed(p identity.Peer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roster.removed(p)
}
