package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// stackUnderTest is one member of a stack, at which hosts can join.
type stackUnderTest struct {
	authority *Authority
	clock     *testClock
	keeper    *Keeper
	trust     *Trust
	log       *safeLog
	address   netip.AddrPort

	mu          sync.Mutex
	invitations Invitations
	fail        error // returned by Welcome
	welcomed    []Peer
}

// stackAt runs a member whose clock begins at the time at. Hosts that join have clocks of their
// own.
func stackAt(t testing.TB, name string, at time.Time, wrap func(http.Handler) http.Handler) *stackUnderTest {
	t.Helper()
	s := &stackUnderTest{authority: newAuthority(t, name, at), clock: newClock(at), log: &safeLog{}, invitations: Invitations{}}
	one := newHost(t, s.authority, "one", at)
	issue := s.authority.Issuer(s.clock.now, rand.Reader)
	s.keeper = keeperOf(t, one, sameMember(s.authority, s.clock.now, one.Peer(), DefaultLife), s.clock.now)
	s.trust = newTrust(t, s.authority, nil, s.clock.now)

	log := slog.New(slog.NewTextHandler(s.log, nil))

	joins := Joins{
		Authority: s.authority.Certificate(),
		Redeem: func(_ context.Context, c Claim) (Invitation, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.invitations.Redeem(c)
		},
		Issue: issue,
		Welcome: func(_ context.Context, p Peer) (Welcome, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.fail != nil {
				return Welcome{}, s.fail
			}
			s.welcomed = append(s.welcomed, p)
			return Welcome{[]Member{{"one", "", []netip.AddrPort{s.address}}}, []byte("payload")}, nil
		},
		Now: s.clock.now, Log: log,
	}.Handler()
	renewals := Renewals{
		Trust: s.trust, Issue: issue, Log: log,
		Addresses: func(_ context.Context, p Peer) ([]netip.Addr, error) {
			if p.Name == "lost" {
				return nil, errors.New("the secret place has no address for it")
			}
			return loopback, nil
		},
	}.Handler()
	if wrap != nil {
		joins = wrap(joins)
	}
	cfg := AdmitJoins(s.trust.Server(s.keeper, "h2", "http/1.1"), s.keeper)
	s.address = netip.MustParseAddrPort(serve(t, cfg, SplitJoins(renewals, joins), s.log))
	return s
}

func (s *stackUnderTest) invite(t testing.TB, host string, members ...netip.AddrPort) Token {
	t.Helper()
	if len(members) == 0 {
		members = []netip.AddrPort{s.address}
	}
	token, i := newToken(t, s.authority, host, s.clock.now(), members...)
	s.mu.Lock()
	defer s.mu.Unlock()
	ok(t, s.invitations.Add(i, s.clock.now()))
	return token
}

// join joins with the token in the form that is pasted.
func join(t testing.TB, token Token, key *ecdsa.PrivateKey, now func() time.Time) (Joined, error) {
	t.Helper()
	return Join(t.Context(), must[Token](t)(ParseToken(token.Encode())), "", key, now)
}

func TestAHostJoinsAndIsAMember(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	dir := must[*Dir](t)(OpenDir(t.TempDir()))
	key := must[*ecdsa.PrivateKey](t)(dir.PendingKey())
	joined := must[Joined](t)(join(t, s.invite(t, "two"), key, s.clock.now))
	peer := joined.Credentials.Peer()
	if peer.Stack != "shop" || peer.Role != Host || peer.Name != "two" || string(joined.Payload) != "payload" || joined.By != s.address ||
		len(joined.Members) != 1 || joined.Members[0].Name != "one" || joined.Members[0].Addresses[0] != s.address {
		t.Errorf("joined as %+v", joined)
	}
	if len(s.welcomed) != 1 || s.welcomed[0].ID != peer.ID || !s.log.has("host two has joined") {
		t.Errorf("welcomed are %v", s.welcomed)
	}
	must[[]string](t)(dir.Save(joined.Credentials))

	// The host renews its certificate at the member, and stays the same peer.
	k := must[*Keeper](t)(NewKeeper(dir, nil, s.clock.now))
	k.renew = func(ctx context.Context, request []byte) ([]byte, error) {
		return RenewAt(ctx, s.trust, k, "one", s.address, request)
	}
	s.clock.add(time.Hour)
	must[[]string](t)(k.Renew(t.Context()))
	if got := k.Credentials(); !got.Peer().Same(peer) || got.Certificate.Equal(joined.Credentials.Certificate) || got.Key.Equal(key) {
		t.Errorf("renewed as %+v", got.Peer())
	}
	// The member is not accepted under the name of another host.
	_, err := RenewAt(t.Context(), s.trust, k, "three", s.address, nil)
	wantReason(t, err, OtherHost, "host one")
	_, err = RenewAt(t.Context(), s.trust, k, "one", s.address, []byte("nonsense"))
	wantReason(t, err, BadRequest, "cannot be read")
}

