package certificate

import (
	"crypto/tls"
	"errors"
	"slices"
	"sync"
)

// Pinned returns the settings of a client that trusts exactly the certificates with these
// fingerprints, whatever name they are for: those that a server is known to show. known is
// asked when another one is shown than before, since certificates are renewed. It is for
// the stack's own clients, which come by an address.
func Pinned(known func() ([]string, error)) *tls.Config {
	p := &pins{known: known}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// The certificate itself is verified, in the place of its name and its issuer.
		InsecureSkipVerify: true,
		VerifyConnection:   p.verify,
	}
}

// pins are the fingerprints that a client trusts. It is safe for concurrent use.
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
