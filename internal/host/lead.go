package host

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"holdfast/internal/agent"
	"holdfast/internal/clock"
	"holdfast/internal/machine"
)

// Leadership is what a leader works with. It is valid until the context of Config.Lead ends.
type Leadership struct {
	// Here is the name of this host, and Hosts are all hosts that have joined, including
	// this one.
	Here  string
	Hosts []Member
	// Machine returns the machine of a host; the caller closes it. If the host is away or has
	// not joined, the calls on the machine fail.
	Machine func(name string) machine.Machine
	// Share makes the hosts agree on a file of the state directory before the file is written
	// there. Content nil is for the file's removal.
	Share func(ctx context.Context, name string, content []byte) error
	// End ends all hosts, this one included (Host.Down), after the stack was taken down. Purge
	// is for a stack whose data was removed and that is not to come up again (Host.Purged).
	End func(ctx context.Context, purge bool) error
	// Run returns a name of the process that a host runs as: see Member.Run.
	Run func(name string) string
	// Secret returns the secret of a name that follows from the stack's authority
	// (identity.Authority.Secret).
	Secret func(name string) (string, error)
	// EndHost ends the process of another host whose nodes are down (Host.Rest), and waits
	// until it has ended.
	EndHost func(ctx context.Context, name string) error
	// HandOver gives the leadership to another host.
	HandOver func(why error)
	// Answer sets the handler of the control API. With nil, clients are told to ask again.
	Answer func(api http.Handler)
}

// lead leads until the term ends. It calls Config.Lead again whenever the hosts change.
func (h *Host) lead(ctx context.Context, term uint64) {
	// Until the supervisor of this term has ended, this host's agent carries out nothing for a
	// later leader: see agent.Terms.
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

	if err := h.removeStaleVotes(under); err != nil {
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

// leadOver leads the present hosts, until the list of hosts changes or ctx ends.
func (h *Host) leadOver(ctx context.Context, term uint64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hosts, key, changed := h.hosts()

	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			var now string
			if _, now, changed = h.hosts(); now != key {
				h.cfg.Log.Info("the hosts of the stack have changed: the supervisor begins anew")
				cancel()
				return
			}
		}
	})

	err := h.cfg.Lead(ctx, Leadership{
		Here: h.self.Name, Hosts: hosts, Machine: func(name string) machine.Machine { return h.machineOf(name, term) },
		Share: func(ctx context.Context, name string, content []byte) error { return h.write(ctx, term, name, content) },
		End:   func(ctx context.Context, purge bool) error { return h.endAll(ctx, term, purge) },
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
		clock.Sleep(h.life, time.Second)
	}
}

// hosts returns the hosts of the stack, roster.supervisorKey to compare them by, and a channel that
// is closed when the roster changes.
func (h *Host) hosts() ([]Member, string, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roster.members(), h.roster.supervisorKey(), h.rosterChanged
}

// machineOf returns the machine of a host, for the leader of a term.
func (h *Host) machineOf(name string, term uint64) machine.Machine {
	if name == h.self.Name {
		return machine.NewLocal(h.cfg.State)
	}
	return agent.New(name, h.stateDirOf(name), term, func(ctx context.Context) (net.Conn, error) {
		return h.connect(ctx, name, machineProtocol)
	})
}

// stateDirOf returns the state directory of a host. For a host that has never started, it is not
// known yet, and stateDirOf returns this host's own; the supervisor starts again once it is known.
func (h *Host) stateDirOf(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.roster.Hosts[name]; m.State != "" {
		return m.State
	}
	return h.cfg.State
}
