package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// The questions of a round, and what is learned from the answers.

// sentinelWord is one Sentinel's answer.
type sentinelWord struct {
	answered  bool
	err       error // why it did not answer
	master    string
	doubts    bool // it holds the master for down, or is failing it over
	downAfter time.Duration
	// When it was asked for the replicas: all, and the one that it promotes.
	replicas []string
	promotes string

	// at is the address by which it knows the master. While it leads a failover it names
	// the new master already, and this is still the old one.
	at address
	// config is the epoch of its configuration, calm means that it leads no failover, and
	// failoverTimeout bounds those that it leads.
	config          int64
	calm            bool
	failoverTimeout time.Duration
	// knows is how many Sentinels it knows, itself among them; 0: it does not tell.
	knows int
	// id and vote are empty where it does not tell them.
	id   string
	vote vote
	mute bool // it must not tell its vote: its administrator gave us no right to ask
}

// address is a master's, in a Sentinel's words: an IP address or a name.
type address struct{ host, port string }

// skips says that a round does not wait for a node or Sentinel: it was silent,
// others wait for the round, and one that is dark would cost each of them
// steadyTimeout. It is asked aside until it answers. Without a master everybody
// is asked.
func (m *monitor) skips(l *link) bool {
	if !l.silent.Load() || m.short.Load().master == "" {
		return false
	}
	if l.probed.CompareAndSwap(false, true) {
		m.aside.Go(func() {
			defer l.probed.Store(false)
			ctx, cancel := context.WithTimeout(m.life, steadyTimeout)
			defer cancel()
			if l.Do(ctx, l.B().Role().Build()).NonRedisError() == nil {
				l.silent.Store(false)
			}
		})
	}
	return true
}

// askSentinels asks every Sentinel at once.
func (m *monitor) askSentinels(ctx context.Context, replicas bool) []sentinelWord {
	if m.voters != nil {
		return m.voters(ctx)
	}
	words := make([]sentinelWord, len(m.sentinels))
	var questions sync.WaitGroup
	for i, l := range m.sentinels {
		questions.Go(func() {
			if m.skips(l) {
				words[i].knows = m.voting[i].knows
				return
			}
			words[i] = m.askSentinel(ctx, i, replicas)
			l.silent.Store(!words[i].answered)
		})
	}
	questions.Wait()
	return words
}

// voter is what is known of a Sentinel from the last answer.
type voter struct {
	at    address
	mute  bool
	id    string
	vote  vote
	knows int // how many Sentinels it knew when it told that last
}

// remember completes what a Sentinel tells of its vote by what it told before: one that
// was restarted or reset has the epoch and no longer the leader, and it votes once in an
// epoch. Else it would seem to tell of another election.
func (v *voter) remember(w *sentinelWord) {
	if w.vote == (vote{}) {
		return
	}
	if w.vote.leader == noLeader && w.vote.epoch == v.vote.epoch && w.id == v.id {
		w.vote = v.vote
	}
	v.id, v.vote = w.id, w.vote
}

// askSentinel asks one Sentinel. It can be asked for its vote only by the master's address
// as it knows it, so it is asked again where that is another one than the last time. One
// that must not tell its vote is asked for it when it is asked for the replicas alone, or
// its log of refused commands would have nothing else.
func (m *monitor) askSentinel(ctx context.Context, i int, replicas bool) sentinelWord {
	l, known := m.sentinels[i], &m.voting[i]
	at := known.at
	if known.mute && !replicas {
		at = address{}
	}
	w := askSentinel(ctx, l, m.cfg.MasterName, at, replicas)
	if w.at != (address{}) && w.at != known.at {
		w = askSentinel(ctx, l, m.cfg.MasterName, w.at, replicas)
	}
	if w.at != (address{}) {
		known.at = w.at
	}
	if w.mute && !known.mute {
		m.log.Warn("a Sentinel does not tell its vote: allow its user sentinel|is-master-down-by-addr and sentinel|myid, as Holdfast's own stacks do", "sentinel", l.addr)
	}
	known.mute = w.mute || known.mute && w.vote == (vote{})
	known.remember(&w)
	if w.knows == 0 {
		w.knows = known.knows // one that is silent knows the others still
	}
	known.knows = w.knows
	return w
}

