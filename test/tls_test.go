package test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"holdfast/internal/certificate"
	"holdfast/internal/drill/report/browsertest"
	"holdfast/internal/supervise"
)

// headersServer answers with the headers that tell a program about its client. As a WebSocket it
// sends back every byte.
const headersServer = `
import base64, hashlib, http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            while data := self.rfile.read1(1000): self.wfile.write(data)
            self.close_connection = True
            return
        body = "".join(f"{k}: {v}\n" for k, v in self.headers.items()).lower().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
`

// secureStack is a stack whose entry uses HTTPS.
type secureStack struct {
	*instance
	entry, redirect int // ports
	roots           *x509.CertPool
}

// certify writes a new certificate for these names, and its key, into the stack's directory. If key
// is empty, they are in one file.
func (s *secureStack) certify(file, key string, names ...string) certificate.Pair {
	s.t.Helper()
	pair, err := certificate.SelfSigned(names, nil, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	s.roots.AddCert(pair.Leaf)
	at := strings.Index(string(pair.PEM), "-----BEGIN PRIVATE KEY")
	parts := map[string][]byte{file: pair.PEM}
	if key != "" {
		parts = map[string][]byte{file: pair.PEM[:at], key: pair.PEM[at:]}
	}
	for name, content := range parts {
		s.put(name, content)
	}
	return pair
}

func (s *secureStack) put(name string, content []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// transport connects to the entry for any host name, with HTTP/2 or HTTP/1.1.
func (s *secureStack) transport(two bool) *http.Transport {
	t := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(s.entry)))
		},
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(!two)
	t.Protocols.SetHTTP2(two)
	s.t.Cleanup(t.CloseIdleConnections)
	return t
}

