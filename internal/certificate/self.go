package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"
)

// How long a self-signed certificate is valid, and how long before its end it is renewed.
// Browsers accept at most 398 days.
const (
	selfLife  = 365 * 24 * time.Hour
	selfRenew = 30 * 24 * time.Hour
	// clockError is how far the clocks of clients may be behind.
	clockError = time.Hour
)

// SelfSigned makes a self-signed certificate for names and addresses. If there was one before,
// it keeps that one's key, so that clients that trust the key need not be told again.
func SelfSigned(names []string, before *Pair, now time.Time) (Pair, error) {
	var key *ecdsa.PrivateKey
	if before != nil {
		_, signer, err := parse(before.PEM)
		if err != nil {
			return Pair{}, err
		}
		key, _ = signer.(*ecdsa.PrivateKey)
	}

	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return Pair{}, fmt.Errorf("make a key: %w", err)
		}
	}

	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, fmt.Errorf("make a serial number: %w", err)
	}

	about := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{Organization: []string{"Holdfast, self-signed"}},
		NotBefore:    now.Add(-clockError).Truncate(time.Second), NotAfter: now.Add(selfLife).Truncate(time.Second),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}

	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			about.IPAddresses = append(about.IPAddresses, ip)
		} else {
			about.DNSNames = append(about.DNSNames, name)
		}
	}

	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		return Pair{}, fmt.Errorf("make a certificate: %w", err)
	}

	var p Pair
	if p.Leaf, err = x509.ParseCertificate(der); err != nil {
		return Pair{}, err
	}
	return p, p.encode(key)
}

// Renew reports whether a self-signed certificate has to be replaced: it expires soon, or is not
// for all of the names.
func Renew(c *x509.Certificate, names []string, now time.Time) bool {
	if now.Add(selfRenew).After(c.NotAfter) {
		return true
	}
	for _, name := range names {
		if !Covers(c, name) {
			return true
		}
	}
	return false
}
