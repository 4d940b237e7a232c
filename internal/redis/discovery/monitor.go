// Package discovery finds the master and follows it: a Monitor asks the nodes and the Sentinels
// in rounds, and publishes what package election makes of their replies. It also knows how far
// the replicas are. How nodes are changed does not live here.
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/clock"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/election"
)

// The pace of a Monitor. A promoted replica takes writes about a second before the Sentinels
// announce it, so the nodes are asked often while there is no master.
const (
	SteadyInterval = 500 * time.Millisecond // between two rounds with a master
	HuntInterval   = 50 * time.Millisecond  // without one
	SteadyTimeout  = 400 * time.Millisecond // for an answer in a round
	huntTimeout    = 100 * time.Millisecond
	LearnInterval  = 5 * time.Second        // between two looks at the Sentinels' list of nodes
	resubscribe    = 500 * time.Millisecond // after a subscription broke
)

// State is the part of a snapshot that each request needs.
type State struct {
	Master string
	offset int64
	asked  time.Time
	Others int
	Online int // replicas at the master
}

// Monitor asks the nodes and Sentinels in rounds and publishes who the master is. Its methods
// are safe for concurrent use.
type Monitor struct {
	cfg   Config
	log   *slog.Logger
	nudge chan struct{} // asks for a round at once
	// Voters, when it is not nil, asks those who stand in for the Sentinels: see
	// clusterShard.ask.
	Voters func(context.Context) []election.SentinelReply
	// confirms are requests for the outcome of a round that starts later.
	confirms chan chan election.Snapshot

	mu      sync.Mutex
	last    election.Snapshot
	changed chan struct{}  // closed when last.master changes
	history []offsetSample // of the master, the newest last

	// state is for each request: a snapshot is large.
	state atomic.Pointer[State]
	// links are the nodes', by address, as of the last round.
	links atomic.Pointer[map[string]*peer]

	// life is Run's context, and aside what runs beside the rounds.
	life  context.Context
	aside sync.WaitGroup

	// What follows belongs to Run alone.
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

// Config tells which nodes and Sentinels are asked.
type Config struct {
	// Sentinels are host:port of every Sentinel, and MasterName is their name for the master.
	Sentinels  []string
	MasterName string
	// Address is the one node, if there are no Sentinels and no cluster.
	Address              string
	AtNodes, AtSentinels conn.Options
	Log                  *slog.Logger
}

func New(cfg Config) *Monitor {
	m := &Monitor{
		cfg: cfg, log: cfg.Log,
		nudge:    make(chan struct{}, 1),
		confirms: make(chan chan election.Snapshot),
		changed:  make(chan struct{}),
		history:  make([]offsetSample, 0, historyLength),
		nodes:    map[string]*node{},
	}
	m.last.Why = "nobody was asked yet"
	m.state.Store(new(State))
	if cfg.Address != "" {
		m.nodes[cfg.Address] = nil
	}
	return m
}

// State returns what each request needs of the last snapshot.
func (m *Monitor) State() *State { return m.state.Load() }

// Now returns the last snapshot, and a channel that is closed when its master is the master
// no longer.
func (m *Monitor) Now() (election.Snapshot, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, m.changed
}

// Wait waits until there is a master.
func (m *Monitor) Wait(ctx context.Context) (election.Snapshot, error) {
	for {
		s, changed := m.Now()
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

// Look asks for a round at once, since the master was seen to misbehave.
func (m *Monitor) Look() {
	select {
	case m.nudge <- struct{}{}:
	default:
	}
}

// Confirm returns the snapshot after a round that began after the call.
func (m *Monitor) Confirm(ctx context.Context) (election.Snapshot, error) {
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

// Run asks in rounds until the context ends.
func (m *Monitor) Run(ctx context.Context) {
	var listeners sync.WaitGroup
	for _, addr := range m.cfg.Sentinels {
		m.sentinels = append(m.sentinels, &peer{Client: conn.New(m.cfg.AtSentinels, addr, conn.Probing)})
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
		m.Publish(s)
		for _, answer := range waiting {
			answer <- s
		}
		interval := SteadyInterval
		if s.Master == "" {
			interval = HuntInterval
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

// whoWaits returns all who wait for the outcome of the next round; first is one of them.
func (m *Monitor) whoWaits(first chan election.Snapshot) []chan election.Snapshot {
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

func (m *Monitor) closeLinks() {
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

// Publish makes s the last snapshot, and tells those who wait for a change.
func (m *Monitor) Publish(s election.Snapshot) {
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
	m.state.Store(&State{s.Master, s.MasterNode().Offset, s.Asked, s.Others(), len(s.MasterNode().Replicas)})
	if s.Master != before.Master {
		m.history = m.history[:0]
	}
	if s.Master != "" {
		if n := len(m.history); n > 1 && s.Asked.Sub(m.history[n-2].at) < SteadyInterval {
			m.history = m.history[:n-1] // rounds that were asked for come more often
		}
		if len(m.history) == cap(m.history) && len(m.history) > 0 {
			m.history = m.history[:copy(m.history, m.history[1:])]
		}
		m.history = append(m.history, offsetSample{s.Asked, s.MasterNode().Offset})
	}
}

// offsetSample is the master's replication offset at a time, or later.
type offsetSample struct {
	at     time.Time
	offset int64
}

// Fresh reports whether this node is the master, and has replied as one so shortly ago.
func (m *Monitor) Fresh(master string, now time.Time, trust time.Duration) bool {
	b := m.state.Load()
	return b.Master == master && now.Sub(b.asked) < trust
}

// historyLength is how many samples of the master's offset are kept: those of the last
// minute.
const historyLength = int(time.Minute / SteadyInterval)

// Age returns how old the data is at most that has the master's first offset bytes: it has
// all that the master had when the newest sample was taken that it covers.
func (m *Monitor) Age(offset int64) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range slices.Backward(m.history) {
		if k.offset <= offset {
			return time.Since(k.at), true
		}
	}
	return 0, false
}

// ask makes one round: all are asked at once, and election.Decide has the last word.
func (m *Monitor) ask(ctx context.Context) election.Snapshot {
	before, _ := m.Now()
	began := time.Now()
	m.round++
	timeout := SteadyTimeout
	if before.Master == "" {
		timeout = huntTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	learn := before.Master == "" || time.Since(m.learned) > LearnInterval
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
			n = &node{peer: &peer{Client: conn.New(m.cfg.AtNodes, addr, conn.Probing)}, view: election.Node{Address: addr}}
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

// listen follows one Sentinel's announcements. They only hurry the next round.
func (m *Monitor) listen(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		l := conn.New(m.cfg.AtSentinels, addr, conn.Probing)
		_ = l.Receive(ctx, l.B().Subscribe().Channel("+switch-master").Build(), func(rueidis.PubSubMessage) { m.Look() })
		l.Stop()
		clock.Sleep(ctx, resubscribe)
	}
}
