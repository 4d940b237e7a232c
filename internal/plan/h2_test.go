package plan

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
)

// h2Cluster returns a balancer with TLS in front of a kv (web) and a user's program (other).
func h2Cluster(t *testing.T, change func(s *stack.Stack)) (c *cluster, web, other *flaky) {
	t.Helper()
	web, other = &flaky{}, &flaky{}
	s := quick(httpStack(t))
	s.Balancers, s.Entry.TLS.SelfSigned, s.Entry.Log, s.Entry.LogPath = 1, true, "all", true
	s.Routes = []stack.Route{{PathPrefix: []string{"/other"}, App: "other"}, {App: "web"}}
	s.Timeouts.Client, s.Timeouts.Server = 5*time.Second, 5*time.Second
	if change != nil {
		change(&s)
	}
	webPort, otherPort := web.serve(t), other.serve(t)
	c = newCluster(t, s, map[string]int{"web-1": webPort, "web-2": webPort, "other-1": otherPort, "other-2": otherPort, "balancer-1": redistest.FreePort(t)})
	writeCertificate(t, c.dir, s)
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error {
		if err := c.h2(t, "127.0.0.1", true).get("/up").is(200); err != nil {
			return err
		}
		if len(c.upServers(t, "other")) < 2 {
			return fmt.Errorf("the program's nodes are not up")
		}
		return nil
	})
	return c, web, other
}

// h2Client is one client address. It uses one connection with HTTP/2, and as many as it needs with
// HTTP/1.1.
type h2Client struct {
	http.Client
	base string
}

func (c *cluster) h2(t *testing.T, source string, two bool) *h2Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
			return d.DialContext(ctx, network, address)
		},
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!two)
	transport.Protocols.SetHTTP2(two)
	t.Cleanup(transport.CloseIdleConnections)
	return &h2Client{http.Client{Transport: transport, Timeout: 20 * time.Second}, "https://" + c.process("balancer-1").Address}
}

func (h *h2Client) get(path string) response {
	r, err := h.Get(h.base + path)
	return read(r, err)
}

// read returns a response with its whole body.
func read(r *http.Response, err error) response {
	if err != nil {
		return response{err: err}
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return response{status: r.StatusCode, body: string(text), err: err}
}

func TestAllClientsByHTTP2HaveNoMoreRequestsThanThereAreConnections(t *testing.T) {
	t.Parallel()
	const connections, addresses, each = 60, 20, 18
	c, _, _ := h2Cluster(t, func(s *stack.Stack) { s.Entry.Limits.Connections = connections })

	var mu sync.Mutex
	got := map[int]int{}
	var all sync.WaitGroup
	clients := make([]*h2Client, addresses)
	for i := range clients {
		clients[i] = c.h2(t, fmt.Sprintf("127.0.0.%d", i+2), true)
		if err := clients[i].get("/other").is(200); err != nil { // so that it has its one connection
			t.Fatal(err)
		}
	}
	for _, client := range clients {
		for range each {
			all.Go(func() {
				r := client.get("/other?sleep=2s")
				if r.status == http.StatusServiceUnavailable && !strings.Contains(r.body, "Too many requests of all clients are under way") {
					t.Error(r.body)
				}
				mu.Lock()
				defer mu.Unlock()
				got[r.status]++
			})
		}
	}
	all.Wait()

	// Each of the threads may let one request too many through at the same moment.
	if got[200] < connections || got[200] > connections+10 || got[200]+got[503] != addresses*each {
		t.Errorf("the statuses of %d requests are %v, want %d of 200 and the rest 503", addresses*each, got, connections)
	}
	if up := c.upServers(t, "other"); len(up) != 2 {
		t.Errorf("the servers that are up are %v", up)
	}
	if log := c.logOf("balancer-1"); strings.Contains(log, "not enough free sockets") || strings.Contains(log, "DOWN") {
		t.Errorf("the balancer's log:\n%s", log)
	}
	if err := c.h2(t, "127.0.0.1", false).get("/other").is(200); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestABodyOfUnknownLengthByHTTP2KeepsNoPlaceOfAKV(t *testing.T) {
	t.Parallel()
	c, web, _ := h2Cluster(t, func(s *stack.Stack) {
		app := s.Apps["web"]
		app.Connections = 2
		s.Apps["web"] = app
	})
	client := c.h2(t, "127.0.0.2", true)
	// send sends the beginning of a body, and the end only after the request is over.
	send := func(method string, length int, ends bool) response {
		r, w := io.Pipe()
		defer w.Close()
		go func() {
			io.WriteString(w, strings.Repeat("x", length))
			if ends {
				w.Close()
			}
		}()
		req, err := http.NewRequest(method, client.base+"/a", r)
		if err != nil {
			t.Fatal(err)
		}
		return read(client.Do(req))
	}

	web.take()
	for _, method := range []string{"GET", "HEAD", "DELETE"} {
		if err := send(method, 64<<10, false).is(http.StatusRequestEntityTooLarge); err != nil {
			t.Errorf("%s with a body that does not end: %v", method, err)
		}
	}
	if seen := web.take(); len(seen) > 0 {
		t.Errorf("the nodes got %d requests, whose places last as long as their clients like", len(seen))
	}
	for _, method := range []string{"GET", "HEAD", "DELETE"} {
		if err := send(method, 1<<10, true).is(200); err != nil {
			t.Errorf("%s with a small body: %v", method, err)
		}
		req, _ := http.NewRequest(method, client.base+"/a", nil)
		if err := read(client.Do(req)).is(200); err != nil {
			t.Errorf("%s without a body: %v", method, err)
		}
	}
	if err := send("POST", 64<<10, true).is(200); err != nil {
		t.Errorf("a large body: %v", err)
	}
}

func TestA429ForConnectionsLastsNoLongerThanTheyDoByHTTP2(t *testing.T) {
	t.Parallel()
	c, _, _ := h2Cluster(t, func(s *stack.Stack) {
		s.Entry.Limits.Connections, s.Entry.Limits.PerAddress = 1000, 16
	})
	const address = "127.0.0.2"
	var others []net.Conn
	for range 16 {
		conn, err := from(t, address, c.process("balancer-1").Address)
		if err != nil {
			t.Fatal(err)
		}
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		others = append(others, secure)
	}

	client := c.h2(t, address, true)
	dials := 0
	transport := client.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, at string) (net.Conn, error) {
		dials++
		return dial(ctx, network, at)
	}
	for range 2 {
		if err := client.get("/other").is(http.StatusTooManyRequests); err != nil {
			t.Fatalf("on the connection after the last: %v", err)
		}
	}
	for _, conn := range others {
		conn.Close()
	}
	eventually(t, 3*time.Second, func() error { return client.get("/other").is(200) })
	if dials != 1 {
		t.Errorf("the client has connected %d times, so that the test shows nothing", dials)
	}
}
