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

// The certificates that a balancer presents to its clients are copied below the state directory of
// its host. The supervisor copies them, because the files that the stack file names may be broken
// or half written: a balancer that starts has to find the last good certificates.
const (
	// CertificatesDir is the directory of the entries' certificates.
	CertificatesDir = "certificates"
	// CertificateList is the file that lists the certificates of the stack's entry, a line each
	// (HAProxy's crt-list). The first one is for clients that name no host.
	CertificateList = CertificatesDir + "/list"
)

// CertificateListOf returns the same file for the tcp entry with that address; an empty address
// stands for the stack's entry.
func CertificateListOf(listen string) string {
	if listen == "" {
		return CertificateList
	}
	sum := sha256.Sum256([]byte(listen))
	return CertificateList + "-" + hex.EncodeToString(sum[:4])
}

// Limits of HTTP/2, where one connection has many requests.
const (
	// h2Streams is how many requests one connection may have at once. A browser has at most some
	// 100 in a burst, and holds back the rest; each request needs two buffers.
	h2Streams = 32
	// redirectConnections is how many plain HTTP connections a balancer takes at once for
	// redirects. Each lasts for one request.
	redirectConnections = 500
)

// entryCiphers are the ciphers for TLS 1.2, by OpenSSL's names: only those with forward secrecy and
// authentication (Mozilla, "Server Side TLS", intermediate). All ciphers of TLS 1.3 are like that.
const entryCiphers = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" +
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" +
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

// clientTLS is how a balancer speaks HTTPS with clients; nil: it does not.
type clientTLS struct {
	List     string // path of the file CertificateList
	Streams  int
	Requests int    // of one client address at once; see clientLimits
	Redirect string // address that takes plain HTTP and redirects it; empty: none
	Port     string // of the entry in a URL, with the colon; empty: the default port
	HSTS     int    // seconds; 0: none
}

// clientTLS returns the data of a balancer's entry; nil: the entry has no TLS.
func (b builder) clientTLS(n node, d haproxyData) *clientTLS {
	t := b.stack.Entry.TLS
	if !t.Enabled() {
		return nil
	}
	c := &clientTLS{
		List:    filepath.Join(b.host(n).StateDir, CertificateList),
		Streams: h2Streams,
		// An address may have as many requests at once as it could have connections while no other
		// address has any: with HTTP/1.1 each connection has one request.
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

// tcpList returns the path of the list of a tcp entry's certificates; empty: the entry has no TLS.
func (b builder) tcpList(n node, e stack.TCPEntry) string {
	switch {
	case !e.TLS.Enabled():
		return ""
	case e.TLS.OfEntry:
		e.Listen = ""
	}
	return filepath.Join(b.host(n).StateDir, CertificateListOf(e.Listen))
}

// redirect returns the data for the frontend that redirects plain HTTP.
func (d haproxyData) redirect() haproxyData {
	d.Maxconn = redirectConnections
	d.PerAddress = min(d.PerAddress, redirectConnections)
	d.PerAddressClosed = d.PerAddress + d.PerAddress/8
	return d
}

// scheme returns the scheme of the entry's URLs.
func scheme(e stack.Entry) string {
	if e.TLS.Enabled() {
		return "https"
	}
	return "http"
}

// CertificateCheck returns a configuration with which "haproxy -c" checks files that each contain a
// certificate, its chain and its key. It is not for serving.
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
