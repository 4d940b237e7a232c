package plan

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/stack"
)

// limitedCluster returns a balancer whose clients have limits, in front of a kv and a user's
// program.
func limitedCluster(t *testing.T, limits stack.Limits, change func(s *stack.Stack)) (c *cluster, web, other *flaky) {
	limits.Connections = 1000
	return routesCluster(t, func(s *stack.Stack) {
		s.Balancers, s.Entry.Limits, s.Entry.Log, s.Entry.LogPath = 1, limits, "all", true
		s.Timeouts.Client, s.Timeouts.Server = 5*time.Second, 5*time.Second
		if change != nil {
			change(s)
		}
	}, stack.Route{PathPrefix: []string{"/other"}, App: "other"})
}

// asks sends a request from a loopback address, with headers as NAME: VALUE lines.
func (c *cluster) asks(t *testing.T, source, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	conn, err := from(t, source, c.process("balancer-1").Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n", path, strings.Join(append(slices.Clone(headers), ""), "\r\n"))
	return answerOn(t, conn)
}

// times sends the same request count times, and returns how many answers were not 429. A 429 has to
// tell the client when to come back.
func (c *cluster) times(t *testing.T, count int, source, path string, headers ...string) (through int) {
	t.Helper()
	for range count {
		r, body := c.asks(t, source, path, headers...)
		switch {
		case r.StatusCode == 200:
			through++
		case r.StatusCode != 429 || r.Header.Get("Retry-After") != "1" || r.Header.Get("Holdfast-Balancer") != "balancer-1":
			t.Fatalf("%s %v: %s", r.Status, r.Header, body)
		}
	}
	return through
}

// afterASecond waits until the counts have left the window, which is two slots of a second each.
func afterASecond() { time.Sleep(2100 * time.Millisecond) }

func TestAnAddressHasARateOfRequests(t *testing.T) {
	t.Parallel()
	const rate = 20
	c, web, other := limitedCluster(t, stack.Limits{RequestsPerAddress: rate}, nil)
	afterASecond()
	web.take()
	if n := c.times(t, 3*rate, "127.0.0.1", "/a"); n < rate || n > rate+rate/2 {
		t.Errorf("of %d requests at once %d came through, want %d", 3*rate, n, rate)
	}
	if n := len(web.take()); n > rate+rate/2 {
		t.Errorf("the nodes got %d requests", n)
	}
	if n := c.times(t, 5, "127.0.0.2", "/a"); n != 5 {
		t.Errorf("of another address %d of 5 came through", n)
	}
	// An untrusted client cannot change its address with a header.
	if n := c.times(t, 5, "127.0.0.1", "/a", "X-Forwarded-For: 192.0.2.1"); n > 2 {
		t.Errorf("with a forged address %d came through", n)
	}
	// A refusal has the form and the words of the application that was asked.
	for _, try := range []struct{ path, accept, form, words string }{
		{"/a", "*/*", "application/json", `{"error":"Too many requests a second come from this client address; this one was not executed.`},
		{"/a", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html", "<html><body><h1>Too many requests a second come from this client address; this one was not executed."},
		{"/other", "*/*", "text/html", "<html><body><h1>Too many requests a second come from this client address. Try again"},
		{"/other", "application/problem+json", "application/json", `{"error":"Too many requests a second come from this client address. Try again`},
	} {
		c.times(t, rate, "127.0.0.3", "/a")
		r, body := c.asks(t, "127.0.0.3", try.path, "Accept: "+try.accept)
		if r.StatusCode != 429 || r.Header.Get("Content-Type") != try.form || !strings.HasPrefix(body, try.words) {
			t.Errorf("%s with %s: %s %v: %s", try.path, try.accept, r.Status, r.Header, body)
		}
	}
	// A client that asks twice as often as it may still gets as many requests as it may.
	afterASecond()
	begun, through := time.Now(), 0
	for time.Since(begun) < 4*time.Second {
		through += c.times(t, 1, "127.0.0.4", "/a")
		time.Sleep(time.Second / (2 * rate))
	}
	if through < 3*rate || through > 6*rate {
		t.Errorf("of twice as many for 4 s %d came through, want %d or so", through, 4*rate)
	}
	other.take()
}

func TestBehindAProxyTheForwardedAddressHasTheRate(t *testing.T) {
	t.Parallel()
	const rate = 10
	c, _, _ := limitedCluster(t, stack.Limits{RequestsPerAddress: rate, PerAddress: 3}, func(s *stack.Stack) {
		s.Entry.TrustedProxies = []string{"127.0.0.1"}
	})
	afterASecond()
	if n := c.times(t, 3*rate, "127.0.0.1", "/a", "X-Forwarded-For: 192.0.2.9, 192.0.2.1"); n < rate || n > rate+rate/2 {
		t.Errorf("of an address behind the proxy %d came through, want %d", n, rate)
	}
	if n := c.times(t, 5, "127.0.0.1", "/a", "X-Forwarded-For: 192.0.2.1, 192.0.2.2"); n != 5 {
		t.Errorf("of another one %d of 5 came through", n)
	}
	if n := c.times(t, 3*rate, "127.0.0.1", "/a", "X-Forwarded-For: 2001:db8::1"); n < rate || n > rate+rate/2 {
		t.Errorf("of an IPv6 address behind the proxy %d came through, want %d", n, rate)
	}
	if n := c.times(t, 5, "127.0.0.1", "/a", "X-Forwarded-For: 2001:db8::2"); n > 2 {
		t.Errorf("of the same /64 network %d came through", n)
	}
	if n := c.times(t, 2*rate, "127.0.0.1", "/a"); n != 2*rate {
		t.Errorf("of the proxy itself %d of %d came through", n, 2*rate)
	}
	// Requests under way are counted, because the connections are the proxy's.
	ended := c.underWay(t, 3, "X-Forwarded-For: 192.0.2.7")
	if r, body := c.asks(t, "127.0.0.1", "/a", "X-Forwarded-For: 192.0.2.7"); r.StatusCode != 429 || !strings.Contains(body, "are under way") {
		t.Errorf("the fourth at once: %s %s", r.Status, body)
	}
	if n := c.times(t, 1, "127.0.0.1", "/a", "X-Forwarded-For: 192.0.2.8"); n != 1 {
		t.Error("another address was refused, too")
	}
	ended()
	if n := c.times(t, 1, "127.0.0.1", "/a", "X-Forwarded-For: 192.0.2.7"); n != 1 {
		t.Error("it is refused when its requests have ended")
	}
}

// underWay begins requests that last, from the first address, and returns when the nodes have them.
// The function that it returns waits for their end.
func (c *cluster) underWay(t *testing.T, count int, headers ...string) func() {
	t.Helper()
	var all sync.WaitGroup
	for range count {
		conn, err := from(t, "127.0.0.1", c.process("balancer-1").Address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /a?events=4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n\r\n", strings.Join(headers, "\r\n"))
		if _, err := io.ReadFull(conn, make([]byte, 20)); err != nil { // a node has the request
			t.Fatal(err)
		}
		all.Go(func() { io.Copy(io.Discard, conn) })
	}
	return all.Wait
}

func TestATokenHasARateOfRequests(t *testing.T) {
	t.Parallel()
	const rate = 10
	c, _, _ := limitedCluster(t, stack.Limits{RequestsPerToken: rate}, nil)
	afterASecond()
	if n := c.times(t, 3*rate, "127.0.0.1", "/a", "Authorization: Bearer hunter2"); n < rate || n > rate+rate/2 {
		t.Errorf("of a token %d came through, want %d", n, rate)
	}
	for _, same := range [][]string{
		{"/a", "Authorization: bearer   hunter2"},
		{"/other", "Authorization: Bearer hunter2"},
		{"/a?_token=hunter2"},
		{"/a?x=1&_token=%68unter2"},
	} {
		if n := c.times(t, 4, "127.0.0.2", same[0], same[1:]...); n > 2 {
			t.Errorf("%q is another token: %d came through", same, n)
		}
	}
	if n := c.times(t, 5, "127.0.0.1", "/a", "Authorization: Bearer hunter3"); n != 5 {
		t.Errorf("of another token %d of 5 came through", n)
	}
	if n := c.times(t, 3*rate, "127.0.0.1", "/a"); n != 3*rate {
		t.Errorf("without a token %d of %d came through", n, 3*rate)
	}
	// A web node finds the same token in each of these, although each could be spelled in many
	// ways. All tokens with an unusual spelling count as one client.
	for i, spelt := range [][]string{
		{"/a?%5Ftoken=hunter2"}, {"/a?_%74o%6Ben=hunter2"}, {"/a?%5ftoken=hunter2&a=%zz"}, {"/a?x;_token=fake&_token=hunter2"},
		{"/a?_token=hunter2;9"}, {"/a?_token=hunter2&_token=9"}, {"/a?%5Ftoken=9&_token=hunter2"},
		{"/a", "Authorization: Bearer \thunter2"}, {"/a", "Authorization: Bearer  \t\t hunter2"}, {"/a", "Authorization: Bearer \u00a0hunter2"}, {"/a", "Authorization: Bearer hunter2 9"},
	} {
		if n := c.times(t, 4, "127.0.0.2", spelt[0], spelt[1:]...); i > 2 && n > 2 {
			t.Errorf("%q: %d came through", spelt, n)
		}
	}
	for _, plain := range [][]string{{"/a?_token=hunter2&a=%zz"}, {"/a?_token=hunter%32"}, {"/a?_token=hunter2", "Authorization:"}, {"/a?_token=9", "Authorization: Bearer   hunter2"}} {
		if n := c.times(t, 2*rate, "127.0.0.2", plain[0], plain[1:]...); n > rate+rate/2 {
			t.Errorf("%q is another token: %d came through", plain, n)
		}
		if n := c.times(t, 3, "127.0.0.2", "/a", "Authorization: Bearer hunter2"); n > 2 {
			t.Errorf("%q was not counted as the token: %d came through after it", plain, n)
		}
	}
	// Schemes other than Bearer, and queries without a token, are handled as before.
	for i, other := range [][]string{{"/a", "Authorization: Basic aHVudGVy"}, {"/a", `Authorization: Digest username="x", nc=0001`}, {"/a", "Authorization: key9"}, {"/a?tokens=1;2&a=_token"}} {
		if n := c.times(t, 5, "127.0.0.2", other[0], other[1:]...); n != 5 {
			t.Errorf("other %d: %d of 5 came through", i, n)
		}
	}
	// A client that adds a different token each time still counts as one client.
	through := 0
	for i := range 3 * rate {
		through += c.times(t, 1, "127.0.0.1", "/a", fmt.Sprintf("Authorization: Bearer %d", i), "Authorization: Bearer hunter2")
	}
	if through > rate+rate/2 {
		t.Errorf("with several tokens %d came through", through)
	}
	r, body := c.asks(t, "127.0.0.1", "/a", "Authorization: Bearer hunter2")
	if err := isRefusal(r, body, "come with this token; this one was not executed"); err != nil {
		t.Error(err)
	}
	table, err := c.tell("balancer-1", "show table entry.tokens")
	if err != nil || strings.Contains(table, "hunter") || !strings.Contains(table, "gpc0_rate") {
		t.Errorf("the table has %q (%v)", table, err)
	}
	if log := c.logOf("balancer-1"); strings.Contains(log, "hunter") || !strings.Contains(log, " 429 ") {
		t.Errorf("the log has a token, or no refusal:\n%s", log)
	}
}

// isRefusal returns an error unless the answer is a kv's 429.
func isRefusal(r *http.Response, body, words string) error {
	if r.StatusCode != 429 || !strings.Contains(body, words) || r.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("%s %v: %s; want 429 and %q", r.Status, r.Header, body, words)
	}
	return nil
}

func TestATokenHasSoManyRequestsUnderWay(t *testing.T) {
	t.Parallel()
	c, _, _ := limitedCluster(t, stack.Limits{PerToken: 2}, nil)
	ended := c.underWay(t, 2, "Authorization: Bearer one")
	r, body := c.asks(t, "127.0.0.2", "/a", "Authorization: Bearer one")
	if err := isRefusal(r, body, "with this token are under way"); err != nil {
		t.Error(err)
	}
	if n := c.times(t, 3, "127.0.0.1", "/a", "Authorization: Bearer two"); n != 3 {
		t.Errorf("of another token %d of 3 came through", n)
	}
	ended()
	if n := c.times(t, 3, "127.0.0.1", "/a", "Authorization: Bearer one"); n != 3 {
		t.Errorf("when they have ended, %d of 3 come through", n)
	}
}

// The load of a drill is not limited like a client's: the drill knows the stack's secret, even
// where every request reaches the only application.
func TestADrillHasNoLimitOfAClient(t *testing.T) {
	t.Parallel()
	c, _, _ := limitedCluster(t, stack.Limits{RequestsPerAddress: 2, RequestsPerToken: 2, PerToken: 1}, func(s *stack.Stack) {
		delete(s.Apps, "other")
		s.Routes = []stack.Route{{App: "web"}}
	})
	value := DrillHeader(c.plan.Stack, c.secrets, "web")
	if n := c.times(t, 20, "127.0.0.1", "/a", DrillHeaderName+": "+value, "Authorization: Bearer x"); n != 20 {
		t.Errorf("of a drill's requests %d of 20 came through", n)
	}
	if n := c.times(t, 20, "127.0.0.1", "/a", DrillHeaderName+": x/web"); n > 6 {
		t.Errorf("without the secret %d came through", n)
	}
}
