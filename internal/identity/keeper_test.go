package identity

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// renewBy returns a Renew that issues certificates for a new member called host.
func renewBy(t testing.TB, a *Authority, now func() time.Time, host string) Renew {
	g := grant(t, a.Stack(), Host, host)
	return func(_ context.Context, request []byte) ([]byte, error) {
		return a.Issue(request, g, now(), rand.Reader)
	}
}

// sameMember returns a Renew that issues certificates for the same member.
func sameMember(a *Authority, now func() time.Time, peer Peer, life time.Duration) Renew {
	return func(_ context.Context, request []byte) ([]byte, error) {
		return a.Issue(request, Grant{Peer: peer, Addresses: loopback, Life: life}, now(), rand.Reader)
	}
}

func TestACertificateIsRenewedAfterTwoThirdsOfItsLife(t *testing.T) {
	t.Parallel()
	cert := newHost(t, newAuthority(t, "shop", start), "one", start).Certificate
	if got, want := Due(cert), start.Add(60*24*time.Hour); got != want {
		t.Errorf("due at %s, want %s", got, want)
	}
}

func TestAYearOfRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		a := newAuthority(t, "shop", begin)
		c := newHost(t, a, "one", begin)
		var failures atomic.Int64
		failures.Store(3)
		good := sameMember(a, time.Now, c.Peer(), DefaultLife)
		k := keeperOf(t, c, func(ctx context.Context, request []byte) ([]byte, error) {
			if failures.Add(-1) >= 0 {
				return nil, errors.New("nobody answers")
			}
			return good(ctx, request)
		}, time.Now)

		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		var complaints []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.Run(ctx, func(changed []string, err error) {
				if err != nil {
					complaints = append(complaints, err.Error())
					return
				}
				at = append(at, time.Since(begin).Round(time.Hour))
			})
		}()
		time.Sleep(365 * 24 * time.Hour)
		cancel()
		<-done

		// The first three attempts failed, and were repeated after 1, 2 and 4 minutes.
		if len(complaints) != 3 || !strings.Contains(complaints[0], "host one cannot be renewed, and it ends in 30 days: nobody answers") {
			t.Errorf("complaints: %q", complaints)
		}
		if len(at) != 6 || at[0] != 60*24*time.Hour {
			t.Errorf("renewed at %v", at)
		}
		if left := time.Until(k.Credentials().Certificate.NotAfter); left < 30*24*time.Hour {
			t.Errorf("at the end it is valid for %s", left)
		}
	})
}

// Run uses the wall clock, which can be set.
func TestAClockThatIsSetForwardIsSeenWithinAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var ahead atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		a := newAuthority(t, "shop", begin)
		c := newHost(t, a, "one", begin)
		k := keeperOf(t, c, sameMember(a, now, c.Peer(), DefaultLife), now)
		renewed := make(chan struct{}, 10)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); k.Run(ctx, func([]string, error) { renewed <- struct{}{} }) }()
		time.Sleep(10 * time.Hour)
		ahead.Store(int64(70 * 24 * time.Hour))
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(renewed) != 1 {
			t.Errorf("renewed %d times", len(renewed))
		}
		cancel()
		<-done
	})
}

func TestANewCertificateThatIsNotForThisHostIsNotTaken(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t, "shop", start), newAuthority(t, "shop", start)
	c := newHost(t, a, "one", start)
	key := newKey(t)
	for name, r := range map[string]struct {
		renew  Renew
		reason Reason
	}{
		"another host's":      {renewBy(t, a, always(start), "two"), OtherHost},
		"another ID":          {renewBy(t, a, always(start), "one"), OtherHost},
		"another authority's": {sameMember(other, always(start), c.Peer(), DefaultLife), OtherAuthority},
		"one that has ended":  {sameMember(a, always(start), c.Peer(), -time.Hour), Expired},
		"another key's": {func(_ context.Context, _ []byte) ([]byte, error) {
			return a.Issue(request(t, key), Grant{Peer: c.Peer(), Life: DefaultLife}, start, rand.Reader)
		}, OtherHost},
		"nonsense": {func(context.Context, []byte) ([]byte, error) { return []byte("nonsense"), nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := keeperOf(t, c, r.renew, always(start))
			changed, err := k.Renew(t.Context())
			if err == nil || len(changed) != 0 || ReasonOf(err) != r.reason {
				t.Errorf("%v, %q (%v)", changed, ReasonOf(err), err)
			}
			if onDisk := must[Credentials](t)(k.dir.Load()); !onDisk.Certificate.Equal(c.Certificate) || !k.Credentials().Certificate.Equal(c.Certificate) {
				t.Error("it was taken")
			}
		})
	}
}

// Both ends renew their certificates while requests are under way, on connections that stay open
// and on new ones.
func TestRenewalDuringTrafficFailsNoRequest(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	var seconds atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(seconds.Add(1)) * time.Second) }
	one, two := newHost(t, a, "one", start), newHost(t, a, "two", start)

	server := keeperOf(t, one, sameMember(a, now, one.Peer(), DefaultLife), now)
	client := keeperOf(t, two, sameMember(a, now, two.Peer(), DefaultLife), now)
	trust := newTrust(t, a, nil, now)

	var serials sync.Map
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := trust.Peer(r)
		if err != nil {
			answerError(w, http.StatusForbidden, err)
			return
		}
		serials.Store(peer.Serial, true)
		io.WriteString(w, peer.Name)
	})

	address := serve(t, trust.Server(server), handler, io.Discard)

	stop := make(chan struct{})
	var requests atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			kept, closeAll := clientOf(trust.Client(client, "one"))
			defer closeAll()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if i%2 == 0 { // half of the clients connect anew for each request
					kept.Transport.(*http.Transport).CloseIdleConnections()
				}

				resp, err := kept.Get("https://" + address)
				if err != nil {
					t.Error(err)
					return
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(text) != "two" {
					t.Errorf("%s %s", resp.Status, text)
					return
				}
				requests.Add(1)
			}
		})
	}

	for range 20 {
		before := requests.Load()
		for _, k := range []*Keeper{server, client} {
			if _, err := k.Renew(t.Context()); err != nil {
				t.Error(err)
			}
		}
		eventually(t, "requests go on", func() bool { return t.Failed() || requests.Load() > before+8 })
	}

	close(stop)
	wg.Wait()
	seen := 0
	serials.Range(func(any, any) bool { seen++; return true })
	if seen < 15 {
		t.Errorf("the server saw %d certificates of the client; it renewed 20 times", seen)
	}

	conn := must[*tls.Conn](t)(tls.Dial("tcp", address, trust.Client(client, "one")))
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(server.Credentials().Certificate) {
		t.Error("a new connection gets an old certificate")
	}
	t.Logf("%d requests, %d certificates seen", requests.Load(), seen)
}
