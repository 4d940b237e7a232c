package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/agree"
	"holdfast/internal/identity"
	"holdfast/internal/machine"
	"holdfast/internal/private"
)

// Self is host.json: who this host is.
type Self struct {
	Stack   string         `json:"stack"`
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
}

// name is the host as a member of the agreement: see Host.dialAgreement.
func (s Self) name() string { return memberAddress(s.Name) }

func memberAddress(host string) string { return net.JoinHostPort(host, strconv.Itoa(Port)) }

// SelfFile is the file of a state directory that says which host it is.
const SelfFile = "host.json"

func selfPath(state string) string    { return filepath.Join(state, SelfFile) }
func identityDir(state string) string { return filepath.Join(state, "identity") }
func agreeDir(state string) string    { return filepath.Join(state, "agreement") }

// ErrNotJoined says that a state directory is no part of a stack of several hosts.
var ErrNotJoined = errors.New("this host is no part of a stack of several hosts")

// ReadSelf returns who the host of a state directory is.
func ReadSelf(state string) (s Self, err error) {
	text, err := private.Read(selfPath(state))
	if _, unseen := os.Lstat(selfPath(state)); err != nil && unseen != nil {
		// A directory that cannot be looked into is none that is known to be a host's.
		return s, fmt.Errorf("%w (%w)", ErrNotJoined, unseen)
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read who this host is (%s): %w", selfPath(state), err)
	}
	return s, nil
}

func writeSelf(state string, s Self) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return machine.WriteFile(selfPath(state), 0o600, append(text, '\n'))
}

// The documents that the hosts agree on, beside the shared files.
const (
	rosterDocument      = "hosts"
	invitationsDocument = "invitations"
	authorityDocument   = "authority" // with its key: a secret of the stack
)

// Member is one host of the stack.
type Member struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	// ID is that of its identity: another one each time that a host joins.
	ID string `json:"id"`
	// Part is its part in the agreement; empty: it has not begun yet.
	Part string `json:"part,omitempty"`
	// State is its state directory, and Version that of Holdfast there.
	State   string `json:"state,omitempty"`
	Version string `json:"version,omitempty"`
	// Run is its process: another one each time that it begins.
	Run    string    `json:"run,omitempty"`
	Joined time.Time `json:"joined"`
}

// roster is which hosts there are.
type roster struct {
	Hosts map[string]Member `json:"hosts"`
	// Gone are the identities of hosts that were removed.
	Gone []string `json:"gone,omitempty"`
	// Planned are the hosts that the stack was to have when it was founded. They are for the
	// time until the stack runs; then its file tells.
	Planned []Planned `json:"planned,omitempty"`
}

// Planned is a host that may join.
type Planned struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// removed reports whether a certificate is of a host that was removed.
func (r roster) removed(p identity.Peer) bool {
	return p.Role == identity.Host && slices.Contains(r.Gone, p.ID)
}

// with is the roster with a member in the place of the one of its name.
func (r roster) with(m Member) roster {
	next := roster{Hosts: maps.Clone(r.Hosts), Gone: slices.Clone(r.Gone), Planned: r.Planned}
	if next.Hosts == nil {
		next.Hosts = map[string]Member{}
	}
	if old, was := next.Hosts[m.Name]; was && old.ID != m.ID {
		next.Gone = append(next.Gone, old.ID)
	}
	next.Hosts[m.Name] = m
	return next
}

// without is the roster without a host.
func (r roster) without(name string) roster {
	next := roster{Hosts: maps.Clone(r.Hosts), Gone: slices.Clone(r.Gone), Planned: r.Planned}
	if old, was := next.Hosts[name]; was {
		next.Gone = append(next.Gone, old.ID)
		delete(next.Hosts, name)
	}
	return next
}

