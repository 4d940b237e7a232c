package identity

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/clock"
)

// serve runs a server until the test ends and returns its address.
func serve(t testing.TB, cfg *tls.Config, handler http.Handler, log io.Writer) string {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	s := NewServer(handler, cfg, slog.New(slog.NewTextHandler(log, nil)))
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// safeLog is a log that a test can read while a server writes it.
type safeLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *safeLog) has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), words)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// eventually polls a condition for at most 10 s.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !clock.Within(10*time.Second, 5*time.Millisecond, holds) {
		t.Fatalf("%s: not within 10 s", what)
	}
}

// fixed is a Certificates that always shows the same certificate.
type fixed struct{ cert *tls.Certificate }

func (f fixed) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.cert, nil }
func (f fixed) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return f.cert, nil
}

func newTrust(t testing.TB, a *Authority, removed func(Peer) bool, now func() time.Time) *Trust {
	t.Helper()
	return must[*Trust](t)(NewTrust(a.Certificate(), removed, now))
}

// sayPeer answers with the name of the sender.
func sayPeer(trust *Trust) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := trust.Peer(r)
		if err != nil {
			answerError(w, http.StatusForbidden, err)
			return
		}
		io.WriteString(w, peer.String())
	})
}

// ask sends a request over a new connection. It returns the answer, or the explained error.
func ask(ctx context.Context, trust *Trust, cfg *tls.Config, address string) (string, error) {
	client, closeAll := clientOf(cfg)
	defer closeAll()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", trust.Explain(err, "host one")
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// foreign returns a certificate of the authority that Holdfast would not issue.
func foreign(t testing.TB, a *Authority, change func(*x509.Certificate)) Credentials {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{"one"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key))
	return Credentials{a.cert, must[*x509.Certificate](t)(x509.ParseCertificate(der)), key}
}

func TestAHandshakeTellsBothSidesWhyTheOtherIsRefused(t *testing.T) {
	t.Parallel()
	shop, store := newAuthority(t, "shop", start), newAuthority(t, "store", start)
	double := newAuthority(t, "shop", start) // another stack of the same name
	removed := grant(t, "shop", Host, "gone")
	isRemoved := func(p Peer) bool { return p.ID == removed.Peer.ID }

	one, two := newHost(t, shop, "one", start), newHost(t, shop, "two", start)
	operator := issue(t, shop, grant(t, "shop", Operator, "anna"), start)
	year := 365 * 24 * time.Hour
	noURI := foreign(t, shop, func(*x509.Certificate) {})
	otherStack := foreign(t, shop, func(c *x509.Certificate) {
		c.URIs = []*url.URL{Peer{Stack: "store", Role: Host, Name: "one", ID: "0123456789abcdef"}.uri()}
	})
	ended := foreign(t, shop, func(c *x509.Certificate) {
		c.URIs = []*url.URL{Peer{Stack: "shop", Role: Host, Name: "two", ID: "0123456789abcdef"}.uri()}
		c.NotAfter = start.Add(-time.Second)
	})
	serverOnly := foreign(t, shop, func(c *x509.Certificate) {
		c.URIs = []*url.URL{Peer{Stack: "shop", Role: Host, Name: "one", ID: "0123456789abcdef"}.uri()}
		c.ExtKeyUsage = c.ExtKeyUsage[:1]
	})

	otherName := foreign(t, shop, func(c *x509.Certificate) {
		c.URIs = []*url.URL{Peer{Stack: "shop", Role: Host, Name: "three", ID: "0123456789abcdef"}.uri()}
	})
	clientOnly := foreign(t, shop, func(c *x509.Certificate) {
		c.URIs = []*url.URL{Peer{Stack: "shop", Role: Host, Name: "one", ID: "0123456789abcdef"}.uri()}
		c.ExtKeyUsage = c.ExtKeyUsage[1:]
	})

	for name, c := range map[string]struct {
		server, client Credentials
		trusted        *Authority // the one that the client trusts; nil: shop
		at, serverAt   time.Time  // the clocks of client and server; zero: start
		answer         string
		reason         Reason // of the client's error
		words          string
		log            string // what the server's log contains
	}{
		"two hosts":                         {server: one, client: two, answer: "host two"},
		"a host that ends with a dash":      {server: one, client: newHost(t, shop, "two-", start), answer: "host two-"},
		"an operator":                       {server: one, client: operator, answer: "operator anna"},
		"a client of another stack":         {server: one, client: newHost(t, store, "two", start), reason: OtherAuthority, words: "belongs to another stack", log: "unknown authority"},
		"a client of a stack of that name":  {server: one, client: newHost(t, double, "two", start), reason: OtherAuthority, words: "belongs to another stack", log: "authority"},
		"a server of another stack":         {server: newHost(t, store, "one", start), client: two, reason: OtherAuthority, words: "Holdfast authority of store", log: "bad certificate"},
		"a server of a stack of that name":  {server: newHost(t, double, "one", start), client: two, reason: OtherAuthority, words: "another stack answers", log: "bad certificate"},
		"another host":                      {server: newHost(t, shop, "three", start), client: two, reason: OtherHost, words: "there is host three", log: "bad certificate"},
		"a removed client":                  {server: one, client: issue(t, shop, removed, start), reason: Refused, words: "was removed from the stack", log: "host gone was removed"},
		"a removed client's new name":       {server: one, client: newHost(t, shop, "gone", start), answer: "host gone"},
		"a client whose certificate ended":  {server: one, client: ended, reason: Expired, words: "because of its time", log: "expired"},
		"a server whose certificate ended":  {server: newHost(t, shop, "one", start), client: newHost(t, shop, "two", start.Add(year)), at: start.Add(year), serverAt: start.Add(year), reason: Expired, words: "could not renew"},
		"a client with a clock behind":      {server: one, client: two, at: start.Add(-25 * time.Hour), reason: NotYetValid, words: "clock is behind"},
		"a client with a clock ahead":       {server: one, client: two, at: start.Add(year), reason: Expired, words: "2027-03-01"},
		"a server with a clock behind":      {server: one, client: two, serverAt: start.Add(-25 * time.Hour), reason: Expired, words: "one of the two clocks is wrong", log: "not yet valid"},
		"a server with a clock ahead":       {server: one, client: two, serverAt: start.Add(year), reason: Expired, words: "one of the two clocks is wrong", log: "expired"},
		"clocks that differ by an hour":     {server: one, client: two, at: start.Add(-time.Hour), serverAt: start.Add(time.Hour), answer: "host two"},
		"an operator that serves":           {server: operator, client: two, reason: OtherHost, words: "there is operator anna"},
		"a server whose names differ":       {server: otherName, client: two, reason: OtherHost, words: "there is host three"},
		"a client certificate as a server":  {server: clientOnly, client: two, reason: WrongUse, words: "not for this use"},
		"a server certificate as a client":  {server: one, client: serverOnly, reason: Refused, words: "refused", log: "incompatible key usage"},
		"a client that does not say who":    {server: one, client: noURI, reason: Refused, words: "refused", log: "not one of Holdfast's"},
		"a server that does not say who":    {server: noURI, client: two, reason: NotOurs, words: "not one of Holdfast's"},
		"a client for another stack's name": {server: one, client: otherStack, reason: Refused, words: "refused", log: "stack store"},
		"a server for another stack's name": {server: otherStack, client: two, reason: OtherStack, words: "stack store"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, serverAt := c.at, c.serverAt
			if at.IsZero() {
				at = start
			}
			if serverAt.IsZero() {
				serverAt = start
			}
			trust := newTrust(t, shop, isRemoved, always(serverAt))
			log := &safeLog{}
			address := serve(t, trust.Server(fixed{c.server.tls()}), sayPeer(trust), log)
			mine := newTrust(t, shop, isRemoved, always(at))
			answer, err := ask(t.Context(), mine, mine.Client(fixed{c.client.tls()}, "one"), address)
			if c.reason != "" {
				wantReason(t, err, c.reason, c.words)
			} else if err != nil || answer != c.answer {
				t.Errorf("%q, %v, want %q", answer, err, c.answer)
			}
			if c.log != "" {
				eventually(t, "the server's log has "+c.log, func() bool { return log.has(c.log) })
			}
		})
	}
}