func TestAnOperatorCannotRenewAndAFailureAtTheMemberStaysInItsLog(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	operator := issue(t, s.authority, grant(t, "shop", Operator, "anna"), start)
	_, err := RenewAt(t.Context(), s.trust, fixed{operator.tls()}, "one", s.address, nil)
	wantReason(t, err, WrongUse, "operator anna may not")

	lost := newHost(t, s.authority, "lost", start)
	_, err = RenewAt(t.Context(), s.trust, fixed{lost.tls()}, "one", s.address, request(t, lost.Key))
	wantReason(t, err, Failed, "its log says why")
	if strings.Contains(err.Error(), "secret place") || !s.log.has("secret place") {
		t.Errorf("%v", err)
	}
}

func TestAJoinThatIsRefusedSaysWhyOnBothSides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		try    func(t *testing.T, s *stackUnderTest) error
		reason Reason
		words  string
		log    string
	}{
		"twice": {func(t *testing.T, s *stackUnderTest) error {
			token := s.invite(t, "two")
			must[Joined](t)(join(t, token, newKey(t), s.clock.now))
			_, err := join(t, token, newKey(t), s.clock.now)
			return err
		}, TokenUsed, "used already", "used already"},
		"late": {func(t *testing.T, s *stackUnderTest) error {
			token := s.invite(t, "two")
			s.clock.add(31 * time.Minute)
			_, err := join(t, token, newKey(t), s.clock.now)
			return err
		}, TokenExpired, "ended at 2026-03-01 12:30:00 UTC", "ended at"},
		"replaced by a newer one": {func(t *testing.T, s *stackUnderTest) error {
			token := s.invite(t, "two")
			s.invite(t, "two")
			_, err := join(t, token, newKey(t), s.clock.now)
			return err
		}, TokenUnknown, "a newer one", "not known to this stack"},
		"for another host, as the new host knows": {func(t *testing.T, s *stackUnderTest) error {
			_, err := Join(t.Context(), s.invite(t, "two"), "three", newKey(t), s.clock.now)
			return err
		}, OtherHost, "for host two, and this is to be host three", ""},
		"for another host, as the member knows": {func(t *testing.T, s *stackUnderTest) error {
			token := s.invite(t, "two")
			token.Host = "three"
			_, err := join(t, token, newKey(t), s.clock.now)
			return err
		}, OtherHost, "for host two", "for host two"},
		"another stack at that address": {func(t *testing.T, s *stackUnderTest) error {
			other := stackAt(t, "store", start, nil)
			_, err := join(t, other.invite(t, "two", s.address), newKey(t), s.clock.now)
			return err
		}, OtherAuthority, "the secret was not sent", "bad certificate"},
		"another stack of the same name": {func(t *testing.T, s *stackUnderTest) error {
			other := stackAt(t, "shop", start, nil)
			_, err := join(t, other.invite(t, "two", s.address), newKey(t), s.clock.now)
			return err
		}, OtherAuthority, "belongs to another stack", "bad certificate"},
		"a token that names another stack": {func(t *testing.T, s *stackUnderTest) error {
			token := s.invite(t, "two")
			token.Stack = "store"
			_, err := join(t, token, newKey(t), s.clock.now)
			return err
		}, WrongUse, "a host of stack store was expected", "bad certificate"},
		"another secret": {func(t *testing.T, s *stackUnderTest) error {
			token := s.invite(t, "two")
			token.Secret[0] ^= 1
			_, err := join(t, token, newKey(t), s.clock.now)
			return err
		}, TokenUnknown, "not known", "not known"},
		"a clock behind": {func(t *testing.T, s *stackUnderTest) error {
			_, err := join(t, s.invite(t, "two"), newKey(t), always(start.Add(-time.Hour)))
			return err
		}, ClockOff, "is 1h0m0s behind that of", ""},
		"a clock ahead": {func(t *testing.T, s *stackUnderTest) error {
			_, err := join(t, s.invite(t, "two"), newKey(t), always(start.Add(11*time.Second)))
			return err
		}, ClockOff, "is 11s ahead of that of", ""},
		"a clock of another year": {func(t *testing.T, s *stackUnderTest) error {
			_, err := join(t, s.invite(t, "two"), newKey(t), always(start.AddDate(-1, 0, 0)))
			return err
		}, NotYetValid, "clock is behind", "bad certificate"},
		"a member whose own certificate has ended": {func(t *testing.T, s *stackUnderTest) error {
			s.clock.add(100 * 24 * time.Hour)
			_, err := join(t, s.invite(t, "two"), newKey(t), s.clock.now)
			return err
		}, Expired, "could not renew", "bad certificate"},
		"a member that cannot": {func(t *testing.T, s *stackUnderTest) error {
			s.mu.Lock()
			s.fail = errors.New("no majority")
			s.mu.Unlock()
			_, err := join(t, s.invite(t, "two"), newKey(t), s.clock.now)
			if strings.Contains(fmt.Sprint(err), "no majority") {
				t.Errorf("%v", err)
			}
			return err
		}, Failed, "try again with the same token", "no majority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stackAt(t, "shop", start, nil)
			wantReason(t, c.try(t, s), c.reason, c.words)
			if c.log != "" {
				eventually(t, "the log has "+c.log, func() bool { return s.log.has(c.log) })
			}
		})
	}
}

