package host

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/agree"
)

// ListPath is where any host answers which hosts there are, as it sees them: also when no
// host leads.
const ListPath = "/v1/hosts"

// View is a stack's hosts as one of them sees them.
type View struct {
	Stack string `json:"stack"`
	// Here is the name of the host that answers, PID its process, and Version that of its
	// Holdfast. Program is a digest of the program file that it runs; empty: unknown.
	Here    string `json:"here"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Program string `json:"program,omitempty"`
	// Leader is the name of the host that leads; empty: none is known.
	Leader string  `json:"leader,omitempty"`
	Hosts  []Sight `json:"hosts"`
	// Planned are the hosts that the stack was to have when it was founded.
	Planned []Planned `json:"planned,omitempty"`
}

// Sight is one host as another one sees it.
type Sight struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	// Joined is when it has joined.
	Joined time.Time `json:"joined"`
	// Votes is false for a host that has no vote yet.
	Votes   bool   `json:"votes"`
	Leads   bool   `json:"leads"`
	Version string `json:"version,omitempty"`
	// Reachable: it answers the host that says so.
	Reachable bool `json:"reachable"`
}

// ownProgram is the file that this process runs.
const ownProgram = "/proc/self/exe"

// reachLimit is how long a host may take to answer.
const reachLimit = 2 * time.Second

// View returns the stack's hosts as this one sees them.
func (h *Host) View(ctx context.Context) View {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	v := View{Stack: h.self.Stack, Here: h.self.Name, PID: os.Getpid(), Version: h.cfg.Version, Leader: h.Leader()}
	v.Program, _ = h.local.Digest(ctx, ownProgram)
	h.mu.Lock()
	v.Planned = h.roster.Planned
	h.mu.Unlock()
	voters := map[string]agree.Peer{}
	for _, p := range h.member.Members() {
		voters[p.Name] = p
	}
	hosts := h.Members()
	for _, p := range h.member.Members() {
		if !slices.ContainsFunc(hosts, func(m Member) bool { return m.Name == p.Name }) {
			hosts = append(hosts, Member{Name: p.Name}) // a removal that was not carried through
		}
	}
	for _, m := range hosts {
		v.Hosts = append(v.Hosts, Sight{
			Name: m.Name, Address: m.Address.Addr(), Joined: m.Joined, Votes: voters[m.Name].Voter,
			Leads: m.Name == v.Leader, Version: m.Version, Reachable: m.Name == h.self.Name,
		})
	}
	var asked sync.WaitGroup
	for i := range v.Hosts {
		s := &v.Hosts[i]
		if peer, is := voters[s.Name]; is && !s.Reachable {
			asked.Go(func() { s.Reachable = h.answers(ctx, peer) })
		}
	}
	asked.Wait()
	return v
}

// answers reports whether a member answers.
func (h *Host) answers(ctx context.Context, peer agree.Peer) bool {
	_, err := h.member.Probe(ctx, peer)
	return err == nil
}

// Leader is the name of the host that leads, as far as this one knows; empty: none.
func (h *Host) Leader() string {
	leader := h.member.Status().Leader
	for _, p := range h.member.Members() {
		if p.ID == leader {
			return p.Name
		}
	}
	return ""
}

// probeLimit is how long another host may take to answer to one that thinks itself cut off.
const probeLimit = 500 * time.Millisecond

// CutOff reports whether no host leads, as far as this one knows, and no majority of the
// hosts answers it: an election alone is no cut.
func (h *Host) CutOff(ctx context.Context) bool {
	if h.member.Status().Leader != "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	var votes, there atomic.Int32
	var asked sync.WaitGroup
	for _, peer := range h.member.Members() {
		if !peer.Voter {
			continue
		}
		votes.Add(1)
		asked.Go(func() {
			if peer.ID == h.member.ID() || h.answers(ctx, peer) {
				there.Add(1)
			}
		})
	}
	asked.Wait()
	return votes.Load() > 1 && there.Load() <= votes.Load()/2
}

func (h *Host) list(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(h.View(r.Context())) // the client may be gone
}
