package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"time"
)

const (
	// backdate is how long before its issue a certificate begins to be valid, so that hosts
	// whose clocks are behind accept it.
	backdate = 24 * time.Hour
	// authorityLife is long because nothing replaces an authority automatically.
	authorityLife = 30 * 365 * 24 * time.Hour
	// DefaultLife is how long a host's certificate is valid. Renewal begins after two thirds
	// of it, so a month is left to repair whatever prevents the renewal.
	DefaultLife = 90 * 24 * time.Hour
)

// Authority is a stack's certificate authority with its private key. A holder can issue any
// certificate of the stack. It is immutable, and so safe for concurrent use.
type Authority struct {
	stack string
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
}

// NewAuthority makes the authority of a new stack.
//
// Its key, like every key here, is an ECDSA key of the curve P-256. All versions of Go and of
// OpenSSL, and so of Redis and HAProxy, accept it. OpenSSL is faster with it than with Ed25519.
func NewAuthority(stack string, now time.Time, random io.Reader) (*Authority, error) {
	if !validStack.MatchString(stack) {
		return nil, Peer{Stack: stack}.check()
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	return selfSigned(stack, key, x509.Certificate{NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife)}, random)
}

// selfSigned returns the authority of a key. Its certificate has the validity and the serial
// number of the template; x509 draws a number if the template has none.
func selfSigned(stack string, key *ecdsa.PrivateKey, template x509.Certificate, random io.Reader) (*Authority, error) {
	template.Subject = pkix.Name{CommonName: "Holdfast authority of " + stack}
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.BasicConstraintsValid, template.IsCA = true, true
	template.MaxPathLenZero = true // it issues to hosts and operators only
	template.URIs = []*url.URL{stackURI(stack)}
	der, err := x509.CreateCertificate(random, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make the stack's certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the stack's certificate authority: %w", err)
	}
	return &Authority{stack, cert, key}, nil
}

// Secret returns the secret of a name, 64 hexadecimal digits. It is derived from the
// authority's key. So every host gets the same one, as does the maker of a stack's passes.
func (a *Authority) Secret(name string) (string, error) {
	key, err := a.key.Bytes()
	if err != nil {
		return "", fmt.Errorf("read the authority's key: %w", err)
	}
	secret, err := hkdf.Key(sha256.New, key, nil, "holdfast secret "+name, 32)
	if err != nil {
		return "", fmt.Errorf("derive a secret: %w", err)
	}
	return hex.EncodeToString(secret), nil
}

// NewKey makes a private key for an authority or a host.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// Stack returns the name of the stack.
func (a *Authority) Stack() string { return a.stack }

// Certificate returns the authority's own certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Fingerprint returns the SHA-256 of a certificate. A join token has that of the authority's.
func Fingerprint(cert *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(cert.Raw) }

// Grant is the content of a certificate to issue. Nothing of it comes from the request for the
// certificate, from which only the public key is taken.
type Grant struct {
	Peer      Peer         // without Serial
	Addresses []netip.Addr // of a host; an operator has none
	Life      time.Duration
}

// Issue issues a certificate for the key of a request (PKCS #10, in DER), which must be signed
// with that key. It returns the certificate in DER.
func (a *Authority) Issue(request []byte, g Grant, now time.Time, random io.Reader) ([]byte, error) {
	if err := g.Peer.check(); err != nil {
		return nil, err
	}
	if g.Peer.Stack != a.stack {
		return nil, refuse(OtherStack, "the authority of stack %s issues no certificate for stack %s", a.stack, g.Peer.Stack)
	}
	key, err := requestedKey(request)
	if err != nil {
		return nil, err
	}
	switch {
	case now.Before(a.cert.NotBefore):
		return nil, refuse(ClockOff, "this host's clock says %s, which is before the stack's authority was made (%s): set the clock", stamp(now), stamp(a.cert.NotBefore.Add(backdate)))
	case now.After(a.cert.NotAfter):
		return nil, refuse(Expired, "the stack's authority ended at %s and this host's clock says %s: set the clock if it is wrong, else the stack needs a new authority", stamp(a.cert.NotAfter), stamp(now))
	}

	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: g.Peer.Name, Organization: []string{"Holdfast stack " + a.stack}},
		NotBefore:             later(now.Add(-backdate), a.cert.NotBefore),
		NotAfter:              earlier(now.Add(g.Life), a.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{g.Peer.uri()},
	}
	if g.Peer.Role == Host {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		template.DNSNames = []string{g.Peer.Name}
		for _, address := range g.Addresses {
			template.IPAddresses = append(template.IPAddresses, net.IP(address.Unmap().AsSlice()))
		}
	}
	der, err := x509.CreateCertificate(random, template, a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", g.Peer, err)
	}
	return der, nil
}

// requestedKey returns the public key of a request, after it has checked that the request is
// signed with the private one.
func requestedKey(request []byte) (*ecdsa.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, refuse(BadRequest, "the request for a certificate cannot be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refuse(BadRequest, "the request for a certificate is not signed with its own key: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, refuse(BadRequest, "the request for a certificate has a key of another kind than ECDSA P-256")
	}
	return key, nil
}

// NewRequest makes a request for a certificate, in DER. It has the public key and is signed
// with the private one. It has no name, because the authority takes none from a request.
func NewRequest(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a request for a certificate: %w", err)
	}
	return der, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// stamp formats a time for messages.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
