package redis

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/election"
)

// The monitor's pace. A promoted replica takes writes about a second before
// the Sentinels announce it, so without a master the nodes are asked often.
const (
	steadyInterval = 500 * time.Millisecond // between two rounds with a master
	huntInterval   = 50 * time.Millisecond  // without one
	steadyTimeout  = 400 * time.Millisecond // for an answer in a round
	huntTimeout    = 100 * time.Millisecond
	learnInterval  = 5 * time.Second        // between two looks at the Sentinels' list of nodes
	resubscribe    = 500 * time.Millisecond // after a subscription broke
)

// brief is the least of a snapshot.
type brief struct {
	master string
	offset int64
	asked  time.Time
	others int
	online int // replicas at the master
}

// monitor asks the nodes and Sentinels in rounds and publishes who the master
// is. Its methods may be called by anybody at any time.
type monitor struct {
	cfg   Config
	log   *slog.Logger
	nudge chan struct{} // asks for a round at once
	// voters, when it is not nil, asks those who stand in for the Sentinels: see
	// clusterShard.ask.
	voters func(context.Context) []election.SentinelReply
	// confirms are requests for the outcome of a round that starts later.
	confirms chan chan election.Snapshot

	mu      sync.Mutex
	last    election.Snapshot
	changed chan struct{} // closed when last.master changes
	history []mark        // of the master, the newest last

	// short is what each request asks for: a snapshot is large.
	short atomic.Pointer[brief]
	// busy is the moment at which Redis said last that a script keeps it.
	busy atomic.Int64
	// links are the nodes', by address, as of the last round.
	links atomic.Pointer[map[string]*peer]

	// life is run's context, and aside what runs beside the rounds.
	life  context.Context
	aside sync.WaitGroup

	// What follows belongs to run alone.
	round      uint64
	nodes      map[string]*node
	sentinels  []*peer
	voting     []election.Voter // of sentinels
	elections  election.Elections
	open       bool // some of them are
	named      string
	namedSince uint64
	learned    time.Time
}

// peer is a connection to a node or a Sentinel that is asked in rounds.
type peer struct {
	*conn.Client
	// silent: the last question had no answer; probed: it is asked aside until it has one.
	silent, probed atomic.Bool
}

// node is one Redis node and what was learned of it.
type node struct {
	*peer
	view election.Node
}

func newMonitor(cfg Config) *monitor {
	m := &monitor{
		cfg: cfg, log: cfg.Logger,
		nudge:    make(chan struct{}, 1),
		confirms: make(chan chan election.Snapshot),
		changed:  make(chan struct{}),
		history:  make([]mark, 0, historyLength),
		nodes:    map[string]*node{},
	}
	m.last.Why = "nobody was asked yet"
	m.short.Store(new(brief))
	if len(cfg.Sentinels) == 0 && len(cfg.Cluster) == 0 {
		m.nodes[cfg.Address] = nil
	}
	return m
}

// now is the last snapshot, and a channel that is closed when its master is
// no longer it.
func (m *monitor) now() (election.Snapshot, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, m.changed
}

