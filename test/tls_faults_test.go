package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/supervise"
)

// ownHSTS answers with a Strict-Transport-Security header of its own at /own.
const ownHSTS = `
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        if self.path == "/own": self.send_header("Strict-Transport-Security", "max-age=60; includeSubDomains")
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
`

// chained returns a certificate for a name, its key, and the certificate of its issuer, in PEM.
func chained(t *testing.T, name string) (leaf, key, issuer []byte) {
	t.Helper()
	encode := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	about := func(name string, authority bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: authority, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour), DNSNames: []string{name},
		}
	}
	var keys [3]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	root, middle := about("root.example", true), about("middle.example", true)
	made, err := x509.CreateCertificate(rand.Reader, middle, root, keys[1].Public(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.CreateCertificate(rand.Reader, about(name, false), middle, keys[2].Public(), keys[1])
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(keys[2])
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", own), encode("PRIVATE KEY", private), encode("CERTIFICATE", made)
}

// The state directory has an apostrophe in its name, which HAProxy's configuration has to quote.
func TestWhatGoesWrongWithOneCertificateIsNoMatterOfTheOthers(t *testing.T) {
	beside(t, oneStack)
	s := &secureStack{instance: newInstance(t, ""), entry: freePort(t), redirect: freePort(t), roots: x509.NewCertPool()}
	s.state = filepath.Join(s.dir, "it's")
	if err := os.Mkdir(filepath.Join(s.dir, "tls"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.put("own.py", []byte(ownHSTS))
	a := s.certify("tls/a.pem", "", "a.example.com")
	s.certify("tls/b.pem", "", "b.example.com")
	file := func(more string) string {
		return fmt.Sprintf(`name: %s
entry: {listen: "127.0.0.1:%d", hosts: [a.example.com], tls: {directory: tls, redirect: "127.0.0.1:%d"%s}}
apps: {own: {command: [python3, own.py], dir: ., nodes: 1, health: {path: /}}}
redis: {enabled: false}
`, s.name, s.entry, s.redirect, more)
	}
	s.write(file(""))

	// Another process has the address of the redirect.
	other, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.redirect))
	if err != nil {
		t.Fatal(err)
	}
	if said := s.fails(1, "up", "-d"); !strings.Contains(said, fmt.Sprintf("entry.tls.redirect cannot listen on 127.0.0.1:%d: the address is taken by ", s.redirect)) || !strings.Contains(said, fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("up says %s", said)
	}
	if said, _, _ := s.run("doctor"); !strings.Contains(said, fmt.Sprintf("127.0.0.1:%d", s.redirect)) {
		t.Errorf("doctor says %s", said)
	}
	other.Close()
	s.must("up", "-d")
	s.awaitHealthy()

	redirected := func() int {
		client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", s.redirect))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	// A browser must not store a redirect that may be removed again.
	if code := redirected(); code != 307 {
		t.Errorf("without hsts the redirect is %d", code)
	}
	s.write(file(", hsts: 1d"))
	s.must("apply", "--yes")
	if code := redirected(); code != 308 {
		t.Errorf("with hsts the redirect is %d", code)
	}
	for path, want := range map[string]string{"/": "max-age=86400", "/own": "max-age=60; includeSubDomains"} {
		resp, err := (&http.Client{Transport: s.transport(false)}).Get("https://a.example.com" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Values("Strict-Transport-Security"); len(got) != 1 || got[0] != want {
			t.Errorf("%s has Strict-Transport-Security %q, want %q", path, got, want)
		}
	}

	// With a dangling link, nonsense, and only a key, the other certificates are still renewed.
	if err := os.Symlink("nowhere", filepath.Join(s.dir, "tls", "link.pem")); err != nil {
		t.Fatal(err)
	}
	s.put("tls/a.pem", []byte("nonsense"))
	s.put("tls/lonely.key", []byte("nonsense"))
	b := s.certify("tls/b.pem", "", "b.example.com")
	s.awaitShown("b.example.com", b)
	s.awaitShown("a.example.com", a)
	for name, says := range map[string]string{"a.pem": "there is no certificate in it", "link.pem": "does not exist", "lonely.key": "no certificate beside it"} {
		s.awaitStatus("tls/"+name, "refused", func(c supervise.CertificateStatus) bool { return strings.Contains(c.Refused, says) })
	}
	for _, name := range []string{"link.pem", "lonely.key"} {
		if err := os.Remove(filepath.Join(s.dir, "tls", name)); err != nil {
			t.Fatal(err)
		}
	}

	// A chain with a gap is used, and reported. A complete one is taken up, even by a later
	// supervisor that does not know what the balancers have.
	leaf, key, issuer := chained(t, "a.example.com")
	s.put("tls/a.pem", append(append([]byte{}, leaf...), key...))
	s.awaitStatus("tls/a.pem", "without its chain", func(c supervise.CertificateStatus) bool {
		return strings.Contains(c.Gap, "CN=middle.example") && c.Refused == ""
	})
	if said, _, _ := s.run("doctor"); !strings.Contains(said, "CN=middle.example) is not in the file") {
		t.Errorf("doctor says %s", said)
	}
	pid := s.status().Supervisor
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.await("the end of the supervisor", 10*time.Second, func() bool { return syscall.Kill(pid, 0) != nil })
	s.put("tls/a.pem", append(append(append([]byte{}, leaf...), issuer...), key...))
	s.must("up", "-d")
	in := 0
	s.await("the whole chain", 15*time.Second, func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.entry), &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if in++; len(conn.ConnectionState().PeerCertificates) != 2 {
			in = 0
		}
		return in == 10
	})
	s.awaitStatus("tls/a.pem", "whole", func(c supervise.CertificateStatus) bool { return c.Gap == "" })
	pair, err := certificate.Read(append(append(append([]byte{}, leaf...), issuer...), key...), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.awaitShown("a.example.com", pair)
}