// askSentinel: SENTINEL GET-MASTER-ADDR-BY-NAME, MASTER, REPLICAS and MYID (manual, "High
// availability with Redis Sentinel", Sentinel commands), and the question by which
// Sentinels vote. In epoch 0 nobody votes: it is answered with the last vote (Redis 7.0,
// sentinel.c, sentinelVoteLeader). It comes last: a configuration that is older than the
// vote makes nobody sure of anything.
func askSentinel(ctx context.Context, l *link, name string, at address, replicas bool) sentinelWord {
	cmds := rueidis.Commands{
		l.B().Arbitrary("SENTINEL", "GET-MASTER-ADDR-BY-NAME").Args(name).Build(),
		l.B().Arbitrary("SENTINEL", "MASTER").Args(name).Build(),
	}
	if replicas {
		cmds = append(cmds, l.B().Arbitrary("SENTINEL", "REPLICAS").Args(name).Build())
	}
	votes := at != (address{})
	if votes {
		cmds = append(cmds,
			l.B().Arbitrary("SENTINEL", "MYID").Build(),
			l.B().Arbitrary("SENTINEL", "IS-MASTER-DOWN-BY-ADDR").Args(at.host, at.port, "0", "web").Build())
	}
	answers := l.DoMulti(ctx, cmds...)
	var w sentinelWord
	pair, err := answers[0].AsStrSlice()
	w.answered = err == nil || rueidis.IsRedisNil(err)
	if !w.answered {
		w.err = err
	}
	if len(pair) == 2 {
		w.master = join(pair[0], pair[1])
	}
	if about, err := answers[1].AsStrMap(); err == nil {
		w.at = address{about["ip"], about["port"]}
		w.calm = !hasFlag(about["flags"], "failover_in_progress")
		w.doubts = w.master == join(about["ip"], about["port"]) && doubts(about["flags"])
		w.downAfter = time.Duration(number(about["down-after-milliseconds"])) * time.Millisecond
		w.failoverTimeout = time.Duration(number(about["failover-timeout"])) * time.Millisecond
		w.config = number(about["config-epoch"])
		if others, err := strconv.Atoi(about["num-other-sentinels"]); err == nil && others < maxSentinels {
			w.knows = 1 + others
		}
	} else if w.answered {
		w.downAfter = 30 * time.Second // it does not tell: Sentinel's default
	}
	if votes {
		w.readVote(answers[len(answers)-2], answers[len(answers)-1])
	}
	if !replicas {
		return w
	}
	list, err := answers[2].ToArray()
	if err != nil {
		return w
	}
	for _, entry := range list {
		fields, err := entry.AsStrMap()
		if err == nil && fields["ip"] != "" {
			addr := join(fields["ip"], fields["port"])
			w.replicas = append(w.replicas, addr)
			if hasFlag(fields["flags"], "promoted") {
				w.promotes = addr
			}
		}
	}
	return w
}

// readVote reads the answers to the last two questions: the Sentinel's id, and whether it
// holds the master for down, its leader and the epoch.
func (w *sentinelWord) readVote(id, answer rueidis.RedisResult) {
	w.id, _ = id.ToString()
	list, err := answer.ToArray()
	if err != nil {
		w.mute = w.answered && answer.NonRedisError() == nil
		return
	}
	if len(list) == 3 {
		w.vote.leader, _ = list[1].ToString()
		w.vote.epoch, _ = list[2].AsInt64()
	}
}

// doubts reads a Sentinel's flags of the master.
func doubts(flags string) bool {
	return hasFlag(flags, "s_down") || hasFlag(flags, "o_down") || hasFlag(flags, "failover_in_progress")
}

