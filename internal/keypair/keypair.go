// Package keypair is a certificate with its key in files that another program renews. Each
// TLS handshake shows the newest one. The issuer and the time of a renewal are not known here.
package keypair

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// Pair is a certificate and its key, which are read again when a file has changed. It is safe
// for concurrent use.
type Pair struct {
	certificate, key string // paths, which may be the same

	mu     sync.Mutex
	seen   [2]fs.FileInfo
	newest *tls.Certificate
}

// Open reads a certificate and its key, in PEM.
func Open(certificate, key string) (*Pair, error) {
	p := &Pair{certificate: certificate, key: key}
	return p, p.read()
}

// read reads the files if they have changed. If that fails, the pair that was read before stays.
func (p *Pair) read() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now [2]fs.FileInfo
	for i, path := range []string{p.certificate, p.key} {
		var err error
		if now[i], err = os.Stat(path); err != nil {
			return err
		}
	}
	if p.newest != nil && same(now[0], p.seen[0]) && same(now[1], p.seen[1]) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(p.certificate, p.key)
	if err != nil {
		return fmt.Errorf("the certificate in %s: %w", p.certificate, err)
	}
	p.seen, p.newest = now, &pair
	return nil
}

// same reports whether a file is unchanged.
func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Newest returns the newest pair that could be read.
func (p *Pair) Newest() *tls.Certificate {
	_ = p.read() // a file may just be being written; the old pair is still valid
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest
}

// Show makes clients and servers with these settings show the newest pair.
func (p *Pair) Show(c *tls.Config) {
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.Newest(), nil }
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.Newest(), nil }
}

// Mutual returns TLS settings for both ends of connections on which each end shows a
// certificate of one of the authorities in a file (PEM). A client also verifies the server's
// name: tls.Config.ServerName, or the name that it dials.
func Mutual(authorities string, own *Pair) (*tls.Config, error) {
	text, err := os.ReadFile(authorities)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: %w", authorities, errors.New("there is no certificate in PEM in it"))
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		// A resumed connection would use the certificates of its former handshake.
		SessionTicketsDisabled: true,
	}
	own.Show(c)
	return c, nil
}

// Hosts returns Mutual for a host whose certificate and key are in one file. If a file is
// missing, the error is fs.ErrNotExist; the caller must not go on without TLS, because
// passwords would be sent in plain text.
func Hosts(certificate, authority string) (*tls.Config, error) {
	own, err := Open(certificate, certificate)
	if err != nil {
		return nil, err
	}
	return Mutual(authority, own)
}
