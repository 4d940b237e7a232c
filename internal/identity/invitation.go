package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// DefaultTokenLife is how long a join token is valid.
	DefaultTokenLife = 30 * time.Minute
	// rememberFor is how long an expired invitation is kept, so that a host that comes too
	// late, or a second time, is told so.
	rememberFor = 24 * time.Hour
	// maxInvitations is the largest number of invitations that are kept.
	maxInvitations = 256
)

// Invitation is what the stack keeps about a join token: enough to recognize the token, and not
// enough to make it.
type Invitation struct {
	ID         string       `json:"id"`
	Host       string       `json:"host"`
	Addresses  []netip.Addr `json:"addresses"`   // the host's, for its certificate
	SecretHash []byte       `json:"secret-hash"` // SHA-256
	Expires    time.Time    `json:"expires"`
	// Member is the Peer.ID that the host will have.
	Member string `json:"member"`
	// UsedBy is the SHA-256 of the public key that joined with the token, or empty if it was
	// not used.
	UsedBy []byte `json:"used-by,omitempty"`
	// Standing is true for the invitation of a pass (see Pass): it can be used again and again,
	// and Member and UsedBy are those of the last use.
	Standing bool `json:"standing,omitempty"`
}

// Invite makes a token for a host, and its invitation, which the stack must keep before the
// token is shown. Addresses are those of the new host; members are the addresses of the hosts
// that it may ask to join.
func Invite(authority *x509.Certificate, host string, addresses []netip.Addr, members []netip.AddrPort, life time.Duration, now time.Time, random io.Reader) (Token, Invitation, error) {
	if err := checkAuthority(authority); err != nil {
		return Token{}, Invitation{}, err
	}

	t := Token{
		Stack: authority.URIs[0].Host, Host: host, Members: members,
		Expires: now.Add(life).Truncate(time.Second), Authority: Fingerprint(authority),
	}
	if len(addresses) > 0 {
		t.Address = addresses[0]
	}

	member, err := NewID(random)
	if err != nil {
		return Token{}, Invitation{}, err
	}
	if err := (Peer{Stack: t.Stack, Role: Host, Name: host, ID: member}).check(); err != nil {
		return Token{}, Invitation{}, err
	}

	if !t.valid() || len(t.Encode()) > maxToken {
		return Token{}, Invitation{}, fmt.Errorf("a join token names 1 to %d members with address and port, and has %d", maxMembers, len(members))
	}

	for _, secret := range [][]byte{t.ID[:], t.Secret[:]} {
		if _, err := io.ReadFull(random, secret); err != nil {
			return Token{}, Invitation{}, fmt.Errorf("read random bytes: %w", err)
		}
	}

	hash := sha256.Sum256(t.Secret[:])
	return t, Invitation{
		ID: hex.EncodeToString(t.ID[:]), Host: host, Addresses: addresses,
		SecretHash: hash[:], Expires: t.Expires, Member: member,
	}, nil
}

// Invitations are the invitations of a stack, by ID. They are a plain value, which the caller
// keeps where all members see it. The outcome of each method depends only on the value and the
// arguments, so members that apply the same calls in the same order get the same result. They
// are not safe for concurrent use.
type Invitations map[string]Invitation

// Add adds an invitation, and withdraws an older unused one for the same host: of two tokens
// for one host only the newer is valid. It returns an *Error, reason TooMany, if there are
// maxInvitations already.
func (all Invitations) Add(i Invitation, now time.Time) error {
	all.Forget(now)
	all.Withdraw(i.Host)
	if len(all) >= maxInvitations {
		return refuse(TooMany, "there are %d join tokens of the last %s: try again later", len(all), rememberFor)
	}
	all[i.ID] = i
	return nil
}

// Withdraw removes the unused invitations for a host, except a standing one.
func (all Invitations) Withdraw(host string) {
	maps.DeleteFunc(all, func(_ string, i Invitation) bool { return i.Host == host && i.UsedBy == nil && !i.Standing })
}

// Revoke removes all invitations for a host, including the used ones: with such a token its
// owner could ask for the same certificate again.
func (all Invitations) Revoke(host string) {
	maps.DeleteFunc(all, func(_ string, i Invitation) bool { return i.Host == host })
}

// Forget removes the invitations that expired more than rememberFor ago.
func (all Invitations) Forget(now time.Time) {
	maps.DeleteFunc(all, func(_ string, i Invitation) bool { return now.After(i.Expires.Add(rememberFor)) })
}

// Open returns the names of the hosts that are invited and have not joined, sorted.
func (all Invitations) Open(now time.Time) []string {
	var hosts []string
	for _, i := range all {
		if i.UsedBy == nil && !now.After(i.Expires) {
			hosts = append(hosts, i.Host)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// Claim is an attempt to join. It has hashes and no secret, so it may be logged.
type Claim struct {
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	SecretHash []byte    `json:"secret-hash"`
	Key        []byte    `json:"key"` // SHA-256 of the public key
	At         time.Time `json:"at"`
}

// Redeem marks an invitation as used by a key, and returns it. The same key may redeem it again
// until it expires, because the answer to the first attempt may have been lost. The error is an
// *Error.
//
// Only a claim with the right secret is told what else is wrong.
func (all Invitations) Redeem(c Claim) (Invitation, error) {
	i, known := all[c.ID]
	if subtle.ConstantTimeCompare(i.SecretHash, c.SecretHash) != 1 || !known {
		return Invitation{}, refuse(TokenUnknown, "the join token is not known to this stack: it was withdrawn, a newer one was made for the host, or it is of another stack")
	}
	switch {
	case c.Host != i.Host:
		return Invitation{}, refuse(OtherHost, "the join token is for host %s and not for another: make one for each host with 'holdfast host add'", i.Host)
	case i.Standing && !c.At.After(i.Expires):
		return all.redeemStanding(i, c)
	case i.UsedBy != nil && subtle.ConstantTimeCompare(i.UsedBy, c.Key) != 1:
		return Invitation{}, refuse(TokenUsed, "the join token for host %s was used already: each is for one use; if that was not you, remove host %s at once", i.Host, i.Host)
	case c.At.After(i.Expires):
		return Invitation{}, refuse(TokenExpired, "the join token for host %s ended at %s: make a new one with 'holdfast host add %s'", i.Host, stamp(i.Expires), i.Host)
	}
	i.UsedBy = c.Key
	all[c.ID] = i
	return i, nil
}
