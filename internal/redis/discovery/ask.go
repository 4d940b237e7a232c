package discovery

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/election"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
)

// The questions of a round, and what is learned from the answers.

// skips reports whether a round does not wait for a node or Sentinel, since it was silent. One
// that is dark would cost everybody who waits for the round SteadyTimeout. It is asked aside
// until it replies. Without a master all are asked.
func (m *Monitor) skips(l *peer) bool {
	if !l.silent.Load() || m.state.Load().Master == "" {
		return false
	}
	if l.probed.CompareAndSwap(false, true) {
		m.aside.Go(func() {
			defer l.probed.Store(false)
			ctx, cancel := context.WithTimeout(m.life, SteadyTimeout)
			defer cancel()
			if l.Do(ctx, l.B().Role().Build()).NonRedisError() == nil {
				l.silent.Store(false)
			}
		})
	}
	return true
}

// askSentinels asks every Sentinel at once.
func (m *Monitor) askSentinels(ctx context.Context, replicas bool) []election.SentinelReply {
	if m.Voters != nil {
		return m.Voters(ctx)
	}
	words := make([]election.SentinelReply, len(m.sentinels))
	var questions sync.WaitGroup
	for i, l := range m.sentinels {
		questions.Go(func() {
			if m.skips(l) {
				words[i].Knows = m.voting[i].Knows
				return
			}
			words[i] = m.askSentinel(ctx, i, replicas)
			l.silent.Store(!words[i].Answered)
		})
	}
	questions.Wait()
	return words
}

// askSentinel asks one Sentinel. It can be asked for its vote only by the master's address as
// it knows it, so it is asked again if that is another one than the last time. One that must
// not tell its vote is asked for it only together with the replicas: otherwise its log of
// refused commands would have nothing else.
func (m *Monitor) askSentinel(ctx context.Context, i int, replicas bool) election.SentinelReply {
	l, known := m.sentinels[i], &m.voting[i]
	at := known.At
	if known.Mute && !replicas {
		at = election.HostPort{}
	}
	w := askSentinel(ctx, l, m.cfg.MasterName, at, replicas)
	if w.At != (election.HostPort{}) && w.At != known.At {
		w = askSentinel(ctx, l, m.cfg.MasterName, w.At, replicas)
	}
	if w.At != (election.HostPort{}) {
		known.At = w.At
	}
	if w.Mute && !known.Mute {
		m.log.Warn("a Sentinel does not tell its vote: allow its user sentinel|is-master-down-by-addr and sentinel|myid, as Holdfast's own stacks do", "sentinel", l.Address)
	}
	known.Mute = w.Mute || known.Mute && w.Vote == (election.Vote{})
	known.Remember(&w)
	if w.Knows == 0 {
		w.Knows = known.Knows // one that is silent knows the others still
	}
	known.Knows = w.Knows
	return w
}

// askSentinel: SENTINEL GET-MASTER-ADDR-BY-NAME, MASTER, REPLICAS and MYID (manual, "High
// availability with Redis Sentinel", Sentinel commands), and the question by which
// Sentinels vote. In epoch 0 nobody votes: it is answered with the last vote (Redis 7.0,
// sentinel.c, sentinelVoteLeader). It comes last: a configuration that is older than the
// vote makes nobody sure of anything.
func askSentinel(ctx context.Context, l *peer, name string, at election.HostPort, replicas bool) election.SentinelReply {
	cmds := rueidis.Commands{
		l.B().Arbitrary("SENTINEL", "GET-MASTER-ADDR-BY-NAME").Args(name).Build(),
		l.B().Arbitrary("SENTINEL", "MASTER").Args(name).Build(),
	}
	if replicas {
		cmds = append(cmds, l.B().Arbitrary("SENTINEL", "REPLICAS").Args(name).Build())
	}
	votes := at != (election.HostPort{})
	if votes {
		cmds = append(cmds,
			l.B().Arbitrary("SENTINEL", "MYID").Build(),
			l.B().Arbitrary("SENTINEL", "IS-MASTER-DOWN-BY-ADDR").Args(at.Host, at.Port, "0", "web").Build())
	}
	answers := l.DoMulti(ctx, cmds...)
	var w election.SentinelReply
	pair, err := answers[0].AsStrSlice()
	w.Answered = err == nil || rueidis.IsRedisNil(err)
	if !w.Answered {
		w.Err = err
	}
	if len(pair) == 2 {
		w.Master = net.JoinHostPort(pair[0], pair[1])
	}
	if about, err := answers[1].AsStrMap(); err == nil {
		w.At = election.HostPort{Host: about["ip"], Port: about["port"]}
		w.Calm = !hasFlag(about["flags"], "failover_in_progress")
		w.Doubts = w.Master == net.JoinHostPort(about["ip"], about["port"]) && doubts(about["flags"])
		w.DownAfter = time.Duration(resp.Int(about["down-after-milliseconds"])) * time.Millisecond
		w.FailoverTimeout = time.Duration(resp.Int(about["failover-timeout"])) * time.Millisecond
		w.ConfigEpoch = resp.Int(about["config-epoch"])
		if others, err := strconv.Atoi(about["num-other-sentinels"]); err == nil && others < election.MaxSentinels {
			w.Knows = 1 + others
		}
	} else if w.Answered {
		w.DownAfter = 30 * time.Second // it does not tell: Sentinel's default
	}
	if votes {
		readVote(&w, answers[len(answers)-2], answers[len(answers)-1])
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
			addr := net.JoinHostPort(fields["ip"], fields["port"])
			w.Replicas = append(w.Replicas, addr)
			if hasFlag(fields["flags"], "promoted") {
				w.Promotes = addr
			}
		}
	}
	return w
}

