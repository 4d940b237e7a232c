package certificate

import (
	"crypto/tls"
	"errors"
	"slices"
	"sync"
)

// Pinned returns the TLS settings of a client that trusts exactly the certificates with known
// fingerprints, whatever names they are for. It is for the stack's own clients, which connect
// to addresses and not to names. Known returns the fingerprints; it is called when the server
// shows another certificate than before, because certificates are renewed.
func Pinned(known func() ([]string, error)) *tls.Config {
	p := &pins{known: known}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Instead of the name and the issuer, the certificate itself is verified.
		InsecureSkipVerify: true,
		VerifyConnection:   p.verify,
	}
}

// pins has the fingerprints that a client trusts. It is safe for concurrent use.
type pins struct {
	known func() ([]string, error)
	mu    sync.Mutex
	last  []string
}

func (p *pins) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("what answers shows no certificate")
	}
	shown := Fingerprint(state.PeerCertificates[0])
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(p.last, shown) {
		return nil
	}
	all, err := p.known()
	if err != nil {
		return err
	}
	if p.last = all; !slices.Contains(all, shown) {
		return errors.New("what answers shows another certificate than the stack has")
	}
	return nil
}
