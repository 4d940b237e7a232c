package keypair

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority issues certificates to files.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) authority {
	a := authority{t: t, key: newKey(t), file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = a.sign(template, template, a.key)
	a.write(a.file, a.cert, nil)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// write replaces a file by a rename, like a program that renews a certificate.
func (a authority) write(path string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			a.t.Fatal(err)
		}
		text = append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), text...)
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes a new certificate with a new key to a file.
func (a authority) issue(path string, number int64) {
	key := newKey(a.t)
	cert := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(number), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"one"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key)
	a.write(path, cert, key)
}

// meet does a handshake between two ends, and returns the serial numbers of the server's and the
// client's certificate.
func meet(t *testing.T, server, client *tls.Config) (ofServer, ofClient int64, err error) {
	t.Helper()
	// Not net.Pipe: both ends may have to write at the same time, for example an alert.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	served := make(chan error, 1)
	s := tls.Server(there, server)
	go func() { served <- s.Handshake() }()
	c := tls.Client(here, client)
	err = c.Handshake()
	if e := <-served; e != nil || err != nil {
		return 0, 0, e
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), s.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func TestARenewedCertificateIsShownAtTheNextHandshake(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	file := filepath.Join(t.TempDir(), "host.pem")
	if c, err := Hosts(file, a.file); c != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without files: %v, %v", c, err)
	}
	a.issue(file, 7)
	settings, err := Hosts(file, a.file)
	if err != nil {
		t.Fatal(err)
	}
	client := settings.Clone()
	client.ServerName = "one"
	for _, number := range []int64{7, 8} {
		if s, c, err := meet(t, settings, client); err != nil || s != number || c != number {
			t.Errorf("both ends see %d and %d, want %d: %v", s, c, number, err)
		}
		a.issue(file, number+1)
	}
	// A damaged file is ignored.
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, _, err := meet(t, settings, client); err != nil || s != 8 {
		t.Errorf("with a damaged file the server shows %d: %v", s, err)
	}
	if _, err := Hosts(file, a.file); err == nil {
		t.Error("a damaged file is opened")
	}
}

func TestWhoHasNoCertificateOfTheAuthorityIsRefused(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	file, foreign := filepath.Join(t.TempDir(), "host.pem"), filepath.Join(t.TempDir(), "host.pem")
	a.issue(file, 7)
	other.issue(foreign, 7)
	server, err := Hosts(file, a.file)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := Hosts(foreign, a.file)
	if err != nil {
		t.Fatal(err)
	}
	stranger.ServerName = "one"
	nobody := stranger.Clone()
	nobody.GetClientCertificate = nil
	for name, client := range map[string]*tls.Config{"of another authority": stranger, "without a certificate": nobody} {
		if _, _, err := meet(t, server, client); err == nil {
			t.Errorf("a client %s is let in", name)
		}
	}
	misled := server.Clone()
	misled.ServerName = "two"
	if _, _, err := meet(t, server, misled); err == nil {
		t.Error("a server is taken for another one")
	}
}