func TestAWrongClockDoesNotUseTheTokenUp(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	token, key := s.invite(t, "two"), newKey(t)
	_, err := join(t, token, key, always(start.Add(-time.Minute)))
	wantReason(t, err, ClockOff, "not used up")
	must[Joined](t)(join(t, token, newKey(t), s.clock.now))
}

// An attacker in the member's place has another authority, or the certificate of somebody else.
// The secret is not sent to it.
func TestWhoAnswersInTheStacksPlaceHearsNothing(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	token := s.invite(t, "two")

	fake := newAuthority(t, "shop", start)
	fakeHost := newHost(t, fake, "one", start)
	real := s.keeper.Credentials()
	operator := issue(t, s.authority, grant(t, "shop", Operator, "anna"), start)
	chain := func(key *ecdsa.PrivateKey, certs ...[]byte) *tls.Certificate {
		return &tls.Certificate{Certificate: certs, PrivateKey: key}
	}

	for name, c := range map[string]struct {
		cert   *tls.Certificate
		reason Reason
	}{
		"its own authority": {chain(fakeHost.Key, fakeHost.Certificate.Raw, fake.cert.Raw), OtherAuthority},
		"no authority":      {chain(fakeHost.Key, fakeHost.Certificate.Raw), OtherAuthority},
		"the authority's certificate and another's own": {chain(fakeHost.Key, fakeHost.Certificate.Raw, real.Authority.Raw), OtherAuthority},
		"the authority's certificate alone, as its own": {chain(fakeHost.Key, real.Authority.Raw, real.Authority.Raw), ""},
		"the host's certificate without its key":        {chain(fakeHost.Key, real.Certificate.Raw, real.Authority.Raw), ""},
		"an operator's":                                 {chain(operator.Key, operator.Certificate.Raw, real.Authority.Raw), WrongUse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
			defer l.Close()

			heard := make(chan []byte, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				text, _ := io.ReadAll(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*c.cert}}))
				heard <- text
			}()

			try := token
			try.Members = []netip.AddrPort{netip.MustParseAddrPort(l.Addr().String())}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err := Join(ctx, try, "", newKey(t), s.clock.now)
			if err == nil || c.reason != "" && ReasonOf(err) != c.reason {
				t.Errorf("%q: %v", ReasonOf(err), err)
			}
			if text := <-heard; len(text) > 0 {
				t.Errorf("it heard %q", text)
			}
		})
	}

	must[Joined](t)(join(t, token, newKey(t), s.clock.now)) // the token can still be used
}