// readVote reads the replies to the last two questions: the Sentinel's id, and whether it
// considers the master down, its leader and the epoch.
func readVote(w *election.SentinelReply, id, answer rueidis.RedisResult) {
	w.ID, _ = id.ToString()
	list, err := answer.ToArray()
	if err != nil {
		w.Mute = w.Answered && answer.NonRedisError() == nil
		return
	}
	if len(list) == 3 {
		w.Vote.Leader, _ = list[1].ToString()
		w.Vote.Epoch, _ = list[2].AsInt64()
	}
}

// doubts reports whether a Sentinel doubts the master, by its flags.
func doubts(flags string) bool {
	return hasFlag(flags, "s_down") || hasFlag(flags, "o_down") || hasFlag(flags, "failover_in_progress")
}

// hasFlag reports whether a flag is among a Sentinel's, which commas divide.
func hasFlag(flags, flag string) bool {
	return slices.Contains(strings.Split(flags, ","), flag)
}

// learn takes in the nodes that the Sentinels know. A node is forgotten when no Sentinel that
// replied knows it, unless it is the master.
func (m *Monitor) learn(words []election.SentinelReply) {
	known := map[string]bool{}
	for _, w := range words {
		if w.Master != "" {
			known[w.Master] = true
		}
		for _, r := range w.Replicas {
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
	last, _ := m.Now()
	for addr, n := range m.nodes {
		if !known[addr] && addr != last.Master {
			if n != nil {
				n.Stop()
			}
			delete(m.nodes, addr)
		}
	}
}

// silentRound is how long a node is silent in a round, or in several, at the least, if the
// reason may be a command for which Sentinels replace masters. Such a command keeps the node
// silent for down-after and for their election, and a round begins SteadyInterval after the
// last one.
const silentRound = 150 * time.Millisecond

// ask asks the node for its ROLE (manual, ROLE) and keeps the reply.
func (n *node) ask(ctx context.Context, round uint64, skip bool) {
	began := time.Now()
	v := election.Node{Address: n.Address, Err: outcome.ErrSilent}
	defer func() {
		if !v.Answered {
			// Silence does not unmake what it was: see Node.Since.
			v.Since = n.view.Since
			v.Follows = n.view.Follows
		}
		v.SilentAt = n.view.SilentAt
		if !v.Answered && !n.view.Unanswered.IsZero() {
			began = n.view.Unanswered
		}
		if now := time.Now(); now.Sub(began) >= silentRound {
			v.SilentAt = now
		}
		if !v.Answered {
			v.Unanswered = began
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
		v.Err = err
		return
	}
	var s Standing
	s, v.Replicas, v.Answered = ParseRole(answer)
	v.Master, v.Follows, v.Linked, v.Offset = s.Master, s.MasterAddress, s.Linked, s.Offset
	if v.Master {
		v.Since = n.view.Since
		if n.view.Follows != "" {
			v.Since = round
		}
	}
}

// ParseRole reads a reply to ROLE; replicas are those of a master.
func ParseRole(answer []rueidis.RedisMessage) (s Standing, replicas []election.Replica, ok bool) {
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
			replicas = append(replicas, election.Replica{Address: net.JoinHostPort(fields[0], fields[1]), Offset: resp.Int(fields[2])})
		}
		return s, replicas, true
	case role == "slave" && len(answer) >= 5:
		host, _ := answer[1].ToString()
		port, _ := answer[2].AsInt64()
		state, _ := answer[3].ToString()
		s.MasterAddress, s.Linked, s.Idle = net.JoinHostPort(host, strconv.FormatInt(port, 10)), state == "connected", state == "connect"
		s.Offset, _ = answer[4].AsInt64()
		return s, nil, true
	}
	return
}

// Standing is what a Redis node says of its part in the replication (the
// command ROLE).
type Standing struct {
	Master bool
	// MasterAddress is the master that a replica follows.
	MasterAddress string
	// Linked is true for a replica whose link to its master is up, Idle for one that
	// has not even begun to connect.
	Linked, Idle bool
	// Offset is the replication offset in bytes.
	Offset int64
}
