package agree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// clockEvery is how often a leader compares its wall clock with its monotonic
	// clock.
	clockEvery = time.Second
	// clockJump is how far the two may diverge in that time. It matters because a
	// leader compares times in documents with its wall clock.
	clockJump = 2 * time.Second
	// handOverTime limits the search for a member that takes over the leadership.
	handOverTime = 5 * time.Second
)

var errDeposed = errors.New("another member leads now, or a majority is out of reach")

// watchLeadership receives from raft when this member begins and ceases to lead. It must
// never block, because raft waits for it.
func (m *Member) watchLeadership() {
	for leads := range m.notify {
		m.mu.Lock()
		m.leads = leads
		if !leads {
			m.term = 0
		}
		close(m.turned)
		m.turned = make(chan struct{})
		m.mu.Unlock()
		if !leads {
			m.endLead(errDeposed)
		}
	}
}

// endLead ends the context of Config.Lead, if it runs.
func (m *Member) endLead(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resign != nil {
		m.resign(why)
	}
}

// leadInTurn calls Config.Lead whenever this member leads, until the member is to
// stop.
func (m *Member) leadInTurn() {
	for m.stopping.Err() == nil {
		m.mu.Lock()
		leads, turned := m.leads, m.turned
		m.mu.Unlock()
		if !leads {
			select {
			case <-turned:
			case <-m.stopping.Done():
			}
			continue
		}
		if err := m.leadOnce(); err != nil {
			m.cfg.Log.Info("this host leads and cannot begin yet", "error", err)
		}
		m.handOver()
		select { // if no other member could take over, this one leads again after a pause
		case <-turned:
		case <-m.stopping.Done():
		case <-time.After(time.Second):
		}
	}
}

// leadOnce calls Config.Lead once, after the first entry of this leadership was
// carried out.
func (m *Member) leadOnce() error {
	// When this entry is carried out, so is all that earlier leaders wrote. The log
	// also tells the term of this leadership.
	ctx, cancel := context.WithTimeout(m.stopping, callTimeout)
	began, err := m.propose(ctx, command{Version: commandVersion})
	cancel()
	if err != nil {
		return err
	}

	ctx, resign := context.WithCancelCause(m.stopping)
	defer resign(nil)
	m.mu.Lock()
	if !m.leads {
		m.mu.Unlock()
		return nil
	}
	m.term, m.resign = began.term, resign
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.term, m.resign = 0, nil
	}()

	m.cfg.Log.Info("this host leads", "term", began.term)
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		m.cfg.Lead(ctx, began.term)
	}()
	m.watchClock(returned, resign)
	<-returned
	m.cfg.Log.Info("this host leads no more", "term", began.term, "because", context.Cause(ctx))
	return nil
}

// watchClock ends the leadership if the wall clock jumps. It runs until Lead
// returns.
func (m *Member) watchClock(returned <-chan struct{}, resign context.CancelCauseFunc) {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	wall, mono := m.wall(), time.Now()
	for {
		select {
		case <-returned:
			return
		case <-tick.C:
			nextWall, nextMono := m.wall(), time.Now()
			if jump := nextWall.Sub(wall) - nextMono.Sub(mono); jump.Abs() > clockJump {
				resign(fmt.Errorf("the clock of this host jumped by %s", jump.Round(time.Millisecond)))
			}
			wall, mono = nextWall, nextMono
		}
	}
}

// handOver gives the leadership to another member that answers and has the whole
// log, if there is one. It does nothing if this member does not lead, or has
// failed.
func (m *Member) handOver() {
	ctx, cancel := context.WithTimeout(context.Background(), handOverTime)
	defer cancel()

	for again := true; again && ctx.Err() == nil; {
		again = false // unless a member answers that does not have everything yet
		for _, peer := range m.Members() {
			m.mu.Lock()
			able := m.leads && m.err == nil
			m.mu.Unlock()
			if !able {
				return
			}
			if !peer.Voter || peer.ID == m.store.id {
				continue
			}
			// A member that does not answer would hold up the transfer, and with it all
			// writes. So it is probed first.
			short, cancel := context.WithTimeout(ctx, candidateTimeout)
			p, err := m.Probe(short, peer)
			cancel()
			again = again || err == nil
			if err != nil || p.Last < m.raft.LastIndex() {
				continue
			}
			to := raft.ServerAddress(peerAddress(peer.ID, peer.Address))
			if m.await(ctx, m.raft.LeadershipTransferToServer(raft.ServerID(peer.ID), to).Error) == nil {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Resign ends the context of Lead, with why as its cause. When Lead has returned,
// another member is asked to lead.
func (m *Member) Resign(why error) { m.endLead(why) }
