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

// How much of the log is kept: so much that a member that missed a moment needs
// no snapshot, and so little that the file stays small.
const (
	snapshotEvery    = 1024 // entries, see also compactAfter
	snapshotInterval = 30 * time.Second
	trailingEntries  = 16
)

// Config is what a member is made of.
type Config struct {
	// Dir has the member's file and nothing else. It is made when it is not there.
	Dir string
	// Name is the host's: letters, digits, dots and dashes.
	Name string
	// Address is where the others reach Listener, as they give it to Dial.
	Address string
	// Listener takes the others' connections. It is the member's own from Start on,
	// and closed when Start fails or the member stops.
	Listener net.Listener
	// Dial opens a connection to another member's Listener. It may be called by
	// several goroutines at once.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Lead is called when this member leads; see Member. nil: nothing is.
	Lead func(ctx context.Context, term uint64)
	// Log gets what an operator should know. nil: nobody does.
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
// While it leads, Config.Lead runs, in one goroutine at most: term is the number
// of this leadership, higher than that of all before, and what is written has to
// carry it. All that earlier leaders wrote is there by then. The context ends as
// soon as the leadership does (context.Cause says why), and Lead has to return
// then. When it returns before, another member is asked to lead; where none can,
// Lead is called again, with the same term.
//
// All methods may be called by several goroutines at once.
type Member struct {
	cfg       Config
	store     *store
	streams   *streams
	documents *documents
	raft      *raft.Raft
	changing  sync.Mutex // one change of the members at a time

	notify   chan bool // from raft: leads, leads no more
	compact  chan struct{}
	stopping context.Context
	stop     context.CancelCauseFunc
	done     chan struct{}
	work     sync.WaitGroup
	wall     func() time.Time // without the monotonic clock; for tests

	mu     sync.Mutex
	err    error // why it stopped by itself
	leads  bool  // raft says so
	term   uint64
	resign context.CancelCauseFunc // ends Lead's context; nil without one
	turned chan struct{}           // closed and made anew at each change of leads
}

// Bootstrap makes the first member of a new agreement, with its first documents:
// a stack of one host becomes one that others can join. Start comes after it. It
// is refused where a member is already; when it fails nothing is there.
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

// Start starts a member from its directory. From an empty one it starts a new
// incarnation, which waits to be added at the leader (Member.Add) and has no say
// until then.
func Start(cfg Config) (*Member, error) {
	m, err := start(cfg, nil)
	if err != nil {
		cfg.Listener.Close()
	}
	return m, err
}

// start is Start; prepare, which may be nil, gets the member before it runs.
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
	m.work.Go(m.hear)
	m.work.Go(m.keepPace)
	m.work.Go(m.keepSmall)
	go m.run()
	return m, nil
}

func (m *Member) startRaft() error {
	conf := m.raftConfig()
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: m.streams, MaxPool: 3, Timeout: callTimeout, Logger: conf.Logger,
		// One question at a time: with more, a leader can stop sending to a member
		// whose disk stalled (hashicorp/raft#612).
		MaxRPCsInFlight: 1,
	})

	// In a goroutine of its own: the store ends the one in which it fails.
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

// fail stops the member for good: it keeps to itself at once.
func (m *Member) fail(err error) {
	m.mu.Lock()
	if m.err == nil {
		m.err = err
	}
	m.mu.Unlock()
	m.cfg.Log.Error("this host takes part in the agreement no more", "error", err)
	m.stop(err)
	m.streams.cancel() // nothing undoes this cut
	m.streams.setCut(true)
}

// onStall gives a leadership up whose disk does not answer. Raft would not: its
// heartbeats need no disk (hashicorp/raft#503, #666).
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

// keepSmall takes snapshots that are due by their size.
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

// run leads when it is this member's turn, and ends everything when it is to
// stop.
func (m *Member) run() {
	defer close(m.done)
	m.leadInTurn()

	// Raft first, so that nothing writes any more; connections before waiting for
	// it, because its goroutines may wait for the others.
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

// Stop stops the member. One that leads ends Lead, waits for it, and hands the
// leadership over first. It returns when all is closed or the context ends; what
// is left then is ended in the background.
func (m *Member) Stop(ctx context.Context) error {
	m.stop(ErrStopped)
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the member has not stopped yet: %w", context.Cause(ctx))
	}
}

// Done is closed when the member has stopped, also by itself: then Err says why.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err is why the member stopped by itself: its disk fails, or another host runs a
// version that it does not understand. It may be started again once that is
// mended.
func (m *Member) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// ID is the identity of this incarnation, NAME/HEX, for Add and Replace at the
// leader.
func (m *Member) ID() string { return m.store.id }
