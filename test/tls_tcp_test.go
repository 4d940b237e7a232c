package test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/certificate"
	"holdfast/internal/supervise"
)

// proxiedServer only accepts connections that begin with the PROXY protocol, version 2. It answers
// a line with the client's address, in HTTP if the line is an HTTP request.
const proxiedServer = `
import os, socketserver, struct
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        head = self.rfile.read(16)
        if head[:12] != b"\r\n\r\n\0\r\nQUIT\n":
            print("begins with", head, flush=True)
            return
        rest = self.rfile.read(struct.unpack(">H", head[14:])[0])
        who = "nobody" if head[12] == 0x20 else ".".join(map(str, rest[:4]))
        for line in self.rfile:
            if line.startswith(b"GET "):
                while self.rfile.readline().strip(): pass
                self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(who)}\r\n\r\n{who}".encode())
            else:
                self.wfile.write(f"{who} {line.decode()}".encode())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True
Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
`

// tcpStack is a stack with tcp entries: one with the certificates of the stack's entry, one with
// certificates of its own, and one that passes bytes on unread.
type tcpStack struct {
	*secureStack
	shared, own, plain int // ports
}

func (s *tcpStack) file(more string) string {
	return fmt.Sprintf(`name: %s
entry:
  listen: "127.0.0.1:%d"
  tls: {certificates: [{certificate: www.pem, key: www.key}]}
apps:
  line: {command: [python3, line.py], nodes: 2, dir: ., send-proxy: true, health: {path: none}}
  page: {command: [python3, line.py], nodes: 1, dir: ., send-proxy: true, health: {path: /up}}
routes: [{app: page}]
redis: {enabled: false}
tcp:
  - {listen: "127.0.0.1:%d", app: line, tls: entry}
  - {listen: "127.0.0.1:%d", app: line, tls: {certificates: [{certificate: own.pem}]}}
  - {listen: "127.0.0.1:%d", app: line}
%s`, s.name, s.entry, s.shared, s.own, s.plain, more)
}

// shownAt returns the certificate that is presented at a port.
func shownAt(port int) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func (s *tcpStack) awaitShownAt(port int, want certificate.Pair) {
	s.t.Helper()
	in := 0
	s.await(fmt.Sprintf("the certificate of %v at port %d", want.Leaf.DNSNames, port), 20*time.Second, func() bool {
		got, err := shownAt(port)
		if in++; err != nil || !got.Equal(want.Leaf) {
			in = 0
		}
		return in == 10 // both balancers have it
	})
}

// answersLine sends a line on a connection, and returns the answer.
func answersLine(conn net.Conn, line string) (string, error) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(conn, "%s\n", line); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestTCPEntriesSpeakTLSAndTellWhoTheClientIs(t *testing.T) {
	beside(t, oneStack)
	s := &tcpStack{
		secureStack: &secureStack{instance: newInstance(t, ""), entry: freePort(t), roots: x509.NewCertPool()},
		shared:      freePort(t), own: freePort(t), plain: freePort(t),
	}
	s.put("line.py", []byte(proxiedServer))
	www, own := s.certify("www.pem", "www.key", "www.example.com"), s.certify("own.pem", "", "own.example.com")
	s.write(s.file(""))
	s.must("up", "-d")
	s.awaitHealthy()

	s.awaitShownAt(s.shared, www)
	s.awaitShownAt(s.own, own)
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}
	for port, settings := range map[int]*tls.Config{
		s.shared: {RootCAs: s.roots, ServerName: "www.example.com"},
		s.own:    {RootCAs: s.roots, ServerName: "own.example.com"},
		s.plain:  nil,
	} {
		conn, err := from.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if settings != nil {
			conn = tls.Client(conn, settings)
		}
		if got, err := answersLine(conn, "hello"); err != nil || got != "127.0.0.77 hello\n" {
			t.Errorf("at port %d: %q, %v", port, got, err)
		}
	}
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.own), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}

	// The same in HTTP, whichever client has used the connection to the server before.
	for _, address := range []string{"127.0.0.78", "127.0.0.79", "127.0.0.78"} {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "www.example.com"}, DisableKeepAlives: true,
		}}
		if code, body := answerOf(t)(client.Get(fmt.Sprintf("https://127.0.0.1:%d/", s.entry))); code != 200 || body != address {
			t.Errorf("from %s the page says %d %q", address, code, body)
		}
	}

	t.Run("a renewal, while a connection lasts", func(t *testing.T) {
		lasting, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.own), &tls.Config{RootCAs: s.roots, ServerName: "own.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		defer lasting.Close()
		own = s.certify("own.pem", "", "own.example.com")
		s.awaitShownAt(s.own, own)
		s.awaitShownAt(s.shared, www)
		if got, err := answersLine(lasting, "still"); err != nil || got != "127.0.0.1 still\n" {
			t.Errorf("the connection of before: %q, %v", got, err)
		}
	})
	t.Run("a broken file", func(t *testing.T) {
		s.put("own.pem", own.PEM[:len(own.PEM)-200])
		s.awaitStatus("own.pem", "refused", func(c supervise.CertificateStatus) bool {
			return strings.Contains(c.Refused, "cut off") && c.Fingerprint == certificate.Fingerprint(own.Leaf)
		})
		if said := s.fails(2, "config", "check"); !strings.Contains(said, "holdfast.yaml:12:") || !strings.Contains(said, "tcp.tls.certificates: own.pem: it has 2 parts") {
			t.Errorf("config check says %s", said)
		}
		s.awaitShownAt(s.own, own)
		s.put("own.pem", own.PEM)
		s.awaitStatus("own.pem", "good again", func(c supervise.CertificateStatus) bool { return c.Refused == "" })
	})
	t.Run("copies that somebody removes", func(t *testing.T) {
		copies := filepath.Join(s.state, "certificates")
		before, err := os.ReadDir(copies)
		if err != nil || len(before) != 4 { // two certificates and two lists
			t.Fatalf("there are %v, %v", before, err)
		}
		for _, f := range before {
			if err := os.Remove(filepath.Join(copies, f.Name())); err != nil {
				t.Fatal(err)
			}
		}
		s.await("the copies again", 10*time.Second, func() bool {
			now, _ := os.ReadDir(copies)
			return len(now) == len(before)
		})
	})
	t.Run("an entry more, and one less", func(t *testing.T) {
		another := freePort(t)
		more := s.certify("more.pem", "", "more.example.com")
		s.write(s.file(fmt.Sprintf("  - {listen: \"127.0.0.1:%d\", app: line, tls: {certificates: [{certificate: more.pem}]}}\n", another)))
		s.must("apply", "--yes")
		s.awaitShownAt(another, more)
		s.awaitShownAt(s.own, own)
		s.write(s.file(""))
		s.must("apply", "--yes")
		s.await("the copy of what no entry shows to go", 10*time.Second, func() bool {
			now, _ := os.ReadDir(filepath.Join(s.state, "certificates"))
			return len(now) == 4
		})
		s.write(strings.Replace(s.file(""), ", tls: entry", "", 1))
		if said := s.fails(1, "apply", "--yes"); !strings.Contains(said, fmt.Sprintf("tcp.tls: the clients at 127.0.0.1:%d speak TLS", s.shared)) {
			t.Errorf("apply says %s", said)
		}
	})
}
