package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"holdfast/internal/clock"
)

const (
	// MaxClockOffset is how far the clock of a host that joins may differ from that of the
	// member. The limit exists because web nodes compare their clock with that of the balancer,
	// perhaps on another host, and reject requests that are older than 20 s.
	MaxClockOffset = 10 * time.Second
	// memberTime is how long one member may take to answer.
	memberTime = 15 * time.Second
	// joinRounds is how often all members are tried, and joinPause is the pause in between.
	joinRounds = 2
	joinPause  = time.Second
)

// Joined is the result of a join.
type Joined struct {
	Credentials Credentials
	Welcome
	// By is the member that answered, and Offset how far its clock is ahead of this host's.
	By     netip.AddrPort
	Offset time.Duration
}

// Join asks the members that a token names, one after the other, to let this host join. Name is
// the name that the caller expects in the token, or "" if it expects none. Another attempt has
// to use the same key (Dir.PendingKey), because the answer to the first may have been lost. The
// error is an *Error.
//
// The secret is sent only after the other end has proved that it belongs to the stack: its
// certificate must be of the authority whose hash is in the token.
func Join(ctx context.Context, t Token, name string, key *ecdsa.PrivateKey, now func() time.Time) (Joined, error) {
	if !t.valid() {
		return Joined{}, incomplete()
	}
	if name != "" && name != t.Host {
		return Joined{}, refuse(OtherHost, "the join token is for host %s, and this is to be host %s: make one for it with 'holdfast host add %s'", t.Host, name, name)
	}
	request, err := NewRequest(key)
	if err != nil {
		return Joined{}, err
	}

	var failed error
	for round := range joinRounds {
		if round > 0 && !clock.Sleep(ctx, joinPause) {
			break
		}
		for _, member := range t.Members {
			joined, err := joinAt(ctx, t, member, request, key, now)
			if err == nil {
				return joined, nil
			}
			if final(err) {
				return Joined{}, err
			}
			failed = moreTelling(failed, err)
		}
	}
	if ReasonOf(failed) == Unreachable && now().After(t.Expires) {
		failed = refuse(Unreachable, "%w; by this host's clock the token has ended anyway, at %s", failed, stamp(t.Expires))
	}
	return Joined{}, failed
}

// final reports whether another member would return the same error.
func final(err error) bool {
	switch ReasonOf(err) {
	case TokenUnknown, TokenUsed, TokenExpired, OtherHost, BadRequest, ClockOff, Expired, NotYetValid:
		return true
	}
	return false
}

// moreTelling returns which of two failures to report. The answer of one member tells more than
// the silence of another.
func moreTelling(old, err error) error {
	if old != nil && ReasonOf(old) != Unreachable {
		return old
	}
	return err
}

func joinAt(ctx context.Context, t Token, member netip.AddrPort, request []byte, key *ecdsa.PrivateKey, now func() time.Time) (Joined, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	var authority *x509.Certificate
	client, closeAll := clientOf(&tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: joinName,
		// VerifyConnection verifies the certificate, by the hash in the token.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			authority, err = t.checkMember(state.PeerCertificates, member, now)
			return err
		},
	})
	defer closeAll()
	url := "https://" + member.String() + JoinPath

	// The clocks are compared first: a host whose clock is wrong must not use its token up.
	var told hello
	asked := now()
	if err := exchange(ctx, client, url, nil, &told); err != nil {
		return Joined{}, explainJoin(err, t, member)
	}
	offset, err := compareClocks(told.Time, asked, now(), member)
	if err != nil {
		return Joined{}, err
	}

	var answer joinAnswer
	in := joinRequest{hex.EncodeToString(t.ID[:]), t.Secret[:], t.Host, request}
	if err := exchange(ctx, client, url, in, &answer); err != nil {
		return Joined{}, explainJoin(err, t, member)
	}
	cert, err := x509.ParseCertificate(answer.Certificate)
	if err != nil {
		return Joined{}, refuse(Failed, "the certificate that %s answered cannot be read: %w", member, err)
	}
	c, err := NewCredentials(authority, cert, key)
	if err != nil {
		return Joined{}, err
	}
	if p := c.Peer(); p.Role != Host || p.Name != t.Host {
		return Joined{}, refuse(OtherHost, "%s answered with a certificate for %s and not for host %s", member, p, t.Host)
	}
	if err := checkTime(c, now()); err != nil {
		return Joined{}, err
	}
	return Joined{c, Welcome{answer.Members, answer.Payload}, member, offset}, nil
}