func TestSomethingElseAtTheAddressIsSaid(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	plain := &http.Server{Handler: http.NotFoundHandler()}
	go plain.Serve(l)
	defer plain.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	_, err := join(t, s.invite(t, "two", at), newKey(t), s.clock.now)
	wantReason(t, err, OtherAuthority, "does not speak TLS")

	strange := serve(t, &tls.Config{Certificates: []tls.Certificate{*s.keeper.Credentials().tls()}}, http.NotFoundHandler(), io.Discard)
	_, err = join(t, s.invite(t, "two", netip.MustParseAddrPort(strange)), newKey(t), s.clock.now)
	wantReason(t, err, OtherAuthority, "does not show the certificate of its authority")

	free := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	nobody := netip.MustParseAddrPort(free.Addr().String())
	free.Close()
	_, err = join(t, s.invite(t, "two", nobody), newKey(t), s.clock.now)
	wantReason(t, err, Unreachable, "does not answer", "firewall")
	_, err = join(t, s.invite(t, "two", nobody), newKey(t), always(start.Add(time.Hour)))
	wantReason(t, err, Unreachable, "by this host's clock the token has ended")

	// It is enough that one of the members answers.
	must[Joined](t)(join(t, s.invite(t, "two", nobody, at, s.address), newKey(t), s.clock.now))
}

// The member has redeemed the token, but its answer is lost.
func TestAnAnswerThatIsLostIsAskedForAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	lose := true
	s := stackAt(t, "shop", start, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && lose {
				lose = false
				next.ServeHTTP(&deaf{ResponseWriter: w}, r)
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	})
	token := s.invite(t, "two")
	joined := must[Joined](t)(join(t, token, newKey(t), s.clock.now))
	if len(s.welcomed) != 2 || s.welcomed[0] != s.welcomed[1] || s.welcomed[0].ID != joined.Credentials.Peer().ID {
		t.Errorf("welcomed are %v", s.welcomed)
	}
	_, err := join(t, token, newKey(t), s.clock.now)
	wantReason(t, err, TokenUsed)
}

// deaf is a ResponseWriter that drops the answer.
type deaf struct{ http.ResponseWriter }

func (d *deaf) Write(p []byte) (int, error) { return len(p), nil }
func (d *deaf) WriteHeader(int)             {}
func (d *deaf) Unwrap() http.ResponseWriter { return d.ResponseWriter }

func TestOneOfManyWhoHaveTheTokenJoins(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	token := s.invite(t, "two")
	outcomes := make(chan error, 6)
	for range cap(outcomes) {
		key := newKey(t)
		go func() {
			_, err := Join(t.Context(), token, "", key, s.clock.now)
			outcomes <- err
		}()
	}
	joined := 0
	for range cap(outcomes) {
		if err := <-outcomes; err == nil {
			joined++
		} else {
			wantReason(t, err, TokenUsed)
		}
	}
	if joined != 1 {
		t.Errorf("%d have joined", joined)
	}
}

// postJoin posts a body to JoinPath without a certificate.
func (s *stackUnderTest) postJoin(t testing.TB, client *http.Client, body io.Reader) (int, string) {
	t.Helper()
	resp := must[*http.Response](t)(client.Post("https://"+s.address.String()+JoinPath, "application/json", body))
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func strangerConfig() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: joinName}
}

