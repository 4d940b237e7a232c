package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
)

// Credentials are a host's certificate with its private key, and the certificate of the
// stack's authority.
type Credentials struct {
	Authority   *x509.Certificate
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// NewCredentials returns credentials of these parts, or an *Error if they do not belong
// together. It does not check whether the certificates are valid at this time.
func NewCredentials(authority, certificate *x509.Certificate, key *ecdsa.PrivateKey) (Credentials, error) {
	if err := checkAuthority(authority); err != nil {
		return Credentials{}, err
	}
	peer, err := PeerOf(certificate)
	if err != nil {
		return Credentials{}, err
	}
	if err := certificate.CheckSignatureFrom(authority); err != nil {
		return Credentials{}, refuse(OtherAuthority, "the certificate of %s was issued by another authority than the stack's: %w", peer, err)
	}
	if stack := authority.URIs[0].Host; peer.Stack != stack {
		return Credentials{}, refuse(OtherStack, "the certificate of %s is for stack %s and not for stack %s", peer, peer.Stack, stack)
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return Credentials{}, refuse(OtherHost, "the certificate of %s does not belong to the key that stands beside it", peer)
	}
	return Credentials{authority, certificate, key}, nil
}

// checkAuthority returns an *Error if a certificate is not that of a stack's authority.
func checkAuthority(cert *x509.Certificate) error {
	switch {
	case !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return refuse(NotOurs, "the certificate of the authority is not one of an authority")
	case len(cert.URIs) != 1 || !validStack.MatchString(cert.URIs[0].Host) || cert.URIs[0].String() != stackURI(cert.URIs[0].Host).String():
		return refuse(NotOurs, "the certificate of the authority does not name a stack")
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return refuse(NotOurs, "the certificate of the authority is not signed by itself: %w", err)
	}
	return nil
}

// Peer returns the owner of the certificate.
func (c Credentials) Peer() Peer {
	p, _ := PeerOf(c.Certificate) // NewCredentials has checked that there is one
	return p
}

// tls returns the certificate as package tls takes it.
func (c Credentials) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{c.Certificate.Raw}, PrivateKey: c.Key, Leaf: c.Certificate}
}

// tlsWithAuthority is tls with the authority's certificate added. A host that wants to join
// compares that one with the hash in its token.
func (c Credentials) tlsWithAuthority() *tls.Certificate {
	shown := c.tls()
	shown.Certificate = append(shown.Certificate, c.Authority.Raw)
	return shown
}

// The kinds of block in a PEM file (RFC 7468). A key is in PKCS #8.
const (
	blockKey         = "PRIVATE KEY"
	blockCertificate = "CERTIFICATE"
)

// PEM returns all of the credentials as the content of one file: the key, the certificate, and
// the authority's certificate. Redis, HAProxy and Go read the certificate and the key from the
// same file, so at no moment is one of them new and the other old.
func (c Credentials) PEM() ([]byte, error) {
	key, err := keyPEM(c.Key)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{key, certificatePEM(c.Certificate), certificatePEM(c.Authority)}, nil), nil
}

// ParseCredentials parses the result of PEM. The error is a *DamagedError, or an *Error if the
// parts do not belong together.
func ParseCredentials(text []byte) (Credentials, error) {
	key, certs, err := parsePEM(text, 2)
	if err != nil {
		return Credentials{}, err
	}
	return NewCredentials(certs[1], certs[0], key)
}

// PEM returns the authority with its key, a secret of the stack, as the content of a file.
func (a *Authority) PEM() ([]byte, error) {
	key, err := keyPEM(a.key)
	if err != nil {
		return nil, err
	}
	return append(key, certificatePEM(a.cert)...), nil
}

// ParseAuthority parses the result of PEM. Its errors are those of ParseCredentials.
func ParseAuthority(text []byte) (*Authority, error) {
	key, certs, err := parsePEM(text, 1)
	if err != nil {
		return nil, err
	}
	if err := checkAuthority(certs[0]); err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, damaged("the key of the authority does not belong to its certificate")
	}
	return &Authority{certs[0].URIs[0].Host, certs[0], key}, nil
}

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: cert.Raw})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

// parsePEM parses a text with a key and this number of certificates, in this order, and
// nothing else.
func parsePEM(text []byte, certificates int) (*ecdsa.PrivateKey, []*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != blockKey {
		return nil, nil, damaged("it does not begin with a private key")
	}
	key, err := parseKey(block.Bytes)
	if err != nil {
		return nil, nil, err
	}
	var certs []*x509.Certificate
	for range certificates {
		if block, rest = pem.Decode(rest); block == nil || block.Type != blockCertificate {
			return nil, nil, damaged("it has fewer certificates than the %d that belong there", certificates)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, damaged("a certificate cannot be read: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, nil, damaged("it has something behind its last certificate")
	}
	return key, certs, nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The error may quote the key.
		return nil, damaged("the private key cannot be read")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, damaged("the private key is none of ECDSA P-256")
	}
	return key, nil
}
