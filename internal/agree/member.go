package agree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// How much of the log is kept: enough that a member that was away for a moment
// needs no snapshot, and so little that the file stays small.
const (
	snapshotEvery    = 1024 // entries, see also compactAfter
	snapshotInterval = 30 * time.Second
	trailingEntries  = 16
)

// Config is what Start needs to run a member.
type Config struct {
	// Dir is the directory of the member's file, and of nothing else. It is made if
	// it does not exist.
	Dir string
	// Name is the host's name: letters, digits, dots, dashes and underscores, at most
	// 100 bytes.
	Name string
	// Address is the address of Listener, HOST:PORT, as the others pass it to Dial.
	Address string
	// Listener accepts the connections of the other members. Start takes it over: it
	// is closed when Start fails or the member stops.
	Listener net.Listener
	// Dial opens a connection to another member's Listener. It must be safe for
	// concurrent use.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Lead is called when this member leads; see Member. It may be nil.
	Lead func(ctx context.Context, term uint64)
	// Log receives what an operator should know. It may be nil.
	Log *slog.Logger
}

func (c *Config) check() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Lead == nil {
		c.Lead = func(ctx context.Context, _ uint64) { <-ctx.Done() }
	}
	if err := checkHost(c.Name); err != nil {
		return err
	}
	return checkAddress(c.Address)
}

func checkHost(name string) error {
	strange := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_", r))
	}
	if name == "" || len(name) > 100 || strings.ContainsFunc(name, strange) {
		return fmt.Errorf("%q is no name of a member: letters, digits, dots and dashes", name)
	}
	return nil
}

func checkAddress(address string) error {
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return fmt.Errorf("%q is no address of a member: it wants HOST:PORT", address)
	}
	return nil
}

// Member is this host's part in the agreement.
//
// While it leads, Config.Lead runs, in one goroutine at most. Term is the number
// of this leadership: it is higher than all earlier ones, and each write has to
// carry it. When Lead is called, all that earlier leaders wrote can be read. The
// context ends as soon as the leadership does (context.Cause returns why), and
// Lead must return then. If Lead returns earlier, another member is asked to lead.
// If none can, Lead is called again, with the same term.
//
// All methods are safe for concurrent use.
type Member struct {
	cfg       Config
	store     *store
	streams   *streams
	documents *documents
	raft      *raft.Raft
	changing  sync.Mutex // one change of the members at a time

	notify   chan bool // from raft: whether this member leads
	compact  chan struct{}
	stopping context.Context
	stop     context.CancelCauseFunc
	done     chan struct{}
	work     sync.WaitGroup
	wall     func() time.Time // without the monotonic clock; for tests

	mu     sync.Mutex
	err    error // why it stopped by itself
	leads  bool  // the last value of notify
	term   uint64
	resign context.CancelCauseFunc // ends Lead's context; nil while Lead does not run
	turned chan struct{}           // closed and replaced at each change of leads
}

// Bootstrap makes the first member of a new agreement, with its first documents,
// so that a stack of one host becomes one that others can join. It is called
// before Start. It fails if the directory has a member already; a failed Bootstrap
// leaves no member behind.
func Bootstrap(dir, name, address string, initial map[string][]byte) error {
	if err := errors.Join(checkHost(name), checkAddress(address)); err != nil {
		return err
	}
	first, err := firstImage(initial)
	if err != nil {
		return err
	}
	s, err := openStore(dir, name)
	if err != nil {
		return err
	}
	return errors.Join(s.begin(peerAddress(s.id, address), first), s.close())
}

// Start starts the member of a directory. In an empty directory it starts a new
// incarnation, which has no vote and waits to be added at the leader (Member.Add).
func Start(cfg Config) (*Member, error) {
	m, err := start(cfg, nil)
	if err != nil {
		cfg.Listener.Close()
	}
	return m, err
}

