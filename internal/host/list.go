package host

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/internal/agree"
)

// ListPath is the path at which every host returns its View of the hosts, also while no host
// leads.
const ListPath = "/v1/hosts"

// View is the stack's hosts as one of them sees them.
type View struct {
	Stack string `json:"stack"`
	// Here is the name of the host that answers, PID its process, and Version its version of
	// Holdfast. Program is a digest of the program file that it runs, or empty if unknown.
	Here    string `json:"here"`
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Program string `json:"program,omitempty"`
	// Leader is the name of the host that leads, or empty if this host knows of none.
	Leader string     `json:"leader,omitempty"`
	Hosts  []HostView `json:"hosts"`
	// Planned are the hosts that the stack was to have when it was founded.
	Planned []Planned `json:"planned,omitempty"`
}

// HostView is one host as another one sees it.
type HostView struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	// Joined is when the host joined.
	Joined time.Time `json:"joined"`
	// Votes reports whether the host has a vote. A host that has just joined has none yet.
	Votes   bool   `json:"votes"`
	Leads   bool   `json:"leads"`
	Version string `json:"version,omitempty"`
	// Reachable reports whether the host answers the one that made the view.
	Reachable bool `json:"reachable"`
}

// ownProgram is the path of the file that this process runs.
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
			hosts = append(hosts, Member{Name: p.Name}) // its removal was not completed
		}
	}

	for _, m := range hosts {
		v.Hosts = append(v.Hosts, HostView{
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

// answers reports whether a member answers a probe before ctx ends.
func (h *Host) answers(ctx context.Context, peer agree.Peer) bool {
	_, err := h.member.Probe(ctx, peer)
	return err == nil
}

// Leader returns the name of the host that leads, or "" if this host knows of none.
func (h *Host) Leader() string {
	leader := h.member.Status().Leader
	for _, p := range h.member.Members() {
		if p.ID == leader {
			return p.Name
		}
	}
	return ""
}

const (
	// probeLimit is how long another host may take to answer a host that may be cut off.
	probeLimit = 500 * time.Millisecond
	// replyLimit is how long another machine may take to reply at all.
	replyLimit = 200 * time.Millisecond
	// quietLimit is longer than the agreement's heartbeats are apart (300 ms).
	quietLimit = 450 * time.Millisecond
)

// Quiet implements supervise.Contact.
func (h *Host) Quiet() bool {
	st := h.member.Status()
	leads := st.Leader == st.ID
	return st.Leader == "" || !leads && time.Since(st.Heard) > quietLimit
}

// Alone implements supervise.Contact. In a stack of two hosts neither has a majority without the
// other, so neither counts as alone.
func (h *Host) Alone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, replyLimit)
	defer cancel()
	voters, there := h.count(func(peer agree.Peer) bool { return h.replies(ctx, peer.Name) })
	return voters > 2 && there <= voters/2
}

// CutOff implements supervise.Contact. During an election there is no leader either, so it
// also asks whether a majority answers.
func (h *Host) CutOff(ctx context.Context) bool {
	if h.member.Status().Leader != "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	voters, there := h.count(func(peer agree.Peer) bool { return h.answers(ctx, peer) })
	return voters > 1 && there <= voters/2
}

// count returns how many hosts have a vote, and for how many of these is reports true. This
// host counts without being asked.
func (h *Host) count(is func(agree.Peer) bool) (voters, there int) {
	var found atomic.Int32
	var asked sync.WaitGroup
	for _, peer := range h.member.Members() {
		if !peer.Voter {
			continue
		}
		voters++
		asked.Go(func() {
			if peer.ID == h.member.ID() || is(peer) {
				found.Add(1)
			}
		})
	}
	asked.Wait()
	return voters, int(found.Load())
}

// replies reports whether a host's machine sends anything back. A refused connection counts:
// the machine is there.
func (h *Host) replies(ctx context.Context, name string) bool {
	at, known := h.addressOf(name)
	if !known {
		return false
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
	}
	_ = conn.Close() // nothing was sent
	return true
}

func (h *Host) list(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(h.View(r.Context())) // the client may be gone
}
