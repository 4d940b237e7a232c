package plan

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
)

// from connects from a loopback address. The connection may be refused.
func from(t *testing.T, source, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return conn, conn.SetDeadline(time.Now().Add(5 * time.Second))
}

// statusFrom returns the status of the answer to a request from an address, or 0 if the connection
// was closed without an answer.
func statusFrom(t *testing.T, source, address string) int {
	t.Helper()
	conn, err := from(t, source, address)
	if err != nil {
		return 0
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") // the connection may be closed already
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return 0
	}
	r.Body.Close()
	if r.StatusCode == 429 {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection goes on after 429: %v", err)
		}
	}
	if r.StatusCode == 429 && (r.Header.Get("Retry-After") != "1" || !r.Close) {
		t.Errorf("429 with %v, want Retry-After and the end of the connection", r.Header)
	}
	return r.StatusCode
}

// half opens connections with half a request each, and returns those that stay open. Refused ones
// are closed at once.
func half(t *testing.T, source, address string, count int) []net.Conn {
	t.Helper()
	var all []net.Conn
	for range count {
		if conn, err := from(t, source, address); err == nil {
			fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a\r\n")
			all = append(all, conn)
		}
	}
	stays := make([]bool, len(all))
	var reading sync.WaitGroup
	for i, conn := range all {
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		reading.Go(func() {
			_, err := conn.Read(make([]byte, 1))
			stays[i] = errors.Is(err, os.ErrDeadlineExceeded)
		})
	}
	reading.Wait()
	var open []net.Conn
	for i, conn := range all {
		if stays[i] {
			open = append(open, conn)
		}
	}
	return open
}

// near allows for connections that HAProxy's threads accept at the same moment.
func near(got, want int) bool { return got >= want-2 && got <= want+2 }

func TestOneAddressLeavesConnectionsToOthers(t *testing.T) {
	const limit = 80
	for _, c := range []struct {
		name       string
		perAddress int
		trusted    []string
		// The number of connections of the greedy address that are open in the end, and the status
		// of its next request when only left of them remain.
		open, left, status int
	}{
		{name: "by its share", open: 70, left: 58, status: 200},
		{name: "its next request is 429", open: 70, left: 62, status: 429},
		{name: "by a number", perAddress: 16, open: 18, left: 15, status: 200},
		{name: "by a number, its next request is 429", perAddress: 16, open: 18, left: 16, status: 429},
		{name: "a trusted proxy is many clients", trusted: []string{"127.0.0.1"}, open: 78, left: 78, status: 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			node := &flaky{}
			s := httpStack(t)
			s.Balancers = 1
			s.Entry.Limits = stack.Limits{Connections: limit, PerAddress: c.perAddress}
			s.Entry.TrustedProxies = c.trusted
			tcp := net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
			s.TCP = []stack.TCPEntry{{Listen: tcp, Mode: "tcp", App: "other"}}
			port := node.serve(t)
			cl := newCluster(t, s, map[string]int{"web-1": port, "web-2": port, "other-1": port, "other-2": port})
			cl.start("balancer-1")
			eventually(t, 5*time.Second, func() error { return cl.get("/up").is(200) })

			count := c.open + 20
			if c.trusted != nil {
				count = c.open
			}
			held := half(t, "127.0.0.1", s.Entry.Listen, count)
			if !near(len(held), c.open) {
				t.Errorf("one address has %d connections, want %d", len(held), c.open)
			}
			if got := statusFrom(t, "127.0.0.2", s.Entry.Listen); got != 200 {
				t.Errorf("another address: status %d", got)
			}
			for _, conn := range held[c.left:] {
				conn.Close()
			}
			eventually(t, 5*time.Second, func() error {
				if got := statusFrom(t, "127.0.0.1", s.Entry.Listen); got != c.status {
					return fmt.Errorf("its next request: status %d, want %d", got, c.status)
				}
				return nil
			})

			// Without HTTP there is no status: a connection beyond the limit is closed.
			atTCP := min(c.open, 60)
			if c.perAddress > 0 {
				atTCP = c.perAddress
			}
			if c.trusted != nil {
				return
			}
			if held := half(t, "127.0.0.1", tcp, atTCP+10); !near(len(held), atTCP) {
				t.Errorf("at the tcp entry one address has %d connections, want %d", len(held), atTCP)
			}
			if got := statusFrom(t, "127.0.0.2", tcp); got != 200 {
				t.Errorf("another address at the tcp entry: status %d", got)
			}
		})
	}
}

func TestABalancerTakesAsManyConnectionsAsItHasFilesFor(t *testing.T) {
	for _, c := range []struct {
		files, wanted, tcp, want int
	}{
		{0, 8000, 0, 8000},
		{20_000, 8000, 0, 8000},
		{16_000, 8000, 0, 6900},
		{16_000, 8000, 1, 3450},
		{4096, 8000, 0, 3000}, // HAProxy reports what it is missing
		{4096, 500, 0, 500},
	} {
		s := base()
		s.Entry.Limits.Connections = c.wanted
		for i := range c.tcp {
			s.TCP = append(s.TCP, stack.TCPEntry{Listen: fmt.Sprintf("127.0.0.1:%d", 9000+i), Mode: "tcp", App: "web"})
		}
		m := machine(s, "/state", mustSecrets(t, s))
		m.Files = c.files
		for _, f := range mustMake(t, s, m).Hosts[0].Files {
			if strings.HasSuffix(f.Path, "balancer-1/haproxy.cfg") && !strings.Contains(f.Content, fmt.Sprintf("frontend entry\n    bind %s\n    log global\n    maxconn %d\n", s.Entry.Listen, c.want)) {
				t.Errorf("%d files, %d connections, %d tcp entries: the entry has not maxconn %d", c.files, c.wanted, c.tcp, c.want)
			}
		}
	}
}
