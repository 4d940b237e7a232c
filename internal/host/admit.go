package host

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"holdfast/internal/agree"
	"holdfast/internal/clock"
	"holdfast/internal/identity"
	"holdfast/internal/quote"
)

// This file is how hosts join and leave. The leader decides all of it; every other host
// forwards such a request to the leader (forward.go).

// Invited is the result of an invitation: the token to give to the new host.
type Invited struct {
	Token   string    `json:"token,omitempty"`
	Host    string    `json:"host"`
	Expires time.Time `json:"expires"`
}

// Invitation is a request for a join token.
type Invitation struct {
	Host    string        `json:"host"`
	Address netip.Addr    `json:"address"`
	Life    time.Duration `json:"life"`
}

// welcome is what a new host receives besides its certificate.
type welcome struct {
	Stack string `json:"stack"`
}

// entry is what a host reports about itself to the leader when it starts.
type entry struct {
	AgreementID string `json:"part"`
	State       string `json:"state"`
	Version     string `json:"version"`
	Run         string `json:"run,omitempty"`
}

// Invite returns a token with which a host can join once, under this name and address. The
// token expires after life.
func (h *Host) Invite(ctx context.Context, name string, address netip.Addr, life time.Duration) (Invited, error) {
	return ask[Invited](ctx, h, "invite", Invitation{name, address, life})
}

// Remove takes a host out of the stack: the host loses its vote, and the other hosts no
// longer accept its certificate.
func (h *Host) Remove(ctx context.Context, name string) error {
	_, err := ask[struct{}](ctx, h, "remove", name)
	return err
}

// commands returns the commands that the leader carries out for any host, by name.
func (h *Host) commands() map[string]command {
	return map[string]command{
		"invite": handle(h.invite),
		"redeem": handle(h.redeem),
		"enlist": handle(h.enlist),
		"enter":  handleFrom(h.entered),
		"remove": handle(h.remove),
	}
}

// attempts is how often the leader tries a write whose document somebody else changed after
// it was read.
const attempts = 5

// change reads a document, applies with to its value, and writes the result. It starts over
// on a conflict: see rewrite.
func change[T any](ctx context.Context, h *Host, term uint64, name string, with func(*T) error) error {
	return h.rewrite(ctx, term, func() ([]agree.Change, error) {
		var value T
		revision, err := h.load(ctx, name, &value)
		if err == nil {
			err = with(&value)
		}
		if err != nil {
			return nil, err
		}
		next, err := newChange(name, revision, value)
		return []agree.Change{next}, err
	})
}

// rewrite writes what changes returns. If one of the documents was changed since it was
// read (agree.ErrConflict), rewrite calls changes again, up to attempts times in all.
func (h *Host) rewrite(ctx context.Context, term uint64, changes func() ([]agree.Change, error)) (err error) {
	for range attempts {
		var next []agree.Change
		if next, err = changes(); err != nil {
			return err
		}
		if _, err = h.member.Write(ctx, term, next...); !errors.Is(err, agree.ErrConflict) {
			return err
		}
	}
	return err
}

// load reads the current version of a document into value. If there is no such document,
// value stays as it is and the revision is 0.
func (h *Host) load(ctx context.Context, name string, value any) (revision uint64, err error) {
	doc, there, err := h.member.Get(ctx, name)
	if err == nil && there {
		if err = json.Unmarshal(doc.Data, value); err != nil {
			err = fmt.Errorf("what the hosts agree on (%s) cannot be read: %w", name, err)
		}
	}
	return doc.Revision, err
}

// newChange returns the change that gives a document a new value.
func newChange(name string, revision uint64, value any) (agree.Change, error) {
	text, err := json.Marshal(value)
	return agree.Change{Name: name, Data: text, Revision: revision}, err
}

func (h *Host) invite(ctx context.Context, term uint64, in Invitation) (Invited, error) {
	authority, err := h.authority()
	if err != nil {
		return Invited{}, err
	}
	// The roster is read by load and not taken from h.roster, which may not have a removal
	// yet that was agreed on a moment ago.
	var now roster
	if _, err := h.load(ctx, rosterDocument, &now); err != nil {
		return Invited{}, err
	}
	var members []netip.AddrPort
	for _, m := range now.members() {
		if m.Name == in.Host && m.AgreementID != "" {
			return Invited{}, fmt.Errorf("host %s is one of the stack already: 'holdfast host remove %s' takes it out, so that it can join anew", in.Host, in.Host)
		}
		members = append(members, m.Address)
	}

	at := time.Now()
	token, invitation, err := identity.Invite(authority.Certificate(), in.Host, []netip.Addr{in.Address}, members, in.Life, at, rand.Reader)
	if err != nil {
		return Invited{}, err
	}

	err = change(ctx, h, term, invitationsDocument, func(all *identity.Invitations) error {
		if *all == nil {
			*all = identity.Invitations{}
		}
		all.Forget(at)
		return all.Add(invitation, at)
	})
	return Invited{token.Encode(), in.Host, invitation.Expires}, err
}

