package host

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"holdfast/internal/agent"
	"holdfast/internal/machine"
)

// Leadership is what a host leads with. It ends with the context that Config.Lead gets.
type Leadership struct {
	// Here is the name of this host, and Hosts are those that have joined, this one among
	// them.
	Here  string
	Hosts []Member
	// Machine is the machine of a host, which its caller closes. Of one that has not joined,
	// or is away, it cannot be reached.
	Machine func(name string) machine.Machine
	// Share has the hosts agree on a file of the state directory, or on its end (nil),
	// before it is written there.
	Share func(ctx context.Context, name string, content []byte) error
	// End has all hosts end, this one too (Host.Down): the stack was taken down. Purge is for
	// one whose data was removed, and that is to be no more (Host.Purged).
	End func(ctx context.Context, purge bool) error
	// Run tells the processes of a host apart: see Member.Run.
	Run func(name string) string
	// Secret returns the secret of a name that follows from the stack's authority
	// (identity.Authority.Secret).
	Secret func(name string) (string, error)
	// EndHost has another host's process end (Host.Rest), whose nodes are down, and waits
	// for that.
	EndHost func(ctx context.Context, name string) error
	// HandOver has another host lead in the place of this one.
	HandOver func(why error)
	// Answer has the control API be answered by a handler; nil: not yet.
	Answer func(api http.Handler)
}

// lead leads until the leadership ends.
func (h *Host) lead(ctx context.Context, term uint64) {
	// Until the supervisor of this term has ended, this host does nothing that a later
	// leader tells it: see agent.Terms.
	under, end, err := h.terms.Begin(ctx, term)
	if err != nil {
		h.cfg.Log.Warn("this host cannot lead", "term", term, "why", err)
		return
	}
	defer end()
	if err := h.agreed(under); err != nil {
		h.cfg.Log.Warn("this host cannot lead", "term", term, "why", err)
		return
	}
	if may, err := h.mayLead(under, term); err != nil || !may {
		h.cfg.Log.Info("this host does not lead: the stack was taken down", "term", term, "error", err)
		select {
		case <-h.life.Done():
		case <-under.Done():
		}
		return
	}
	if err := h.strikeVotes(under); err != nil {
		h.cfg.Log.Error("a host that was removed has a vote still", "error", err)
	}
	h.mu.Lock()
	h.term = term
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.term, h.api = 0, nil
		h.mu.Unlock()
	}()
	for under.Err() == nil {
		h.leadOver(under, term)
	}
}

// leadOver leads the hosts that there are, until that changes.
func (h *Host) leadOver(ctx context.Context, term uint64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hosts, places, changed := h.hosts()
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			var now string
			if _, now, changed = h.hosts(); now != places {
				h.cfg.Log.Info("the hosts of the stack have changed: the supervisor begins anew")
				cancel()
				return
			}
		}
	})
	err := h.cfg.Lead(ctx, Leadership{
		Here: h.self.Name, Hosts: hosts, Machine: func(name string) machine.Machine { return h.machineOf(name, term) },
		Share: func(ctx context.Context, name string, content []byte) error { return h.write(ctx, term, name, content) },
		End:   func(ctx context.Context, purge bool) error { return h.end(ctx, term, purge) },
		Run:   h.runOf, HandOver: h.member.Resign, Secret: h.secret,
		EndHost: func(ctx context.Context, name string) error { return h.endHost(ctx, term, name) },
		Answer: func(api http.Handler) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.api = api
		},
	})
	h.mu.Lock()
	h.api = nil
	h.mu.Unlock()
	over := ctx.Err() != nil
	cancel()
	watching.Wait()
	if err != nil && !over {
		h.cfg.Log.Error("the supervisor has ended, and begins anew", "error", err)
		select {
		case <-time.After(time.Second):
		case <-h.life.Done():
		}
	}
}

// hosts are the hosts of the stack, what a supervisor has to know of them, and a channel
// that is closed when any of it may have changed.
func (h *Host) hosts() ([]Member, string, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roster.members(), h.roster.places(), h.changed
}

// machineOf is the machine of a host, for a leader.
func (h *Host) machineOf(name string, term uint64) machine.Machine {
	if name == h.self.Name {
		return machine.NewLocal(h.cfg.State)
	}
	return agent.New(name, h.stateOf(name), term, func(ctx context.Context) (net.Conn, error) {
		return h.connect(ctx, name, machineProtocol)
	})
}

// stateOf is the state directory of a host. Of one that has not begun it is this host's:
// the supervisor begins anew when it is known.
func (h *Host) stateOf(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.roster.Hosts[name]; m.State != "" {
		return m.State
	}
	return h.cfg.State
}
