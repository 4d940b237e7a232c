package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Certificates are those of a cluster that speaks TLS, in PEM: the authority
// that signed all others, and a certificate with its key for 127.0.0.1, which
// servers and clients may introduce themselves with.
type Certificates struct{ Authority, Certificate, Key []byte }

// StartTLS is Start with nodes and Sentinels that speak TLS with each other,
// and with clients that have a certificate too; Server.Do goes without.
func StartTLS(t testing.TB, replicas, sentinels int) *Cluster {
	t.Helper()
	return start(t, replicas, sentinels, newCertificates(t))
}

// conf is what a server's configuration says of TLS, and the address.
func (c *Certificates) conf(t testing.TB, dir string) (addr, conf string) {
	t.Helper()
	if c == nil {
		return "", ""
	}
	for name, text := range map[string][]byte{"ca.pem": c.Authority, "cert.pem": c.Certificate, "key.pem": c.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := FreePort(t)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), fmt.Sprintf(`tls-port %d
tls-ca-cert-file %[2]s/ca.pem
tls-cert-file %[2]s/cert.pem
tls-key-file %[2]s/key.pem
tls-auth-clients yes
tls-replication yes
`, port, dir)
}

func newCertificates(t testing.TB) *Certificates {
	t.Helper()
	sign := func(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server of a test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	authorityKey, leafKey := newKey(), newKey()
	der, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return &Certificates{
		Authority:   sign(authority, authority, authorityKey, authorityKey),
		Certificate: sign(leaf, authority, leafKey, authorityKey),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
	}
}