func (h *Host) redeem(ctx context.Context, term uint64, c identity.Claim) (redeemed identity.Invitation, err error) {
	err = change(ctx, h, term, invitationsDocument, func(all *identity.Invitations) error {
		if *all == nil {
			*all = identity.Invitations{}
		}
		redeemed, err = all.Redeem(c)
		return err
	})
	return redeemed, err
}

// enlist adds a host to the roster while it joins, before it has started.
func (h *Host) enlist(ctx context.Context, term uint64, m Member) (welcome, error) {
	err := change(ctx, h, term, rosterDocument, func(r *roster) error {
		if slices.Contains(r.Gone, m.ID) {
			return identity.Told(identity.Removed, fmt.Sprintf("host %s was removed after it had joined with this token: make a new one with 'holdfast host add %s'", m.Name, m.Name))
		}
		if r.Hosts[m.Name].ID != m.ID { // equal: the host repeats its request, and may have started since
			*r = r.with(m)
		}
		return nil
	})
	return welcome{h.self.Stack}, err
}

// entered records what a host that has started reports, and gives it a vote if it has none.
func (h *Host) entered(ctx context.Context, term uint64, from identity.Peer, e entry) (struct{}, error) {
	if name, _, _ := strings.Cut(e.AgreementID, "/"); name != from.Name {
		return struct{}{}, fmt.Errorf("%s asks for the vote of %s", from, quote.Text(e.AgreementID))
	}

	h.voting.Lock()
	defer h.voting.Unlock()

	var m Member
	err := change(ctx, h, term, rosterDocument, func(r *roster) error {
		known, is := r.Hosts[from.Name]
		if !is || known.ID != from.ID {
			return fmt.Errorf("%s is no host of the stack any more: it can join anew ('holdfast host add %s')", from, from.Name)
		}
		known.AgreementID, known.State, known.Version, known.Run = e.AgreementID, e.State, e.Version, e.Run
		m, r.Hosts[from.Name] = known, known
		return nil
	})
	if err != nil {
		return struct{}{}, err
	}

	for _, peer := range h.member.Members() {
		switch {
		case peer.ID == e.AgreementID && peer.Voter:
			return struct{}{}, nil
		case peer.Name == m.Name && peer.ID != e.AgreementID:
			return struct{}{}, h.member.Replace(ctx, e.AgreementID, memberAddress(m.Name))
		}
	}
	return struct{}{}, h.member.Add(ctx, e.AgreementID, memberAddress(m.Name))
}

// enter reports this host to the leader and tries again until the leader has recorded it:
// then this host has its vote, and the leader knows its state directory.
func (h *Host) enter() {
	for pauses := (clock.Backoff{Min: 100 * time.Millisecond, Max: 2 * time.Second}); h.life.Err() == nil; clock.Sleep(h.life, pauses.Next()) {
		err := h.tryEnter()
		if err == nil {
			return
		}
		h.cfg.Log.Info("this host is not heard by the stack yet", "why", err)
	}
}

func (h *Host) tryEnter() error {
	ctx, cancel := context.WithTimeout(h.life, 10*time.Second)
	defer cancel()
	_, err := ask[struct{}](ctx, h, "enter", entry{h.member.ID(), h.cfg.State, h.cfg.Version, h.run})
	return err
}

// authority returns the stack's certificate authority with its key. Every host has it, like
// the stack's other secrets.
func (h *Host) authority() (*identity.Authority, error) {
	doc, there := h.member.GetStale(authorityDocument)
	if !there {
		return nil, errors.New("this host does not know the stack's authority yet")
	}
	return identity.ParseAuthority(doc.Data)
}

func (h *Host) secret(name string) (string, error) {
	a, err := h.authority()
	if err != nil {
		return "", err
	}
	return a.Secret(name)
}

// issue signs a certificate request with the stack's authority.
func (h *Host) issue(_ context.Context, request []byte, g identity.Grant) ([]byte, error) {
	authority, err := h.authority()
	if err != nil {
		return nil, err
	}
	return authority.Issue(request, g, time.Now(), rand.Reader)
}