func TestAServerTalksToNobodyWithoutACertificateOrWithOldTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	trust := newTrust(t, a, nil, always(start))
	address := serve(t, trust.Server(fixed{newHost(t, a, "one", start).tls()}), sayPeer(trust), io.Discard)

	naked := trust.Client(fixed{&tls.Certificate{}}, "one")
	_, err := ask(t.Context(), trust, naked, address)
	wantReason(t, err, NotOurs, "showed none")

	old := trust.Client(fixed{newHost(t, a, "two", start).tls()}, "one")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if answer, err := ask(t.Context(), trust, old, address); err == nil {
		t.Errorf("TLS 1.2 got %q", answer)
	}
	plain, err := http.Get("http://" + address)
	if err == nil {
		plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP got %s", plain.Status)
		}
	}
}

func TestWhoIsRemovedGetsNothingOnAnOpenConnection(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	two := newHost(t, a, "two", start)
	var mu sync.Mutex
	gone := map[string]bool{}
	trust := newTrust(t, a, func(p Peer) bool { mu.Lock(); defer mu.Unlock(); return gone[p.ID] }, always(start))
	served := 0
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served++ })
	address := serve(t, trust.Server(fixed{newHost(t, a, "one", start).tls()}), trust.RequirePeer(inner, Host), io.Discard)

	client, closeAll := clientOf(trust.Client(fixed{two.tls()}, "one"))
	defer closeAll()
	get := func() (int, string) {
		resp := must[*http.Response](t)(client.Get("https://" + address))
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	if status, _ := get(); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}
	mu.Lock()
	gone[two.Peer().ID] = true
	mu.Unlock()
	if status, text := get(); status != http.StatusForbidden || !strings.Contains(text, "was removed") || served != 1 {
		t.Errorf("after: %d %s, served %d times", status, text, served)
	}

	// An operator is a member, but not a host.
	client, closeAll = clientOf(trust.Client(fixed{issue(t, a, grant(t, "shop", Operator, "anna"), start).tls()}, "one"))
	defer closeAll()
	if status, text := get(); status != http.StatusForbidden || !strings.Contains(text, "operator anna may not") {
		t.Errorf("an operator: %d %s", status, text)
	}
}

func TestARequestThatCameWithoutTLSIsNobodys(t *testing.T) {
	t.Parallel()
	trust := newTrust(t, newAuthority(t, "shop", start), nil, always(start))
	_, err := trust.Peer(&http.Request{})
	wantReason(t, err, NotOurs)
	_, err = trust.Peer(&http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{newHost(t, newAuthority(t, "shop", start), "two", start).Certificate}}})
	wantReason(t, err, NotOurs) // the certificate was shown, but not verified
}