// start is Start. If prepare is not nil, it is called with the member before the
// member runs; tests use that.
func start(cfg Config, prepare func(*Member)) (*Member, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}

	s, err := openStore(cfg.Dir, cfg.Name)
	if err != nil {
		return nil, err
	}
	if name, _, _ := strings.Cut(s.id, "/"); name != cfg.Name {
		return nil, errors.Join(fmt.Errorf("%s belongs to the member %s and not to %s", s.path, name, cfg.Name), s.close())
	}

	m := &Member{
		cfg: cfg, store: s, notify: make(chan bool, 16), compact: make(chan struct{}, 1),
		done: make(chan struct{}), turned: make(chan struct{}),
		wall: func() time.Time { return time.Now().Round(0) },
	}

	m.stopping, m.stop = context.WithCancelCause(context.Background())
	m.streams = newStreams(s.id, cfg, m.progress)
	m.documents = newDocuments(m.fail, func() {
		select {
		case m.compact <- struct{}{}:
		default:
		}
	})
	s.fail, s.stalled = m.fail, m.onStall
	if prepare != nil {
		prepare(m)
	}

	if err := m.startRaft(); err != nil {
		m.streams.Close()
		return nil, errors.Join(err, s.close())
	}
	m.streams.serve()
	m.work.Go(m.watchLeadership)
	m.work.Go(m.keepPace)
	m.work.Go(m.keepSmall)
	go m.run()
	return m, nil
}

func (m *Member) startRaft() error {
	conf := m.raftConfig()
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: m.streams, MaxPool: 3, Timeout: callTimeout, Logger: conf.Logger,
		// One request at a time: with several, a leader can stop sending to a member
		// whose disk has stalled (hashicorp/raft#612).
		MaxRPCsInFlight: 1,
	})

	// In a goroutine of its own, because the store ends the goroutine in which it
	// fails (store.must).
	var err error
	made := make(chan struct{})
	go func() {
		defer close(made)
		err = guarded(func() (err error) {
			m.raft, err = raft.NewRaft(conf, m.documents, m.store, m.store, m.store, transport)
			return err
		})
	}()
	<-made
	if m.raft == nil {
		err = errors.Join(m.Err(), err)
		transport.Close()
	}
	return err
}

// fail stops the member because of err. It cuts the connections to the others at
// once.
func (m *Member) fail(err error) {
	m.mu.Lock()
	if m.err == nil {
		m.err = err
	}
	m.mu.Unlock()
	m.cfg.Log.Error("this host takes part in the agreement no more", "error", err)
	m.stop(err)
	m.streams.cancel() // makes the cut permanent
	m.streams.setCut(true)
}

// onStall gives the leadership up when the disk does not finish a write. Raft
// would go on leading: its heartbeats need no disk (hashicorp/raft#503, #666).
func (m *Member) onStall(stalled bool) {
	m.mu.Lock()
	leads := m.leads
	m.mu.Unlock()
	if stalled && leads && len(m.Members()) > 1 {
		m.endLead(fmt.Errorf("the disk of %s has not taken a write for %s", m.store.path, stallAfter))
		m.streams.setCut(true)
	}
	if !stalled {
		m.streams.setCut(false)
	}
}

// keepSmall takes the snapshots that are due by compactAfter.
func (m *Member) keepSmall() {
	for {
		select {
		case <-m.compact:
			if err := m.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) && m.stopping.Err() == nil {
				m.cfg.Log.Warn("the log of what the hosts agree on was not made shorter", "error", err)
			}
		case <-m.stopping.Done():
			return
		}
	}
}

// run calls Lead whenever this member leads, and closes everything when the member
// is to stop.
func (m *Member) run() {
	defer close(m.done)
	m.leadInTurn()

	// Raft is shut down first, so that nothing writes any more. The connections are
	// closed before waiting for raft, because its goroutines may wait for answers of
	// the others.
	stopped := m.raft.Shutdown()
	m.streams.Close()
	stopped.Error()
	close(m.notify)
	m.work.Wait()
	m.documents.closeWatchers()
	if err := m.store.close(); err != nil {
		m.cfg.Log.Warn("closing what the hosts agree on", "file", m.store.path, "error", err)
	}
}

// Stop stops the member. If it leads, it first ends Lead, waits for it, and hands
// the leadership over. Stop returns when everything is closed, or when the context
// ends; then the rest goes on in the background.
func (m *Member) Stop(ctx context.Context) error {
	m.stop(ErrStopped)
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the member has not stopped yet: %w", context.Cause(ctx))
	}
}

// Done returns a channel that is closed when the member has stopped. If it has
// stopped by itself, Err returns why.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err returns why the member stopped by itself: its disk failed, or another host
// runs a version that it does not understand. It can be started again once that is
// repaired.
func (m *Member) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// ID returns the identity of this incarnation, NAME/HEX. Add and Replace need it.
func (m *Member) ID() string { return m.store.id }