// hasFlag reports whether a flag is among a Sentinel's, which commas divide.
func hasFlag(flags, flag string) bool {
	return slices.Contains(strings.Split(flags, ","), flag)
}

// learn takes the nodes that the Sentinels know. A node is forgotten when no
// Sentinel that answered knows it, unless it is the master.
func (m *monitor) learn(words []sentinelWord) {
	known := map[string]bool{}
	for _, w := range words {
		if w.master != "" {
			known[w.master] = true
		}
		for _, r := range w.replicas {
			known[r] = true
		}
	}
	if len(known) == 0 {
		return // no Sentinel answers: what is known stays
	}
	m.learned = time.Now()
	for addr := range known {
		if _, ok := m.nodes[addr]; !ok {
			m.nodes[addr] = nil
		}
	}
	last, _ := m.now()
	for addr, n := range m.nodes {
		if !known[addr] && addr != last.master {
			if n != nil {
				n.close()
			}
			delete(m.nodes, addr)
		}
	}
}

// silentRound is how long a node is without an answer to a round, or to several, at the
// least, if a command for which Sentinels replace masters may be the reason: that keeps
// the node silent for down-after and for their election, and a round begins
// steadyInterval after the last one.
const silentRound = 150 * time.Millisecond

// ask asks the node for its ROLE (manual, ROLE) and keeps what it says.
func (n *node) ask(ctx context.Context, round uint64, skip bool) {
	began := time.Now()
	v := nodeView{addr: n.addr, err: errSilent}
	defer func() {
		if !v.answered {
			// Silence does not unmake what it was: see nodeView.since.
			v.since = n.view.since
			v.follows = n.view.follows
		}
		v.silentAt = n.view.silentAt
		if !v.answered && !n.view.unanswered.IsZero() {
			began = n.view.unanswered
		}
		if now := time.Now(); now.Sub(began) >= silentRound {
			v.silentAt = now
		}
		if !v.answered {
			v.unanswered = began
		}
		n.view = v
	}()
	if skip {
		return
	}
	answer, err := n.Do(ctx, n.B().Role().Build()).ToArray()
	defer func() { n.silent.Store(err != nil) }()
	if err != nil && ctx.Err() == nil {
		// A Sentinel that promotes a node ends the connections to it (CLIENT
		// KILL): the new one has the news.
		answer, err = n.Do(ctx, n.B().Role().Build()).ToArray()
	}
	if err != nil {
		v.err = err
		return
	}
	var s Standing
	s, v.replicas, v.answered = parseRole(answer)
	v.master, v.follows, v.linked, v.offset = s.Master, s.MasterAddress, s.Linked, s.Offset
	if v.master {
		v.since = n.view.since
		if n.view.follows != "" {
			v.since = round
		}
	}
}

// parseRole reads the answer to ROLE; replicas are a master's.
func parseRole(answer []rueidis.RedisMessage) (s Standing, replicas []replicaView, ok bool) {
	if len(answer) == 0 {
		return
	}
	role, _ := answer[0].ToString()
	switch {
	case role == "master" && len(answer) >= 3:
		s.Master = true
		s.Offset, _ = answer[1].AsInt64()
		list, _ := answer[2].ToArray()
		for _, entry := range list {
			fields, err := entry.AsStrSlice()
			if err != nil || len(fields) < 3 {
				continue
			}
			replicas = append(replicas, replicaView{addr: join(fields[0], fields[1]), offset: number(fields[2])})
		}
		return s, replicas, true
	case role == "slave" && len(answer) >= 5:
		host, _ := answer[1].ToString()
		port, _ := answer[2].AsInt64()
		state, _ := answer[3].ToString()
		s.MasterAddress, s.Linked, s.Idle = joinPort(host, port), state == "connected", state == "connect"
		s.Offset, _ = answer[4].AsInt64()
		return s, nil, true
	}
	return
}