// wait answers once there is a master.
func (m *monitor) wait(ctx context.Context) (election.Snapshot, error) {
	for {
		s, changed := m.now()
		if s.Master != "" {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// look asks for a round at once: somebody saw the master misbehave.
func (m *monitor) look() {
	select {
	case m.nudge <- struct{}{}:
	default:
	}
}

// confirm answers what a round said that began after the call.
func (m *monitor) confirm(ctx context.Context) (election.Snapshot, error) {
	answer := make(chan election.Snapshot, 1)
	select {
	case m.confirms <- answer:
	case <-ctx.Done():
		return election.Snapshot{}, ctx.Err()
	}
	select {
	case s := <-answer:
		return s, nil
	case <-ctx.Done():
		return election.Snapshot{}, ctx.Err()
	}
}

// run asks in rounds until the context ends.
func (m *monitor) run(ctx context.Context) {
	var listeners sync.WaitGroup
	for _, addr := range m.cfg.Sentinels {
		m.sentinels = append(m.sentinels, &peer{Client: m.cfg.atSentinels().connTo(addr, conn.Probing)})
		m.voting = append(m.voting, election.Voter{})
		listeners.Go(func() { m.listen(ctx, addr) })
	}
	m.life = ctx
	defer listeners.Wait()
	defer m.aside.Wait()
	defer m.closeLinks()

	var asked []chan election.Snapshot // who waits for the next round
	for ctx.Err() == nil {
		waiting := asked
		asked = nil
		s := m.ask(ctx)
		if ctx.Err() != nil {
			break
		}
		links := make(map[string]*peer, len(m.nodes))
		for addr, n := range m.nodes {
			if n != nil {
				links[addr] = n.peer
			}
		}
		m.links.Store(&links)
		m.publish(s)
		for _, answer := range waiting {
			answer <- s
		}
		interval := steadyInterval
		if s.Master == "" {
			interval = huntInterval
		}
		pause := time.NewTimer(interval)
		select {
		case <-pause.C:
		case <-m.nudge:
			// Many may complain at once of one failure: not more than one
			// round in 20 ms for them. Whoever waits for a round gets it: most
			// of all when the Sentinels have just announced a new master.
			select {
			case <-time.After(20 * time.Millisecond):
			case answer := <-m.confirms:
				asked = m.whoWaits(answer)
			case <-ctx.Done():
			}
		case answer := <-m.confirms:
			asked = m.whoWaits(answer)
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// whoWaits are all who wait for the outcome of the next round; one of them has
// been heard.
func (m *monitor) whoWaits(first chan election.Snapshot) []chan election.Snapshot {
	all := []chan election.Snapshot{first}
	for {
		select {
		case another := <-m.confirms:
			all = append(all, another)
		default:
			return all
		}
	}
}

func (m *monitor) closeLinks() {
	var closing sync.WaitGroup
	for _, l := range m.sentinels {
		closing.Go(l.Stop)
	}
	for _, n := range m.nodes {
		if n != nil {
			closing.Go(n.Stop)
		}
	}
	closing.Wait()
}

// publish makes s the last snapshot and wakes who waits for a change.
func (m *monitor) publish(s election.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.last
	s.Found = before.Found || s.Master != ""
	s.Since = before.Since
	if s.Heard.IsZero() {
		s.Heard = before.Heard
	}
	if s.Master != before.Master {
		s.Since = time.Now()
		close(m.changed)
		m.changed = make(chan struct{})
		if s.Master != "" {
			m.log.Info("redis master found", "master", s.Master, "why", s.Why)
		} else {
			m.log.Warn("redis master lost", "was", before.Master, "why", s.Why)
		}
	}
	m.last = s
	m.short.Store(&brief{s.Master, s.MasterNode().Offset, s.Asked, s.Others(), len(s.MasterNode().Replicas)})
	if s.Master != before.Master {
		m.history = m.history[:0]
	}
	if s.Master != "" {
		if n := len(m.history); n > 1 && s.Asked.Sub(m.history[n-2].at) < steadyInterval {
			m.history = m.history[:n-1] // rounds that were asked for come more often
		}
		if len(m.history) == cap(m.history) && len(m.history) > 0 {
			m.history = m.history[:copy(m.history, m.history[1:])]
		}
		m.history = append(m.history, mark{s.Asked, s.MasterNode().Offset})
	}
}

// mark is the master's replication offset at a moment, or later.
type mark struct {
	at     time.Time
	offset int64
}

// fresh says that this node is the master and has answered as one just now.
func (m *monitor) fresh(master string, now time.Time) bool {
	b := m.short.Load()
	return b.master == master && now.Sub(b.asked) < cacheTrust
}

// historyLength is how many marks are kept: of the last minute.
const historyLength = int(time.Minute / steadyInterval)

// age is how old the data is at most that has the master's first offset
// bytes: it has everything that the master had when the newest mark that it
// covers was made.
func (m *monitor) age(offset int64) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range slices.Backward(m.history) {
		if k.offset <= offset {
			return time.Since(k.at), true
		}
	}
	return 0, false
}

// ask makes one round: everybody is asked at once, and decide has the last
// word.
func (m *monitor) ask(ctx context.Context) election.Snapshot {
	before, _ := m.now()
	began := time.Now()
	m.round++
	timeout := steadyTimeout
	if before.Master == "" {
		timeout = huntTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	learn := before.Master == "" || time.Since(m.learned) > learnInterval
	if len(m.nodes) == 0 {
		m.learn(m.askSentinels(ctx, true)) // the first round knows no node yet
	}
	var (
		questions sync.WaitGroup
		words     []election.SentinelReply
		answers   = make([]election.Node, 0, len(m.nodes))
		mu        sync.Mutex
	)
	questions.Go(func() { words = m.askSentinels(ctx, learn || m.open) })
	for addr, n := range m.nodes {
		if n == nil {
			n = &node{peer: &peer{Client: m.cfg.connTo(addr, conn.Probing)}, view: election.Node{Address: addr}}
			m.nodes[addr] = n
		}
		questions.Go(func() {
			n.ask(ctx, m.round, m.skips(n.peer))
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, n.view)
		})
	}
	questions.Wait()

	s := election.Snapshot{Asked: began, Nodes: answers, Sentinels: make([]string, election.CountedSentinels(words))}
	slices.SortFunc(s.Nodes, func(a, b election.Node) int {
		if a.Address < b.Address {
			return -1
		}
		return 1
	})
	for i, w := range words {
		s.Sentinels[i] = w.Master
		if w.Answered {
			s.Heard = time.Now()
		}
	}
	for _, n := range s.Nodes {
		if n.Answered {
			s.Heard = time.Now()
		}
	}
	named := election.Majority(s.Sentinels)
	if named != "" && named != m.named {
		if m.named != "" {
			m.namedSince = m.round
		}
		m.named = named
	}
	m.elections.Take(words, m.round, time.Now())
	open := m.elections.Open(words)
	m.open = len(open) > 0
	newest := election.Newest(words, named)
	s.Verdict = election.Decide(election.Evidence{
		Current: before.Master, Nodes: s.Nodes, Sentinels: s.Sentinels,
		NamedSince: m.namedSince, Electing: m.open || newest != named,
	})
	s.Electing = newest != named && newest != s.Master || open.Threaten(s.MasterNode(), named, m.namedSince, words)
	for _, w := range words {
		s.Doubted = s.Doubted || w.Doubts && w.Master == s.Master
		s.DownAfter = max(s.DownAfter, w.DownAfter)
	}
	if s.Master == "" {
		for _, n := range s.Nodes {
			if n.Err != nil {
				s.Why += fmt.Sprintf("; %s: %v", n.Address, n.Err)
			}
		}
		for i, w := range words {
			if w.Err != nil {
				s.Why += fmt.Sprintf("; Sentinel %s: %v", m.cfg.Sentinels[i], w.Err)
			}
		}
	}
	if learn {
		m.learn(words)
	}
	return s
}

// listen follows one Sentinel's announcements, which only hurry the next
// round: the facts come from decide.
func (m *monitor) listen(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		l := m.cfg.atSentinels().connTo(addr, conn.Probing)
		_ = l.Receive(ctx, l.B().Subscribe().Channel("+switch-master").Build(), func(rueidis.PubSubMessage) { m.look() })
		l.Stop()
		pause(ctx, resubscribe)
	}
}