// renew renews this host's own certificate.
func (h *Host) renew(ctx context.Context, request []byte) ([]byte, error) {
	return h.issue(ctx, request, identity.Grant{
		Peer: h.keeper.Credentials().Peer(), Addresses: []netip.Addr{h.self.Address.Addr()}, Life: identity.DefaultLife,
	})
}

// joins returns the service to which new hosts send their join requests.
func (h *Host) joins() identity.Joins {
	return identity.Joins{
		Authority: h.keeper.Credentials().Authority,
		Redeem: func(ctx context.Context, c identity.Claim) (identity.Invitation, error) {
			return ask[identity.Invitation](ctx, h, "redeem", c)
		},
		Issue: h.issue,
		Welcome: func(ctx context.Context, p identity.Peer) (identity.Welcome, error) {
			return h.welcome(ctx, p)
		},
		Now: time.Now, Log: h.cfg.Log,
	}
}

func (h *Host) welcome(ctx context.Context, p identity.Peer) (identity.Welcome, error) {
	invitation, err := h.invitationOf(p)
	if err != nil {
		return identity.Welcome{}, err
	}
	m := Member{Name: p.Name, Address: netip.AddrPortFrom(invitation.Addresses[0], Port), ID: p.ID, Joined: time.Now().UTC()}
	w, err := ask[welcome](ctx, h, "enlist", m)
	if err != nil {
		return identity.Welcome{}, err
	}
	payload, err := json.Marshal(w)
	answer := identity.Welcome{Payload: payload}
	for _, other := range h.Members() {
		answer.Members = append(answer.Members, identity.Member{Name: other.Name, ID: other.ID, Addresses: []netip.AddrPort{other.Address}})
	}
	return answer, err
}

// invitationOf returns the invitation with which a host has joined.
func (h *Host) invitationOf(p identity.Peer) (identity.Invitation, error) {
	doc, _ := h.member.GetStale(invitationsDocument)
	var all identity.Invitations
	if err := json.Unmarshal(doc.Data, &all); err != nil {
		return identity.Invitation{}, fmt.Errorf("read the invitations: %w", err)
	}
	for _, i := range all {
		if i.Member == p.ID && len(i.Addresses) > 0 {
			return i, nil
		}
	}
	return identity.Invitation{}, fmt.Errorf("no invitation of %s is known here yet", p)
}

// Join joins the stack of a token, and makes the state directory that of the new host. It
// does not start the host: see Open.
func Join(ctx context.Context, state, token string) (Self, error) {
	t, err := identity.ParseToken(token)
	if err != nil {
		return Self{}, err
	}
	if self, err := ReadSelf(state); err == nil {
		return Self{}, fmt.Errorf("the state directory %s is that of host %s of stack %s already", state, self.Name, self.Stack)
	} else if !errors.Is(err, ErrNotJoined) {
		return Self{}, err
	}

	if err := makeStateDir(state); err != nil {
		return Self{}, err
	}
	if err := mayListen(t); err != nil {
		return Self{}, err
	}

	dir, err := identity.OpenDir(identityDir(state))
	if err != nil {
		return Self{}, err
	}
	key, err := dir.PendingKey()
	if err != nil {
		return Self{}, err
	}

	joined, err := identity.Join(ctx, t, "", key, time.Now)
	if err != nil {
		return Self{}, err
	}
	if _, err := dir.Save(joined.Credentials); err != nil {
		return Self{}, err
	}

	self := Self{Stack: t.Stack, Name: t.Host, Address: ownAddress(joined)}
	// The new host needs the addresses of the others as soon as it starts.
	return self, errors.Join(rememberHosts(state, rosterOf(joined)), writeSelf(state, self))
}

// mayListen returns an error if this machine cannot listen at the address of the token. Most
// often the token is used on the wrong machine. It has to be noticed before the join,
// because a token is valid once.
func mayListen(t identity.Token) error {
	if !t.Address.IsValid() {
		return nil
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(t.Address, Port).String())
	if err != nil {
		return fmt.Errorf("the join token is for host %s at %s, and this machine cannot listen there: %w. Use it on the machine that has the address; it is not used up", t.Host, t.Address, err)
	}
	return l.Close()
}

func saveCredentials(dir *identity.Dir, a *identity.Authority, der []byte, key *ecdsa.PrivateKey) error {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	c, err := identity.NewCredentials(a.Certificate(), certificate, key)
	if err != nil {
		return err
	}
	_, err = dir.Save(c)
	return err
}
