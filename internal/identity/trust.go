package identity

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"time"
)

// Trust decides which peers a host or an operator accepts at the other end of a connection. It
// is immutable, and so safe for concurrent use.
type Trust struct {
	stack string
	roots *x509.CertPool
	now   func() time.Time
	// removed reports whether a peer was removed from the stack. It is called at each handshake
	// and each request, and must be safe for concurrent use.
	removed func(Peer) bool
}

// NewTrust returns a Trust that accepts the certificates of one authority, except those whose
// owners removed reports as removed. Removed may be nil, and must be safe for concurrent use. It
// should compare Peer.ID: by the name it would also refuse a new host of the same name.
func NewTrust(authority *x509.Certificate, removed func(Peer) bool, now func() time.Time) (*Trust, error) {
	if err := checkAuthority(authority); err != nil {
		return nil, err
	}
	if removed == nil {
		removed = func(Peer) bool { return false }
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	return &Trust{authority.URIs[0].Host, roots, now, removed}, nil
}

// Certificates returns the newest certificate of a host for each handshake. *Keeper implements
// it.
type Certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error)
}

// Server returns the TLS settings of a server that accepts only members of the stack. Package
// tls checks the chain, the time and the use of a certificate, and tells the client why it is
// refused. The owner of the certificate is checked here.
//
// Protocols are names for ALPN, such as h2.
func (t *Trust) Server(own Certificates, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      t.roots,
		GetCertificate: own.GetCertificate,
		NextProtos:     protocols,
		Time:           t.now,
		// A resumed connection would use the certificates of its former handshake.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := t.peer(state)
			return err
		},
	}
}

// Client returns the TLS settings of a client of one host of the stack. The certificate must
// be that of this host; the address at which it is reached does not matter.
func (t *Trust) Client(own Certificates, host string, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              t.roots,
		ServerName:           host,
		GetClientCertificate: own.GetClientCertificate,
		NextProtos:           protocols,
		Time:                 t.now,
		VerifyConnection: func(state tls.ConnectionState) error {
			peer, err := t.peer(state)
			switch {
			case err != nil:
				return err
			case peer.Role != Host || peer.Name != host:
				return refuse(OtherHost, "host %s was expected at the other end, and there is %s: the address in the stack file is another host's, or the hosts have exchanged their addresses", host, peer)
			}
			return nil
		},
	}
}

// peer returns the peer at the other end of a connection, or an *Error if it is not a member.
func (t *Trust) peer(state tls.ConnectionState) (Peer, error) {
	if len(state.PeerCertificates) == 0 {
		return Peer{}, refuse(NotOurs, "the other end has no certificate")
	}
	return t.member(state.PeerCertificates[0])
}

// member returns the owner of a certificate, or an *Error if it is not a member. It does not
// check who issued the certificate.
func (t *Trust) member(cert *x509.Certificate) (Peer, error) {
	peer, err := PeerOf(cert)
	switch {
	case err != nil:
		return Peer{}, err
	case peer.Stack != t.stack:
		return Peer{}, refuse(OtherStack, "the certificate of %s is for stack %s and not for stack %s", peer, peer.Stack, t.stack)
	case t.removed(peer):
		return Peer{}, refuse(Removed, "%s was removed from stack %s: it can join again with 'holdfast host add %s'", peer, t.stack, peer.Name)
	}
	return peer, nil
}

// Peer returns the sender of a request. It checks again whether the sender was removed, since
// that may have happened after the handshake. The error is an *Error.
func (t *Trust) Peer(r *http.Request) (Peer, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return Peer{}, refuse(NotOurs, "the sender has no certificate of stack %s", t.stack)
	}
	return t.peer(*r.TLS)
}

// Verify checks a certificate without a connection: its issuer, the time, and the use. It
// returns its owner, or an *Error.
func (t *Trust) Verify(cert *x509.Certificate, use x509.ExtKeyUsage) (Peer, error) {
	_, err := cert.Verify(x509.VerifyOptions{Roots: t.roots, CurrentTime: t.now(), KeyUsages: []x509.ExtKeyUsage{use}})
	if err != nil {
		return Peer{}, t.explain(err, cert, nameOf(cert))
	}
	return t.member(cert)
}

// RequirePeer returns a handler that passes requests of members with one of the roles to next,
// and answers others with 403. It is a second check after Server, in case the handler can be
// reached in another way.
func (t *Trust) RequirePeer(next http.Handler, roles ...Role) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := t.Peer(r)
		if err == nil && !slices.Contains(roles, peer.Role) {
			err = refuse(WrongUse, "%s may not ask for this", peer)
		}
		if err != nil {
			answerError(w, http.StatusForbidden, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}
