package supervise

import (
	"cmp"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// This file has what a node shows to others, and what it records for the next supervisor.

// longDetail is how many bytes of a node's Detail are shown.
const longDetail = 1000

// publish updates the status board. An application's own words are only shown quoted.
func (n *node) publish() {
	n.paused.Store(n.want == wantPaused)
	n.published = n.sup.statusBoard.update(n.spec().Node, func(s *NodeStatus) {
		pid := 0
		if n.proc != nil {
			pid = n.proc.ID().PID
		}
		if pid != s.PID { // what was said was about the former process
			s.Outdated, s.Server = "", ""
		}
		s.Unknown = n.notFoundYet && n.proc == nil
		s.State, s.Detail, s.Restarts, s.Crashes, s.PID = n.state, quote.Cut(n.detail, longDetail), n.restarts, n.crashes, pid
		if n.proc == nil || n.state == Down {
			s.Role, s.Holds = "", ""
		}
		switch {
		case n.state != Up:
			s.Excluded = ""
		case n.enteringService:
			s.Excluded = "the balancers are told that it is up"
		}
		s.Began, s.Until = n.processLog.lastStart(), time.Time{}
		if n.state == Starting && n.proc != nil && n.spec().Start > 0 && !n.began.IsZero() && n.upSince.IsZero() {
			s.Until = n.began.Add(n.spec().Start)
		}
		if n.inherited.State == n.state && !n.inherited.Since.IsZero() {
			s.Since = n.inherited.Since
		}
	})
	if n.state == Up && n.proc != nil && n.proc != n.notedProc && n.spec().Kind == plan.Redis {
		n.notedProc = n.proc
		pid := n.proc.ID().PID
		n.sup.tasks.Go(func() { n.sup.noteWriter(n.sup.ctx, n.spec().Node, pid) })
	}
	n.keepRecord()
	n.tellKeepalived()
}

// keepRecord records the state in which the node has settled, unless the record already has it.
func (n *node) keepRecord() {
	if n.state != Up && n.state != Paused && n.state != Down {
		return
	}
	n.inherited = record{}
	if n.written.State == n.state && n.written.Since.Equal(n.published.Since) {
		return
	}
	switch {
	case n.sup.stopping.Load():
		// The node is to be up the next time, unless it was stopped on its own.
		if n.state == Down && (n.written.Want == wantUp || n.written.Want == wantPaused) {
			n.recordWant(wantUp)
		}
	case n.written.Want == n.wanted(): // otherwise it is about to start, and has no record of its own yet
		n.record()
	}
}

// record writes what the next supervisor has to know.
func (n *node) record() { n.recordWant(n.wanted()) }

// wanted returns what the next supervisor is to want of the node.
func (n *node) wanted() want {
	if n.brief {
		return wantUp
	}
	return n.want
}

func (n *node) recordWant(wanted want) {
	r := record{
		Plan: n.settingsDigest, Want: wanted, Address: cmp.Or(n.listenAddress, n.spec().Address),
		State: n.published.State, Since: n.published.Since, Restarts: n.restarts, Crashes: n.crashes, Tokens: n.processLog.tokensRead(),
	}
	if n.proc != nil {
		r.Process = n.proc.ID()
	}
	if err := n.home().writeRecord(n.sup.ctx, n.spec().Node, r); err != nil {
		// Without the record, the next supervisor would start the node a second time. The running
		// process is not in danger, and a full disk must not take a node down.
		n.log.Error("cannot write the node's record", "error", err)
	} else {
		n.home().endLaunch(n.sup.ctx, n.spec().Node)
	}
	n.written = r // also if it failed: the next change tries again
}