func TestAStrangerReachesTheJoinAndNothingElse(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	client, closeAll := clientOf(strangerConfig())
	defer closeAll()
	for _, path := range []string{"/", RenewPath, "/v1", JoinPath + "/x", JoinPath + "/../renew"} {
		resp := must[*http.Response](t)(client.Post("https://"+s.address.String()+path, "", nil))
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed && resp.StatusCode/100 != 3 {
			t.Errorf("%s gets %s", path, resp.Status)
		}
	}
	for _, name := range []string{"", "one", "JOIN.holdfast", "join.holdfast.x", "join"} {
		cfg := strangerConfig()
		cfg.ServerName = name
		other, closeAll := clientOf(cfg)
		if resp, err := other.Get("https://" + s.address.String() + JoinPath); err == nil {
			resp.Body.Close()
			t.Errorf("without a certificate, and with the name %q, it gets %s", name, resp.Status)
		}
		closeAll()
	}
}

func TestWhatAStrangerSendsIsBounded(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	client, closeAll := clientOf(strangerConfig())
	defer closeAll()
	for body, want := range map[string]string{
		"": "cannot be read", "nonsense": "cannot be read", `{"id":1}`: "cannot be read", `{"unknown":1}`: "cannot be read",
		"{}": "request for a certificate", `{"id":"x","request":"AAAA"}`: "request for a certificate",
	} {
		if status, text := s.postJoin(t, client, strings.NewReader(body)); status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%q: %d %s", body, status, text)
		}
	}
	if status, text := s.postJoin(t, client, bytes.NewReader(make([]byte, maxRequest+1))); status != http.StatusBadRequest || !strings.Contains(text, "longer than") {
		t.Errorf("%d %s", status, text)
	}
	for range triesAtOnce {
		if status, text := s.postJoin(t, client, strings.NewReader("{}")); status == http.StatusTooManyRequests {
			if !strings.Contains(text, "too many tries") || !s.log.has("too many tries") {
				t.Errorf("%s", text)
			}
			return
		}
	}
	t.Error("no limit")
}

func TestAStrangerWhoDoesNotSendHisRequestIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := stackAt(t, "shop", start, nil)
	for name, text := range map[string]string{
		"no request":        "",
		"half a head":       "POST " + JoinPath + " HTTP/1.1\r\nHost: x\r\n",
		"a body for nobody": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		"a body to GET":     "GET " + JoinPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		"no body":           "POST " + JoinPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := must[*tls.Conn](t)(tls.Dial("tcp", s.address.String(), strangerConfig()))
			defer conn.Close()
			must[int](t)(io.WriteString(conn, text))
			conn.SetReadDeadline(time.Now().Add(6 * bodyTime))
			answer, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("the connection is still there: %v", err)
			}
			if name == "no body" && !strings.Contains(string(answer), "did not arrive whole") {
				t.Errorf("%s", answer)
			}
		})
	}
	// A connection that sends nothing at all, not even the beginning of TLS.
	conn := must[net.Conn](t)(net.Dial("tcp", s.address.String()))
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(6 * bodyTime))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection is still there: %v", err)
	}
}

func TestALimitIsForOneAddressAndItsTableIsBounded(t *testing.T) {
	t.Parallel()
	l := newLimiter()
	try := l.allow
	for n := range triesAtOnce + 1 {
		if got, want := try("198.18.7.1:1000", start), n < triesAtOnce; got != want {
			t.Errorf("try %d: %v", n, got)
		}
	}
	if !try("198.18.7.2:1000", start) || !try("198.18.7.1:1001", start.Add(time.Second)) {
		t.Error("another address, or a second later, is refused")
	}
	for n := range triesAtOnce {
		if !try(fmt.Sprintf("[fd00::%x]:1", n), start) {
			t.Error("refused too early")
		}
	}
	if try("[fd00::ffff]:1", start) {
		t.Error("addresses of one network have a limit each")
	}
	for n := range 3 * maxSources {
		try(fmt.Sprintf("10.0.%d.%d:1", n/250, n%250), start)
	}
	if len(l.sources) > maxSources {
		t.Errorf("%d addresses", len(l.sources))
	}
	if !try("10.9.9.9:1", start.Add(time.Hour)) || len(l.sources) > 10 {
		t.Errorf("an hour later it knows %d addresses", len(l.sources))
	}
	for range maxJoining {
		if !l.begin() {
			t.Error("refused too early")
		}
	}
	if l.begin() {
		t.Error("more at a time than there may be")
	}
	if l.end(); !l.begin() {
		t.Error("a place that was left is not free")
	}
}
