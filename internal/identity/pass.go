package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// A pass makes a container a host of its stack each time that the container starts with an
// empty state directory. The operator makes the passes of all hosts before the stack exists, and
// gives each container its own pass as a secret. A pass has the stack's authority, which every
// host has anyway, so that the first host can begin the stack. It also has a join token with a
// standing invitation: the token is not used up, and each join with it replaces the former host.

// PassLife is how long a pass is valid.
const PassLife = 10 * 365 * 24 * time.Hour

const (
	passFormat  = "holdfast host pass"
	passVersion = 1
	maxPass     = 256 << 10
)

// Seat is a host that the stack is to have.
type Seat struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
}

// Pass is the pass of one host.
type Pass struct {
	Token Token
	// Seats are all hosts of the stack. The first one begins it.
	Seats     []Seat
	Authority *Authority
	// Invitations are those of all hosts. The host that begins the stack needs them.
	Invitations Invitations
}

// passFields is the JSON form of a pass.
type passFields struct {
	Format      string      `json:"format"`
	Version     int         `json:"version"`
	Stack       string      `json:"stack"`
	Host        string      `json:"host"`
	Expires     time.Time   `json:"expires"`
	Seats       []Seat      `json:"seats"`
	Token       string      `json:"token"`
	Authority   string      `json:"authority"`
	Invitations Invitations `json:"invitations"`
}

// NewPasses makes an authority for a new stack, and a pass for each of its hosts. There must be
// at least two hosts.
func NewPasses(stack string, seats []Seat, now time.Time, random io.Reader) ([]Pass, error) {
	if len(seats) < 2 {
		return nil, fmt.Errorf("a stack of %d hosts needs no passes", len(seats))
	}

	authority, err := NewAuthority(stack, now, random)
	if err != nil {
		return nil, err
	}

	all := Invitations{}
	var passes []Pass
	for _, seat := range seats {
		var others []netip.AddrPort
		for _, other := range seats {
			if other.Name != seat.Name {
				others = append(others, other.Address)
			}
		}
		token, invitation, err := Invite(authority.Certificate(), seat.Name, []netip.Addr{seat.Address.Addr()}, others, PassLife, now, random)
		if err != nil {
			return nil, err
		}
		invitation.Standing = true
		if err := all.Add(invitation, now); err != nil {
			return nil, err
		}
		passes = append(passes, Pass{token, seats, authority, all})
	}
	return passes, nil
}

// Encode returns the content of a pass's file, which is a secret.
func (p Pass) Encode() ([]byte, error) {
	authority, err := p.Authority.PEM()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(passFields{
		passFormat, passVersion, p.Token.Stack, p.Token.Host, p.Token.Expires.UTC(), p.Seats, p.Token.Encode(), string(authority), p.Invitations,
	}, "", "  ")
	return append(text, '\n'), err
}

// ReadPass reads the result of Encode. The error is a *DamagedError if it is not a valid pass.
func ReadPass(r io.Reader) (Pass, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxPass+1))
	if err != nil {
		return Pass{}, err
	}
	var f passFields
	if err := json.Unmarshal(content, &f); err != nil || f.Format != passFormat || len(content) > maxPass {
		return Pass{}, damaged("it is no pass of a host, or is damaged: 'holdfast export compose' makes one")
	}
	if f.Version != passVersion {
		return Pass{}, damaged("it is a pass of format %d, and this version of Holdfast knows format %d: use the version that made it", f.Version, passVersion)
	}
	authority, err := ParseAuthority([]byte(f.Authority))
	if err != nil {
		return Pass{}, damaged("its authority cannot be read: %w", err)
	}
	token, err := ParseToken(f.Token)
	if err != nil || token.Host != f.Host || token.Stack != f.Stack || authority.Stack() != f.Stack ||
		token.Authority != Fingerprint(authority.Certificate()) || len(f.Seats) < 2 {
		return Pass{}, damaged("what it says of host %q of stack %q does not go together", f.Host, f.Stack)
	}
	return Pass{token, f.Seats, authority, f.Invitations}, nil
}

// Seat returns the host that the pass is for. It returns false if Seats lacks this host.
func (p Pass) Seat() (Seat, bool) {
	for _, s := range p.Seats {
		if s.Name == p.Token.Host {
			return s, true
		}
	}
	return Seat{}, false
}

// memberOf returns the ID of a host that joins with a standing invitation and this key. It is a
// different one for each key.
func (i Invitation) memberOf(key []byte) (string, error) {
	sum := sha256.Sum256(append([]byte(i.ID+" "), key...))
	return NewID(bytes.NewReader(sum[:]))
}

// redeemStanding is Redeem for a standing invitation. The same key gets the same member ID.
func (all Invitations) redeemStanding(i Invitation, c Claim) (Invitation, error) {
	if subtle.ConstantTimeCompare(i.UsedBy, c.Key) != 1 {
		member, err := i.memberOf(c.Key)
		if err != nil {
			return Invitation{}, err
		}
		i.Member, i.UsedBy = member, c.Key
		all[i.ID] = i
	}
	return i, nil
}

// waitingProtocol is the protocol (ALPN, RFC 7301) of a host that waits for the others to begin
// the stack with. Nothing is exchanged in it: that the host selects it, with a certificate of
// the authority, is the whole message.
const waitingProtocol = "holdfast-waiting/1"

// Waiting returns the TLS settings of the server of a host that has no state and waits.
func (p Pass) Waiting(now time.Time, random io.Reader) (*tls.Config, error) {
	id, err := NewID(random)
	if err != nil {
		return nil, err
	}
	seat, _ := p.Seat()
	c, err := p.Authority.Credentials(Grant{Peer{Stack: p.Token.Stack, Role: Host, Name: p.Token.Host, ID: id}, []netip.Addr{seat.Address.Addr()}, DefaultLife}, now, random)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{waitingProtocol}, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{*c.tlsWithAuthority()},
	}, nil
}

// Asking returns the TLS settings of a client that asks whether a host of the stack is waiting.
// They accept only a certificate of that host. See IsWaiting for the answer.
func (p Pass) Asking(host string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: joinName, NextProtos: []string{waitingProtocol, "http/1.1"},
		InsecureSkipVerify: true, // VerifyConnection verifies: no certificate is for joinName
		VerifyConnection: func(state tls.ConnectionState) error {
			trust, err := NewTrust(p.Authority.Certificate(), nil, now)
			if err != nil {
				return err
			}
			peer, err := trust.Verify(state.PeerCertificates[0], x509.ExtKeyUsageServerAuth)
			switch {
			case err != nil:
				return err
			case peer.Role != Host || peer.Name != host:
				return refuse(OtherHost, "there is %s, and host %s was expected", peer, host)
			}
			return nil
		},
	}
}

// IsWaiting reports whether the host at the other end of a connection (Asking) is waiting.
func IsWaiting(state tls.ConnectionState) bool { return state.NegotiatedProtocol == waitingProtocol }