// places are what a supervisor has to know of the hosts: it begins anew when that changes.
func (r roster) places() string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(r.Hosts)) {
		m := r.Hosts[name]
		text += fmt.Sprintf("%s %s %s %s\n", m.Name, m.Address, m.ID, m.State)
	}
	return text
}

// Members are the hosts of the stack as this one knows them, by name.
func (h *Host) Members() []Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roster.members()
}

func (r roster) members() []Member {
	return slices.SortedFunc(maps.Values(r.Hosts), func(a, b Member) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
}

// take takes the documents over that this host has.
func (h *Host) take(documents []agree.Document) {
	for _, d := range documents {
		h.took(agree.Event{Document: d})
	}
	h.retain(documents)
}

// took takes one change of a document over.
func (h *Host) took(e agree.Event) {
	switch {
	case e.Name == rosterDocument:
		var r roster
		if err := json.Unmarshal(e.Data, &r); err != nil {
			h.cfg.Log.Error("what the hosts agree on cannot be read", "document", e.Name, "error", err)
			return
		}
		if err := rememberHosts(h.cfg.State, r); err != nil {
			h.cfg.Log.Error("which hosts there are cannot be written down here", "error", err)
		}
		h.mu.Lock()
		h.roster = r
		close(h.changed)
		h.changed = make(chan struct{})
		h.mu.Unlock()
		h.hearRoster(r)
	case e.Name == downDocument:
		h.hearDown(e)
	case e.Name == restDocument:
		h.hearRest(e)
	default:
		h.share(e)
	}
}

// follow takes over what the hosts agree on, until the host ends. It waits for a leader
// first: before, this host knows only what was agreed on some time ago, and what it has
// written down is newer.
func (h *Host) follow() {
	for h.life.Err() == nil {
		if h.member.Settle(h.life) != nil {
			return // one of the two has ended
		}
		documents, events := h.member.Watch(h.life)
		h.take(documents)
		for batch := range events { // until this host ends, or is too slow
			for _, e := range batch {
				h.took(e)
			}
		}
		select {
		case <-h.member.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stateOf makes the state directory of a host that joins.
func stateOf(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	return private.CheckDir(dir)
}

// lastRoster is hosts.json: the hosts that this one has heard of last. It is for the time
// until it hears what all hosts agree on: it has to reach the others for that.
const lastRoster = "hosts.json"

// rosterOf are the hosts that a new one is told of when it joins.
func rosterOf(j identity.Joined) roster {
	r := roster{Hosts: map[string]Member{}}
	for _, m := range j.Members {
		if len(m.Addresses) > 0 {
			r.Hosts[m.Name] = Member{Name: m.Name, Address: m.Addresses[0], ID: m.ID}
		}
	}
	return r
}

// rememberHosts writes down which hosts there are.
func rememberHosts(state string, r roster) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return machine.WriteFile(filepath.Join(state, lastRoster), 0o600, text)
}

// recall begins with the hosts that this one has heard of last.
func (h *Host) recall() {
	last, err := recallHosts(h.cfg.State)
	if err != nil {
		h.cfg.Log.Error("this host begins with the hosts of some time ago", "error", err)
		doc, _ := h.member.GetStale(rosterDocument)
		_ = json.Unmarshal(doc.Data, &last) // then it knows none, and the others come to it
	}
	h.mu.Lock()
	h.roster = last
	h.mu.Unlock()
}

// recallHosts are the hosts that were written down last.
func recallHosts(state string) (r roster, err error) {
	path := filepath.Join(state, lastRoster)
	text, err := private.Read(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read which hosts there are (%s): %w", path, err)
	}
	return r, nil
}

// ownAddress is where a host that has joined is reached: the address that it was invited
// with.
func ownAddress(j identity.Joined) netip.AddrPort {
	ips := j.Credentials.Certificate.IPAddresses
	if len(ips) == 0 {
		return netip.AddrPort{}
	}
	at, _ := netip.AddrFromSlice(ips[0])
	return netip.AddrPortFrom(at.Unmap(), Port)
}
