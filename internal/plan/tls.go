package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/stack"
)

// What a balancer shows its clients lies on its host, below the state directory. The
// supervisor writes it there: what the stack file names may be broken, or be written just
// now, and a balancer that starts has to find the last good certificates.
const (
	// CertificatesDir is the directory of the entries' certificates.
	CertificatesDir = "certificates"
	// CertificateList is the file that names those of the stack's entry, the first for
	// clients that ask for no name: a line each (HAProxy's crt-list).
	CertificateList = CertificatesDir + "/list"
)

// CertificateListOf is likewise the file of the tcp entry with that address; empty: of the
// stack's entry.
func CertificateListOf(listen string) string {
	if listen == "" {
		return CertificateList
	}
	sum := sha256.Sum256([]byte(listen))
	return CertificateList + "-" + hex.EncodeToString(sum[:4])
}

// Limits of HTTP/2, where one connection has many requests.
const (
	// h2Streams is how many requests one connection has at once. A browser has some 100
	// in a burst at most, of which it holds back the rest; each needs two buffers.
	h2Streams = 32
	// redirectConnections is how many connections at once a balancer takes for plain HTTP
	// that it redirects. Each lasts for one request.
	redirectConnections = 500
)

// entryCiphers are the ciphers for TLS 1.2, by OpenSSL's names: forward secret and
// authenticated alone (Mozilla, "Server Side TLS", intermediate). TLS 1.3 has no others.
const entryCiphers = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" +
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" +
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

// clientTLS is how a balancer speaks HTTPS with clients; nil: it does not.
type clientTLS struct {
	List     string // path
	Streams  int
	Requests int    // of one client address at once; see clientLimits
	Redirect string // where plain HTTP is taken; empty: nowhere
	Port     string // of the entry as clients write it, with the colon; empty: the default one
	HSTS     int    // seconds; 0: none
}

// clientTLS is the data of a balancer's entry.
func (b builder) clientTLS(n node, d haproxyData) *clientTLS {
	t := b.stack.Entry.TLS
	if !t.Enabled() {
		return nil
	}
	c := &clientTLS{
		List:    filepath.Join(b.host(n).StateDir, CertificateList),
		Streams: h2Streams,
		// What an address that is alone gets of the connections: one that has HTTP/1.1
		// has as many requests.
		Requests: d.Maxconn * d.CrowdShare / (d.CrowdShare + 1),
		HSTS:     int(t.HSTS / time.Second),
	}
	if d.PerAddress > 0 {
		c.Requests = d.PerAddress
	}
	if t.Redirect != "" {
		c.Redirect = bindAddress(t.Redirect)
		if _, port, err := net.SplitHostPort(b.stack.Entry.Listen); err == nil && port != "443" {
			c.Port = ":" + port
		}
	}
	return c
}

// tcpList is the path of the list of a tcp entry's certificates; empty: it speaks no TLS.
func (b builder) tcpList(n node, e stack.TCPEntry) string {
	switch {
	case !e.TLS.Enabled():
		return ""
	case e.TLS.OfEntry:
		e.Listen = ""
	}
	return filepath.Join(b.host(n).StateDir, CertificateListOf(e.Listen))
}

// redirect is the data for the frontend that redirects.
func (d haproxyData) redirect() haproxyData {
	d.Maxconn = redirectConnections
	d.PerAddress = min(d.PerAddress, redirectConnections)
	d.PerAddressClosed = d.PerAddress + d.PerAddress/8
	return d
}

// scheme is that of the URLs by which clients come.
func scheme(e stack.Entry) string {
	if e.TLS.Enabled() {
		return "https"
	}
	return "http"
}

// CertificateCheck is a configuration in which HAProxy looks at files with a certificate, its
// chain and its key each, and serves nobody (haproxy -c).
func CertificateCheck(files []string) (string, error) {
	var text strings.Builder
	text.WriteString("defaults\n    mode http\n    timeout client 1s\nfrontend check\n")
	for _, file := range files {
		path, err := haproxyQuote(file)
		if err != nil {
			return "", err
		}
		text.WriteString("    bind 127.0.0.1:1 ssl crt " + path + "\n")
	}
	return text.String(), nil
}