// certificateFor returns the certificate that the entry presents for a name; empty: for an address.
func (s *secureStack) certificateFor(name string) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.entry)), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// awaitShown waits until every new connection gets a certificate, so that both balancers have it.
func (s *secureStack) awaitShown(name string, want certificate.Pair) {
	s.t.Helper()
	in := 0
	for begun := time.Now(); in < 20; {
		got, err := s.certificateFor(name)
		if err == nil && got.Equal(want.Leaf) {
			in++
			continue
		}
		if in = 0; time.Since(begun) > 20*time.Second {
			s.t.Fatalf("for %q the entry does not show the certificate of %v: %v", name, want.Leaf.DNSNames, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// awaitStatus waits until the status of a file's certificate fulfils a condition.
func (s *secureStack) awaitStatus(file, what string, is func(supervise.CertificateStatus) bool) {
	s.t.Helper()
	var last []supervise.CertificateStatus
	for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
		last = s.status().Certificates
		for _, c := range last {
			if c.File == file && is(c) {
				return
			}
		}
	}
	s.t.Fatalf("%s: not %s: %+v", file, what, last)
}

// newSecureStack returns a running stack with one certificate in two files and another one in one
// file.
func newSecureStack(t *testing.T) (s *secureStack, www, shop certificate.Pair) {
	t.Helper()
	s = &secureStack{instance: newInstance(t, ""), entry: freePort(t), redirect: freePort(t), roots: x509.NewCertPool()}
	s.put("headers.py", []byte(headersServer))
	www = s.certify("www.pem", "www.key", "www.example.com")
	shop = s.certify("shop.pem", "", "shop.example.com", "*.shop.example.com")
	s.write(s.withCertificates(""))
	s.must("up", "-d")
	s.awaitHealthy()
	return s, www, shop
}

// withCertificates returns the stack file with further certificates.
func (s *secureStack) withCertificates(more string) string {
	return fmt.Sprintf(`name: %s
entry:
  listen: "127.0.0.1:%d"
  hosts: [www.example.com, "*.shop.example.com", shop.example.com]
  tls:
    certificates:
      - {certificate: www.pem, key: www.key}
      - {certificate: shop.pem}
%s    redirect: "127.0.0.1:%d"
    hsts: 180d
apps:
  web: {kv: {}, nodes: 1}
  headers: {command: [python3, headers.py], nodes: 1, dir: ., sticky: NODE}
routes:
  - {path-prefix: /headers, app: headers}
  - app: web
redis: {replicas: 0, sentinels: 0}
`, s.name, s.entry, more, s.redirect)
}

func TestTheEntrySpeaksHTTPS(t *testing.T) {
	beside(t, oneStack)
	s, www, shop := newSecureStack(t)

	t.Run("versions", func(t *testing.T) {
		for two, want := range map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"} {
			resp, err := (&http.Client{Transport: s.transport(two)}).Get("https://www.example.com/set/a/1")
			if err != nil {
				t.Fatal(err)
			}
			code, body := answerOf(t)(resp, nil)
			if resp.Proto != want || code != 200 || body != `{"result":"OK"}` || resp.Header.Get("Strict-Transport-Security") != "max-age=15552000" {
				t.Errorf("%s %d %s %v, want %s", resp.Proto, code, body, resp.Header, want)
			}
		}
		old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		if conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.entry), old); err == nil {
			conn.Close()
			t.Error("TLS 1.1 is spoken")
		}
	})
	t.Run("names", func(t *testing.T) {
		for name, want := range map[string]certificate.Pair{"www.example.com": www, "shop.example.com": shop, "a.shop.example.com": shop, "other.example": www, "": www} {
			if got, err := s.certificateFor(name); err != nil || !got.Equal(want.Leaf) {
				t.Errorf("for %q: %v, %v", name, got, err)
			}
		}
	})
	t.Run("redirect", s.redirects)
	t.Run("headers", s.tellsProgramAboutHTTPS)
	t.Run("a body of unknown length by HTTP/2", func(t *testing.T) {
		r, w := io.Pipe()
		go func() { fmt.Fprint(w, `["SET","piped","1"]`); w.Close() }()
		code, body := answerOf(t)((&http.Client{Transport: s.transport(true)}).Post("https://www.example.com/", "application/json", r))
		if code != 200 || body != `{"result":"OK"}` {
			t.Errorf("%d %s", code, body)
		}
	})
	t.Run("curl", func(t *testing.T) {
		for option, want := range map[string]string{"--http2": "2", "--http1.1": "1.1"} {
			out, err := exec.Command("curl", "-s", option, "--cacert", filepath.Join(s.dir, "www.pem"), "--connect-to", fmt.Sprintf("::127.0.0.1:%d", s.entry), "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "https://www.example.com/get/a").CombinedOutput()
			if string(out) != want+" 200" {
				t.Errorf("%s: %s, %v", option, out, err)
			}
		}
	})
	t.Run("commands", func(t *testing.T) {
		if text := s.must("status"); !strings.Contains(text, "certificate www.pem: www.example.com, ends ") || !strings.Contains(text, fmt.Sprintf("entry https://127.0.0.1:%d", s.entry)) {
			t.Errorf("status says %s", text)
		}
		if code, body := get(t, "http://"+s.plan().Metrics+"/metrics"); code != 200 || !strings.Contains(body, fmt.Sprintf(`holdfast_certificate_expiry_timestamp_seconds{certificate="shop.pem",host=""} %s`, strconv.FormatFloat(float64(shop.Leaf.NotAfter.Unix()), 'g', -1, 64))) {
			t.Errorf("metrics: %d, and no end of shop.pem", code)
		}
	})
	t.Run("a WebSocket by HTTP/2", s.speaksWebSocketByH2)
	t.Run("streams while balancers are replaced", s.keepsStreams)
}

// redirects checks that plain HTTP is redirected to the entry.
func (s *secureStack) redirects(t *testing.T) {
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct{ method, host, want string }{
		{"GET", "www.example.com", "308 https://www.example.com:%d/get/a?b=c%%20d"},
		{"HEAD", "www.example.com:80", "308 https://www.example.com:%d/get/a?b=c%%20d"},
		{"POST", "www.example.com", "308 https://www.example.com:%d/get/a?b=c%%20d"},
		{"GET", "[::1]:8080", "308 https://[::1]:%d/get/a?b=c%%20d"},
		{"GET", "evil.example/x?", "400 "},
		{"GET", "a b", "400 "},
	} {
		req, err := http.NewRequest(c.method, fmt.Sprintf("http://127.0.0.1:%d/get/a?b=c%%20d", s.redirect), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		resp, err := client.Do(req)
		if err != nil {
			if c.want == "400 " { // the client itself refuses to send it
				continue
			}
			t.Fatal(err)
		}
		resp.Body.Close()
		want := c.want
		if strings.Contains(want, "%d") {
			want = fmt.Sprintf(want, s.entry)
		}
		if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Location")); got != want {
			t.Errorf("%s %s: %s, want %s", c.method, c.host, got, want)
		}
	}
}

// tellsProgramAboutHTTPS checks that a program learns that its client came by HTTPS, whatever the
// client claims.
func (s *secureStack) tellsProgramAboutHTTPS(t *testing.T) {
	for _, two := range []bool{true, false} {
		req, err := http.NewRequest("GET", "https://www.example.com/headers", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"X-Forwarded-Proto": "forged", "X-Forwarded-For": "192.0.2.66", "Forwarded": "proto=forged", "X_Forwarded_Proto": "forged", "Front-End-Https": "forged"} {
			req.Header[name] = []string{value}
		}
		resp, err := (&http.Client{Transport: s.transport(two)}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, body := answerOf(t)(resp, nil)
		for _, want := range []string{"x-forwarded-proto: https\n", "x-forwarded-for: 127.0.0.1\n", "x-forwarded-host: www.example.com\n", "proto=https\n", fmt.Sprintf("x-forwarded-port: %d\n", s.entry)} {
			if !strings.Contains(body, want) {
				t.Errorf("HTTP/2 %v: the program is not told %q:\n%s", two, want, body)
			}
		}
		if strings.Contains(body, "forged") || strings.Contains(body, "192.0.2.66") {
			t.Errorf("HTTP/2 %v: the program is told what the client says:\n%s", two, body)
		}
		if cookie := resp.Header.Get("Set-Cookie"); !strings.Contains(cookie, "Secure") {
			t.Errorf("the cookie is sent in plain, too: %q", cookie)
		}
	}
}

// secureLoad is clients with HTTP/2 and HTTP/1.1, some of which connect anew each time.
type secureLoad struct {
	done   atomic.Int64
	mu     sync.Mutex
	failed []string
	stop   chan struct{}
	wg     sync.WaitGroup
}

func (s *secureStack) startSecureLoad() *secureLoad {
	l := &secureLoad{stop: make(chan struct{})}
	for i := range 8 {
		transport := s.transport(i%2 == 0)
		transport.DisableKeepAlives = i >= 6
		client := http.Client{Transport: transport, Timeout: 10 * time.Second}
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				resp, err := client.Get("https://shop.example.com/get/a")
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						err = errors.New(resp.Status)
					}
				}
				if l.done.Add(1); err != nil {
					l.mu.Lock()
					l.failed = append(l.failed, err.Error())
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

func (l *secureLoad) end(t *testing.T, during string) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	if len(l.failed) > 0 || l.done.Load() < 50 {
		t.Errorf("%s: %d of %d requests failed: %.5q", during, len(l.failed), l.done.Load(), l.failed)
	}
}

func TestCertificatesAreTakenUpAndBrokenOnesRefused(t *testing.T) {
	beside(t, oneStack)
	s, _, shop := newSecureStack(t)

	load := s.startSecureLoad()
	www := s.certify("www.pem", "www.key", "www.example.com")
	s.awaitShown("www.example.com", www)
	load.end(t, "a certificate was renewed")

	// The key belongs to another certificate: the old certificate stays in use, even in a balancer
	// that dies.
	s.put("www.key", shop.PEM[strings.Index(string(shop.PEM), "-----BEGIN PRIVATE KEY"):])
	s.awaitStatus("www.pem", "refused", func(c supervise.CertificateStatus) bool {
		return strings.Contains(c.Refused, "the key is not that of the certificate") && c.Fingerprint == certificate.Fingerprint(www.Leaf)
	})
	if said := s.fails(2, "config", "check"); !strings.Contains(said, "entry.tls.certificates") || !strings.Contains(said, "the key is not that of the certificate (www.example.com)") {
		t.Errorf("config check says %s", said)
	}
	if text, _, _ := s.run("doctor"); !strings.Contains(text, "the file www.pem of an entry is refused") {
		t.Errorf("doctor says %s", text)
	}
	before := s.node("balancer-1").PID
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); s.node("balancer-1").PID == before || s.node("balancer-1").State != supervise.Up; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal("the balancer does not come back")
		}
	}
	s.awaitShown("www.example.com", www)
	s.put("www.key", www.PEM[strings.Index(string(www.PEM), "-----BEGIN PRIVATE KEY"):])
	s.awaitStatus("www.pem", "good again", func(c supervise.CertificateStatus) bool { return c.Refused == "" })

	// The stack file adds a certificate: the balancers reload.
	third := s.certify("third.pem", "", "third.example.com")
	load = s.startSecureLoad()
	s.write(s.withCertificates("      - {certificate: third.pem}\n"))
	s.must("apply", "--yes")
	s.awaitShown("third.example.com", third)
	s.awaitShown("", www)
	load.end(t, "a certificate was added")

	// Broken files do not hold a change up, and a change to a missing new file is refused.
	s.put("third.pem", []byte("nonsense"))
	s.must("restart", "headers")
	s.write(s.withCertificates("      - {certificate: fourth.pem}\n"))
	if said := s.fails(2, "apply", "--yes"); !strings.Contains(said, "fourth.pem does not exist") {
		t.Errorf("apply says %s", said)
	}
	s.awaitShown("third.example.com", third)
}

