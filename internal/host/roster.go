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

// Self is the content of host.json: which host of which stack this is.
type Self struct {
	Stack   string         `json:"stack"`
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
}

// name returns the host's address as a member of the agreement: see Host.dialAgreement.
func (s Self) name() string { return memberAddress(s.Name) }

func memberAddress(host string) string { return net.JoinHostPort(host, strconv.Itoa(Port)) }

// SelfFile is the name of the file that makes a state directory that of a host of several.
const SelfFile = "host.json"

func selfPath(state string) string    { return filepath.Join(state, SelfFile) }
func identityDir(state string) string { return filepath.Join(state, "identity") }
func agreeDir(state string) string    { return filepath.Join(state, "agreement") }

// ErrNotJoined is the error for a state directory that is not that of a host of several.
var ErrNotJoined = errors.New("this host is no part of a stack of several hosts")

// ReadSelf returns the host that a state directory belongs to. The error is ErrNotJoined if the
// directory is not that of a host of several.
func ReadSelf(state string) (s Self, err error) {
	text, err := private.Read(selfPath(state))
	if _, unseen := os.Lstat(selfPath(state)); err != nil && unseen != nil {
		// If the file cannot even be seen, nothing shows that the directory is a host's.
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

// The documents that the hosts agree on, besides the shared files (shared.go).
const (
	rosterDocument      = "hosts"
	invitationsDocument = "invitations"
	authorityDocument   = "authority" // includes its private key: a secret of the stack
)

// Member is one host of the stack.
type Member struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	// ID is the ID of the host's identity: a new one each time that a host joins.
	ID string `json:"id"`
	// AgreementID is the host's ID in the agreement, or empty if it has not started yet.
	AgreementID string `json:"part,omitempty"`
	// State is the host's state directory, and Version its version of Holdfast. Both are
	// empty until it has started.
	State   string `json:"state,omitempty"`
	Version string `json:"version,omitempty"`
	// Run is a random name of the host's process: a new one each time that it starts.
	Run    string    `json:"run,omitempty"`
	Joined time.Time `json:"joined"`
}

// roster is the list of the hosts of the stack.
type roster struct {
	Hosts map[string]Member `json:"hosts"`
	// Gone are the identities (Member.ID) of hosts that were removed or replaced.
	Gone []string `json:"gone,omitempty"`
	// Planned are the hosts that the stack was to have when it was founded. They are used until
	// the stack runs; from then on the stack's file names its hosts.
	Planned []Planned `json:"planned,omitempty"`
}

// Planned is a host that the stack is to have and that may not have joined yet.
type Planned struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// removed reports whether a certificate is that of a host that was removed.
func (r roster) removed(p identity.Peer) bool {
	return p.Role == identity.Host && slices.Contains(r.Gone, p.ID)
}

// with returns the roster with m added. It replaces a host of the same name, whose identity
// then counts as removed.
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

// without returns the roster without a host.
func (r roster) without(name string) roster {
	next := roster{Hosts: maps.Clone(r.Hosts), Gone: slices.Clone(r.Gone), Planned: r.Planned}
	if old, was := next.Hosts[name]; was {
		next.Gone = append(next.Gone, old.ID)
		delete(next.Hosts, name)
	}
	return next
}

// supervisorKey returns a text of what the supervisor needs to know about the hosts. When the text
// changes, the supervisor is started again (Host.leadOver).
func (r roster) supervisorKey() string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(r.Hosts)) {
		m := r.Hosts[name]
		text += fmt.Sprintf("%s %s %s %s\n", m.Name, m.Address, m.ID, m.State)
	}
	return text
}

// Members returns the hosts of the stack as this one knows them, sorted by name.
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

// applyAll applies all documents that this host has.
func (h *Host) applyAll(documents []agree.Document) {
	for _, d := range documents {
		h.apply(agree.Event{Document: d})
	}
	h.retain(documents)
}

// apply applies one change of a document.
func (h *Host) apply(e agree.Event) {
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
		close(h.rosterChanged)
		h.rosterChanged = make(chan struct{})
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

// follow applies what the hosts agree on, until the host ends. It first waits for a leader:
// until then the log of this host may be behind the files that it has written, and would roll
// them back.
func (h *Host) follow() {
	for h.life.Err() == nil {
		if h.member.Settle(h.life) != nil {
			return // the host or its member has ended
		}
		documents, events := h.member.Watch(h.life)
		h.applyAll(documents)
		for batch := range events { // ends with the host, or if it reads too slowly
			for _, e := range batch {
				h.apply(e)
			}
		}
		select {
		case <-h.member.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// makeStateDir makes the state directory of a host, and checks that nobody else may change it.
func makeStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	return private.CheckDir(dir)
}

// lastRoster is the name of the file with the last roster that this host has heard of. A host
// that starts needs the addresses in it to reach the others, from which it then receives the
// current roster.
const lastRoster = "hosts.json"

// rosterOf returns the hosts that a new host was told about when it joined.
func rosterOf(j identity.Joined) roster {
	r := roster{Hosts: map[string]Member{}}
	for _, m := range j.Members {
		if len(m.Addresses) > 0 {
			r.Hosts[m.Name] = Member{Name: m.Name, Address: m.Addresses[0], ID: m.ID}
		}
	}
	return r
}

// rememberHosts writes the roster to lastRoster.
func rememberHosts(state string, r roster) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return machine.WriteFile(filepath.Join(state, lastRoster), 0o600, text)
}

// recall sets the roster to the last one that this host has heard of. If its file cannot be
// read, recall takes the roster of the log.
func (h *Host) recall() {
	last, err := recallHosts(h.cfg.State)
	if err != nil {
		h.cfg.Log.Error("this host begins with the hosts of some time ago", "error", err)
		doc, _ := h.member.GetStale(rosterDocument)
		_ = json.Unmarshal(doc.Data, &last) // on a failure this host knows no other host, and waits for them to connect
	}
	h.mu.Lock()
	h.roster = last
	h.mu.Unlock()
}

// recallHosts returns the roster that rememberHosts wrote last.
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

// ownAddress returns the address of a host that has joined: the one of its invitation.
func ownAddress(j identity.Joined) netip.AddrPort {
	ips := j.Credentials.Certificate.IPAddresses
	if len(ips) == 0 {
		return netip.AddrPort{}
	}
	at, _ := netip.AddrFromSlice(ips[0])
	return netip.AddrPortFrom(at.Unmap(), Port)
}
