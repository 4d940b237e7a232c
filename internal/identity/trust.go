package identity

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"time"
)

// Trust is whom a host, or an operator, accepts at the other end of a connection. It does
// not change, and anybody may use it at any time.
type Trust struct {
	stack string
	roots *x509.CertPool
	now   func() time.Time
	// removed reports whether a peer was removed from the stack. It is asked at each
	// handshake and each request, from any goroutine.
	removed func(Peer) bool
}

// NewTrust returns the trust in the certificates of one authority, without those whose
// owners were removed. A nil removed is nobody. Removed are best known by Peer.ID: one that
// goes by the name would keep a new host of the same name out.
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

// Certificates are what a host shows at a handshake: always the newest. A *Keeper is one.
type Certificates interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error)
}

// Server returns the settings of a server that talks to members of the stack only. Package
// tls checks the chain, the time and the use, and so tells the client why it is refused;
// whom the certificate is for is checked here.
//
// Protocols are those of ALPN, such as h2.
func (t *Trust) Server(own Certificates, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      t.roots,
		GetCertificate: own.GetCertificate,
		NextProtos:     protocols,
		Time:           t.now,
		// A connection that is resumed would go by the certificates of before.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := t.peer(state)
			return err
		},
	}
}

// Client returns the settings of a client that talks to one host of the stack: the
// certificate has to be that host's, at whichever address it is reached.
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

// peer returns who is at the other end of a connection, if they are a member.
func (t *Trust) peer(state tls.ConnectionState) (Peer, error) {
	if len(state.PeerCertificates) == 0 {
		return Peer{}, refuse(NotOurs, "the other end has no certificate")
	}
	return t.member(state.PeerCertificates[0])
}

// member returns whom a certificate of the authority is for, if they are a member.
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

// Peer returns who sent a request. It asks anew whether the sender was removed, since a
// connection may be older than that. Its error is an *Error.
func (t *Trust) Peer(r *http.Request) (Peer, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return Peer{}, refuse(NotOurs, "the sender has no certificate of stack %s", t.stack)
	}
	return t.peer(*r.TLS)
}

// Verify checks a certificate without a connection: who issued it, the time, and the use.
// Its error is an *Error.
func (t *Trust) Verify(cert *x509.Certificate, use x509.ExtKeyUsage) (Peer, error) {
	_, err := cert.Verify(x509.VerifyOptions{Roots: t.roots, CurrentTime: t.now(), KeyUsages: []x509.ExtKeyUsage{use}})
	if err != nil {
		return Peer{}, t.explain(err, cert, nameOf(cert))
	}
	return t.member(cert)
}

// RequirePeer passes on requests of members with one of the roles, and answers others with
// 403. It is the second lock behind Server, for a handler that is ever reached otherwise.
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