// A proxy that passes connections on unread tells the client's address; nobody else may.
func TestAProxyAtLayer4SaysWhoTheClientIs(t *testing.T) {
	beside(t, oneStack)
	entry := freePort(t)
	s := newInstance(t, fmt.Sprintf("entry: {listen: \"127.0.0.1:%d\", tls: self-signed, trusted-proxies: [127.0.0.2], proxy-protocol: true}\nbalancers: 1\napps: {headers: {command: [python3, headers.py], nodes: 1, dir: .}}\nredis: {enabled: false}\n", entry))
	if err := os.WriteFile(filepath.Join(s.dir, "headers.py"), []byte(headersServer), 0o600); err != nil {
		t.Fatal(err)
	}
	s.must("up", "-d")
	ask := func(from, says string) (string, error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
		client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dialer.DialContext(ctx, network, address)
				if err == nil {
					_, err = io.WriteString(conn, says)
				}
				return conn, err
			},
		}}
		resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/", entry))
		if err != nil {
			return "", err
		}
		_, body := answerOf(t)(resp, nil)
		return body, nil
	}
	const says = "PROXY TCP4 192.0.2.7 192.0.2.1 4321 443\r\n"
	for _, c := range []struct{ from, says, want string }{
		{"127.0.0.2", says, "x-forwarded-for: 192.0.2.7\n"},
		{"127.0.0.3", "", "x-forwarded-for: 127.0.0.3\n"},
		{"127.0.0.2", "", ""},
		{"127.0.0.3", says, ""},
	} {
		body, err := ask(c.from, c.says)
		if c.want == "" && err == nil || c.want != "" && !strings.Contains(body, c.want) {
			t.Errorf("from %s, which says %q: %q, %v", c.from, c.says, body, err)
		}
	}
}