// checkMember returns the authority's certificate if the chain proves that the other end is a
// host of the token's stack.
func (t Token) checkMember(chain []*x509.Certificate, member netip.AddrPort, now func() time.Time) (*x509.Certificate, error) {
	if len(chain) < 2 {
		return nil, refuse(OtherAuthority, "%s does not show the certificate of its authority, as hosts of stack %s do: something else answers there; the secret was not sent", member, t.Stack)
	}
	authority := chain[len(chain)-1]
	if got := Fingerprint(authority); got != t.Authority {
		return nil, refuse(OtherAuthority, "%s has another authority (SHA-256 %x…) than the join token names (%x…): it belongs to another stack, or somebody answers in its place; the secret was not sent",
			member, got[:4], t.Authority[:4])
	}
	trust, err := NewTrust(authority, nil, now)
	if err != nil {
		return nil, err
	}
	peer, err := trust.Verify(chain[0], x509.ExtKeyUsageServerAuth)
	switch {
	case err != nil:
		return nil, err
	case peer.Role != Host || peer.Stack != t.Stack:
		return nil, refuse(WrongUse, "%s shows the certificate of %s of stack %s, and a host of stack %s was expected; the secret was not sent", member, peer, peer.Stack, t.Stack)
	}
	return authority, nil
}

// compareClocks returns how far the member's clock is at least ahead of this host's, or behind
// it (negative). It leaves out the time that the answer took. The error is an *Error, reason
// ClockOff, if that is more than MaxClockOffset.
func compareClocks(theirs, asked, answered time.Time, member netip.AddrPort) (time.Duration, error) {
	var offset time.Duration
	switch {
	case theirs.Before(asked):
		offset = theirs.Sub(asked)
	case theirs.After(answered):
		offset = theirs.Sub(answered)
	}
	if offset.Abs() <= MaxClockOffset {
		return offset, nil
	}
	word := "behind"
	if offset < 0 {
		word = "ahead of"
	}
	return offset, refuse(ClockOff, "this host's clock (%s) is %s %s that of %s: set it (timedatectl set-ntp true) and join again; the token is not used up",
		stamp(answered), offset.Abs().Round(time.Second), word, member)
}

// explainJoin turns the error of a request to join into an *Error that names the member.
func explainJoin(err error, t Token, member netip.AddrPort) error {
	if told := new(Error); errors.As(err, &told) {
		if told.Reason == Failed {
			return refuse(Failed, "%s could not let host %s in: %w; try again with the same token", member, t.Host, told)
		}
		return told
	}
	if errors.As(err, new(tls.RecordHeaderError)) || errors.Is(err, http.ErrSchemeMismatch) {
		return refuse(OtherAuthority, "%s does not speak TLS: something else than Holdfast answers there; the secret was not sent", member)
	}
	if number, ok := remoteAlert(err); ok {
		return explainAlert(number, err, member.String())
	}
	return refuse(Unreachable, "%s does not answer (%w): is the stack up there, and does a firewall let this host in?", member, err)
}

// RenewAt asks a host that has the authority for a new certificate. A Keeper can use it as its
// Renew. The error is an *Error if either end has refused the other.
func RenewAt(ctx context.Context, trust *Trust, own Certificates, host string, at netip.AddrPort, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	client, closeAll := clientOf(trust.Client(own, host))
	defer closeAll()
	var answer renewAnswer
	err := exchange(ctx, client, "https://"+at.String()+RenewPath, renewRequest{request}, &answer)
	if err != nil {
		return nil, fmt.Errorf("ask host %s: %w", host, trust.Explain(err, "host "+host))
	}
	return answer.Certificate, nil
}

// clientOf returns an HTTP client for a few requests to one host. CloseAll closes its
// connections.
func clientOf(cfg *tls.Config) (client *http.Client, closeAll func()) {
	transport := &http.Transport{
		TLSClientConfig: cfg,
		// No proxy: hosts talk to each other directly. No HTTP/2: it brings nothing here.
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		TLSHandshakeTimeout:    bodyTime,
		ResponseHeaderTimeout:  memberTime,
		MaxResponseHeaderBytes: 16 << 10,
	}
	refuseRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: refuseRedirect}, transport.CloseIdleConnections
}
