// Package host runs one host of a stack of several. A host consists of its identity, its vote
// in the agreement (package agree), its agent, through which a leader works on this machine,
// and the control API. All of them are served at one port over mutual TLS.
//
// The hosts elect one leader. The leader runs the supervisor for the nodes of every host, and
// reaches the other machines through their agents. What the supervisor records about the stack
// (stack.json, running.json, change.json and so on) are documents that the hosts agree on. Each
// host keeps copies in its state directory. So a new leader continues where the former one
// stopped, as a supervisor does after a crash.
//
//   - host.go opens a host and runs its parts. listen.go is the port; admits.go and
//     strangers.go decide who may use it.
//   - roster.go is the list of hosts; shared.go the files that all hosts have copies of.
//   - initfirst.go makes the first host, seat.go a host with a pass; admit.go joins others, and
//     leave.go removes them.
//   - down.go ends all hosts, rest.go one of them; claim.go keeps it at one process per host.
//   - lead.go is what a leader works with; forward.go forwards requests to the leader, and
//     at.go to one certain host.
//   - list.go is one host's view of all; meet.go asks who is at an address.
//
// The supervisor itself (package supervise) and the work on a machine (packages agent and
// machine) do not live here.
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

// Port is the default port at which the hosts reach each other.
const Port = 6300

// Config is what Open needs to run a host.
type Config struct {
	// State is the absolute path of the stack's state directory.
	State string
	// Version is the version of Holdfast, and Self the path of its program.
	Version, Self string
	// Lead is called when this host leads. It must return when its context ends, because
	// then another host may lead already. It is called again when the hosts of the stack
	// change.
	Lead func(ctx context.Context, l Leadership) error
	// Own serves the requests below AtPath that name this host. If it is nil, they get 404.
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

	// mu guards roster, rosterChanged, turn, term and api. rosterChanged is closed and replaced
	// when the roster changes.
	mu            sync.Mutex
	roster        roster
	rosterChanged chan struct{}
	turn          int // the position of anyOther
	// voting is held by a leader while it gives or takes a vote.
	voting sync.Mutex
	// term is the term in which this host leads, or 0. Api is the supervisor's control API
	// while this host leads; it is nil until the supervisor has started.
	term uint64
	api  http.Handler

	passing passing

	// opened is the index of the last entry in the log when this host was opened. Down is
	// closed when the stack is taken down after that, and gone when this host is removed.
	// Doubts tells watchMembership that this host may have been removed.
	opened   uint64
	down     chan struct{}
	downOnce sync.Once
	purged   atomic.Bool
	gone     chan struct{}
	doubts   chan struct{}
	goneOnce sync.Once
	// run is a random name of this process, and rest is closed when it is to end for
	// maintenance.
	run      string
	rest     chan struct{}
	restOnce sync.Once

	tasks sync.WaitGroup
	life  context.Context
	halt  context.CancelFunc
}

// Open starts the host of a state directory. The error is ErrNotJoined if the directory is not
// that of a host of several.
func Open(cfg Config) (h *Host, err error) {
	h = &Host{
		cfg: cfg, rosterChanged: make(chan struct{}), doubts: make(chan struct{}, 1),
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

// Self returns this host's name, stack and address.
func (h *Host) Self() Self { return h.self }

// Done returns a channel that is closed when the host's vote has ended by itself, for example
// because its disk failed: see Err.
func (h *Host) Done() <-chan struct{} { return h.member.Done() }

// Err returns why the host's vote has ended by itself.
func (h *Host) Err() error { return h.member.Err() }

// Close ends this host and waits until all its parts have ended. If it leads, it first hands
// over to another host, for at most closeLimit. The nodes go on running.
func (h *Host) Close() {
	if h.member != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		_ = h.member.Stop(ctx) // what is left then ends with the process
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

// closeLimit is how long a leader may take to hand over when it closes.
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

// renewed logs that the host's certificate was renewed, or why not.
func (h *Host) renewed(_ []string, err error) {
	if err != nil {
		h.cfg.Log.Error("the certificate of this host was not renewed", "error", err)
		return
	}
	h.cfg.Log.Info("the certificate of this host was renewed")
}

// Renew renews this host's certificate now, and returns when the certificate in use expires.
func (h *Host) Renew(ctx context.Context) (until time.Time, err error) {
	_, err = h.keeper.Renew(ctx)
	h.renewed(nil, err)
	return h.keeper.Credentials().Certificate.NotAfter, err
}

// serverTLS returns the TLS settings of this host's port.
func (h *Host) serverTLS() *tls.Config {
	return identity.AdmitJoins(h.trust.Server(h.keeper, protocols...), h.keeper)
}

// connect opens a connection to another host for one of the protocols.
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
		_ = conn.Close() // the error below matters more
		return nil, fmt.Errorf("host %s does not speak %s: it may be of another version of Holdfast", name, protocol)
	}
	return conn, nil
}

// keepAlive closes a connection to a host that has vanished within a few seconds.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}

// dialAgreement connects to a member of the agreement. The address is the host's name with a
// port that is ignored; the roster has the real address. So a host can move to another address
// without a change of the agreement's members.
func (h *Host) dialAgreement(ctx context.Context, address string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return h.connect(ctx, name, agreementProtocol)
}

// serveMachine serves a leader that works on this machine, until the connection ends.
func (h *Host) serveMachine(conn *tls.Conn) {
	if err := h.agent.Serve(conn); err != nil && !errors.Is(err, net.ErrClosed) {
		h.cfg.Log.Debug("a leader's connection has ended", "from", conn.RemoteAddr(), "why", err)
	}
}

// addressOf returns the address of a host, and whether the host is in the roster.
func (h *Host) addressOf(name string) (netip.AddrPort, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, known := h.roster.Hosts[name]
	return m.Address, known
}

// removed reports whether the owner of a certificate is a host that was removed.
func (h *Host) removed(p identity.Peer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roster.removed(p)
}