func TestASelfSignedEntryInABrowser(t *testing.T) {
	beside(t, oneStack)
	entry := freePort(t)
	s := newInstance(t, fmt.Sprintf("entry: {listen: \"127.0.0.1:%d\", tls: self-signed, limits: {per-address: 20}}\nbalancers: 1\napps: {web: {kv: {}, nodes: 1}}\nredis: {replicas: 0, sentinels: 0}\n", entry))
	said := s.must("up", "-d")
	s.awaitHealthy()
	if want := "curl --cacert " + filepath.Join(s.state, supervise.SelfSignedFile) + ` "https://127.0.0.1:`; !strings.Contains(said, want) {
		t.Errorf("up does not say %q:\n%s", want, said)
	}
	for line := range strings.Lines(said) { // its advice works
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") {
			if out, code := s.runInShell(line); code != 0 || !strings.Contains(out, "imooc.com") {
				t.Errorf("%s: exit %d, %s", line, code, out)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(s.state, supervise.SelfSignedFile))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := certificate.Read(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A browser that does not know the certificate refuses it; one that trusts its key does not.
	page := fmt.Sprintf("https://127.0.0.1:%d/set/browser/1", entry)
	pin := sha256.Sum256(pair.Leaf.RawSubjectPublicKeyInfo)
	ctx := browsertest.Open(t, "about:blank", chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(pin[:])))
	if err := chromedp.Do(ctx, chromedp.Navigate(page)); err != nil {
		t.Fatal(err)
	}
	proto, err := chromedp.Run(ctx, chromedp.Evaluate[string](`performance.getEntriesByType("navigation")[0].nextHopProtocol`))
	if err != nil || proto != "h2" {
		t.Errorf("the browser came by %q, %v", proto, err)
	}
	if body, err := chromedp.Run(ctx, chromedp.Text("body")); err != nil || !strings.Contains(body, "OK") {
		t.Errorf("the page says %q, %v", body, err)
	}
	stranger := browsertest.Open(t, "about:blank")
	if err := chromedp.Do(stranger, chromedp.Navigate(page)); err == nil || !strings.Contains(err.Error(), "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("a browser that does not know the certificate: %v", err)
	}

	t.Run("many requests on one connection", func(t *testing.T) {
		roots := x509.NewCertPool()
		roots.AddCert(pair.Leaf)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: new(http.Protocols), MaxConnsPerHost: 1}
		transport.Protocols.SetHTTP2(true)
		defer transport.CloseIdleConnections()
		client := http.Client{Transport: transport, Timeout: 20 * time.Second}
		one := func(path string) int {
			resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d%s", entry, path))
			if err != nil {
				t.Error(err)
				return 0
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		one("/get/x") // so that the connection exists
		var asking sync.WaitGroup
		var refused atomic.Int32
		for range 30 {
			asking.Go(func() {
				if one("/v1/keys/nothing?wait=3s") == http.StatusTooManyRequests {
					refused.Add(1)
				}
			})
		}
		asking.Wait()
		if n := refused.Load(); n != 10 {
			t.Errorf("of 30 requests at once %d were refused, and 20 are allowed", n)
		}
		if code := one("/get/x"); code != http.StatusNotFound && code != http.StatusOK {
			t.Errorf("when they have ended, one more gets %d", code)
		}
	})

	// The certificate stays when the stack is taken down and comes up again.
	s.must("down")
	s.must("up", "-d")
	if again, err := os.ReadFile(filepath.Join(s.state, supervise.SelfSignedFile)); err != nil || string(again) != string(text) {
		t.Errorf("the certificate is another one: %v", err)
	}
	s.must("down", "--purge")
	if left, err := os.ReadDir(s.state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a purge leaves %v, %v", left, err)
	}
}
