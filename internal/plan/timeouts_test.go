package plan

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
)

// lasting serves a program with lasting answers: it echoes on an upgraded connection, sends events
// with pauses between them, and counts the bytes that it gets.
func lasting(t *testing.T) int {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			conn, buffered, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
			io.Copy(conn, buffered)
			return
		}
		if apart, err := time.ParseDuration(r.URL.Query().Get("apart")); err == nil {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				fmt.Fprintf(w, "data: %d\n\n", i)
				http.NewResponseController(w).Flush()
				time.Sleep(apart)
			}
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, n)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).Port
}

// The time-outs of lastingCluster. A lasting connection may be silent for much longer than a
// request.
const (
	silentRequest = 700 * time.Millisecond
	silentTunnel  = 4 * time.Second
	ownTunnel     = 1500 * time.Millisecond
)

// lastingCluster returns a balancer in front of two programs, other and short. short has time-outs
// of its own. Both have a layer 4 entry.
func lastingCluster(t *testing.T) (c *cluster, tcp, shortTCP string) {
	s := httpStack(t)
	app := s.Apps["other"]
	delete(s.Apps, "web")
	app.Health.Interval, app.Health.Path = 100*time.Millisecond, "/"
	s.Apps["other"] = app
	app.Timeouts = stack.AppTimeouts{Server: 2 * time.Second, Tunnel: ownTunnel}
	s.Apps["short"] = app
	s.Routes = []stack.Route{{PathPrefix: []string{"/short"}, App: "short"}, {App: "other"}}
	s.Timeouts.Client, s.Timeouts.Server, s.Timeouts.HTTPRequest = silentRequest, silentRequest, silentRequest
	s.Timeouts.Tunnel = silentTunnel
	tcp = net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	shortTCP = net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	s.TCP = []stack.TCPEntry{{Listen: tcp, Mode: "tcp", App: "other"}, {Listen: shortTCP, Mode: "tcp", App: "short"}}
	port := lasting(t)
	c = newCluster(t, s, map[string]int{"other-1": port, "other-2": port, "short-1": port, "short-2": port})
	c.start("balancer-1")
	for _, path := range []string{"/", "/short"} {
		eventually(t, 5*time.Second, func() error { return c.get(path).is(200) })
	}
	return c, tcp, shortTCP
}

// upgraded opens a connection that looks like a WebSocket to a balancer.
func upgraded(t *testing.T, address, path string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path)
	in := bufio.NewReader(conn)
	if r, err := http.ReadResponse(in, nil); err != nil || r.StatusCode != 101 {
		t.Fatalf("%s%s: %v %v", address, path, r, err)
	}
	return conn, in
}

// echoes fails the test if the other side does not send back what it is sent.
func echoes(t *testing.T, what string, conn net.Conn, in *bufio.Reader) {
	t.Helper()
	fmt.Fprint(conn, "ping\n")
	if said, err := in.ReadString('\n'); said != "ping\n" {
		t.Errorf("%s: it sent back %q (%v)", what, said, err)
	}
}

func TestWhatLastsMayBeSilent(t *testing.T) {
	t.Parallel()
	c, tcp, shortTCP := lastingCluster(t)
	entry := c.process("balancer-1").Address
	for _, try := range []struct {
		name, address, path string
		limit               time.Duration
	}{
		{"a WebSocket", entry, "/", silentTunnel},
		{"a WebSocket of an application with its own time-out", entry, "/short", ownTunnel},
		{"a tcp entry", tcp, "/", silentTunnel},
		{"a tcp entry of an application with its own time-out", shortTCP, "/", ownTunnel},
	} {
		t.Run(try.name, func(t *testing.T) {
			t.Parallel()
			conn, in := upgraded(t, try.address, try.path)
			echoes(t, "at once", conn, in)
			time.Sleep(try.limit - 400*time.Millisecond) // longer than a request may be silent
			echoes(t, "after some silence", conn, in)
			begun := time.Now()
			_, err := in.ReadByte()
			if silent := time.Since(begun); errors.Is(err, os.ErrDeadlineExceeded) || silent < try.limit-200*time.Millisecond || silent > try.limit+2*time.Second {
				t.Errorf("a silent one was closed after %v (%v), want %v", silent, err, try.limit)
			}
		})
	}
}

func TestAStreamOfEventsMayBeSilent(t *testing.T) {
	t.Parallel()
	c, _, _ := lastingCluster(t)
	for _, try := range []struct {
		path, accept string
		apart        time.Duration
		events       int
	}{
		{"/", "text/event-stream", 3 * silentRequest, 3},
		{"/", "Text/Event-Stream", 3 * silentRequest, 3},
		{"/", "*/*", 3 * silentRequest, 1},
		{"/short", "*/*", 2 * silentRequest, 3}, // within its own time-out of 2 s
		{"/short", "*/*", 4 * silentRequest, 1},
		{"/short", "text/event-stream", 4 * silentRequest, 1}, // its own time-out of 1.5 s
	} {
		t.Run(fmt.Sprintf("%s %s %v", try.path, try.accept, try.apart), func(t *testing.T) {
			t.Parallel()
			conn := c.send(t, fmt.Sprintf("GET %s?apart=%v HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: %s\r\n\r\n", try.path, try.apart, try.accept))
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			all, _ := io.ReadAll(conn)
			whole := bytes.HasSuffix(all, []byte("0\r\n\r\n"))
			if n := bytes.Count(all, []byte("data:")); n != try.events || whole != (n == 3) {
				t.Errorf("%d events came, want %d: %q", n, try.events, all)
			}
		})
	}
}

// slowly sends a body of count bytes in parts, with pauses between them.
type slowly struct {
	left, part int
	pause      time.Duration
}

func (s *slowly) Read(to []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	n := min(s.part, s.left, len(to))
	s.left -= n
	return n, nil
}

func TestASteadyUploadPasses(t *testing.T) {
	t.Parallel()
	c, _, _ := lastingCluster(t)
	for name, body := range map[string]*slowly{
		"200 MB":                            {left: 200 << 20, part: 1 << 20},
		"for longer than all the time-outs": {left: 200_000, part: 20_000, pause: silentRequest / 2},
	} {
		for _, length := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, its length said: %v", name, length), func(t *testing.T) {
				copied := *body
				r, err := http.NewRequest("PUT", c.plan.EntryURL+"/", &copied)
				if err != nil {
					t.Fatal(err)
				}
				if length {
					r.ContentLength = int64(body.left)
				}
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				said, _ := io.ReadAll(answer.Body)
				if answer.StatusCode != 200 || strings.TrimSpace(string(said)) != strconv.Itoa(body.left) {
					t.Errorf("%s: %s", answer.Status, said)
				}
			})
		}
	}
}

// slowBody sends the head of a request, and then parts of its body with pauses between them,
// and returns the answer and how long it took.
func (c *cluster) slowBody(t *testing.T, head string, pause time.Duration, parts ...string) (*http.Response, string, time.Duration) {
	t.Helper()
	conn := c.send(t, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+head+"\r\n\r\n")
	defer conn.Close()
	begun := time.Now()
	conn.SetDeadline(begun.Add(20 * time.Second))
	go func() {
		for _, part := range parts {
			if _, err := io.WriteString(conn, part); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}()
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != http.StatusContinue {
			body, _ := io.ReadAll(r.Body)
			return r, string(body), time.Since(begun)
		}
	}
}

func TestABodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	c, _, _ := lastingCluster(t)
	bytes100 := slices.Repeat([]string{"x"}, 100)
	for _, try := range []struct {
		name, head string
		parts      []string
	}{
		{"nothing comes", "Content-Length: 100", nil},
		{"byte by byte", "Content-Length: 100", bytes100},
		{"chunk by chunk", "Transfer-Encoding: chunked", slices.Repeat([]string{"1\r\nx\r\n"}, 100)},
		{"a part of a large one", "Content-Length: 300000", []string{strings.Repeat("x", 10_000)}},
		{"after it was asked for", "Content-Length: 100\r\nExpect: 100-continue", nil},
	} {
		t.Run(try.name, func(t *testing.T) {
			t.Parallel()
			r, body, took := c.slowBody(t, try.head, silentRequest/7, try.parts...)
			if r.StatusCode != 408 || !strings.Contains(body, "took too long to arrive") || took > silentRequest+2*time.Second {
				t.Errorf("%s after %v: %s", r.Status, took, body)
			}
		})
	}
	// Here more than the buffer takes is on its way to the program. The request is given up as
	// well.
	r, body, took := c.slowBody(t, "Content-Length: 300000", silentRequest/2, strings.Repeat("x", 40_000), strings.Repeat("x", 40_000), strings.Repeat("x", 40_000))
	if r.StatusCode != 408 && r.StatusCode != 504 || took < silentRequest || took > 3*silentRequest+3*time.Second {
		t.Errorf("an upload that stalls: %s after %v: %s", r.Status, took, body)
	}
	// A body that comes in time passes, even in parts.
	r, body, took = c.slowBody(t, "Content-Length: 4", silentRequest/7, "a", "b", "c", "d")
	if r.StatusCode != 200 || body != "4" {
		t.Errorf("a body in four parts: %s after %v: %s", r.Status, took, body)
	}
}

// A client of Redis keeps its connection, and may say nothing for hours.
func TestAConnectionToRedisIsNoTunnel(t *testing.T) {
	t.Parallel()
	fake, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fake.Close() })
	go func() { // looks like a master to a balancer
		for {
			conn, err := fake.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					switch word, _, _ := strings.Cut(lines.Text(), " "); word {
					case "INFO":
						fmt.Fprint(conn, "$50\r\nrole:master\r\nconnected_slaves:1\r\n\r\n")
					case "QUIT":
						return
					default:
						fmt.Fprint(conn, "+OK\r\n")
					}
				}
			}()
		}
	}()
	s := base()
	s.Entry.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t)))
	s.Timeouts.Tunnel, s.Timeouts.Client, s.Timeouts.Server = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	c := newCluster(t, s, map[string]int{"redis-1": fake.Addr().(*net.TCPAddr).Port})
	c.start("balancer-1")
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ports()[PortRedisMaster]))
	eventually(t, 10*time.Second, func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		in := bufio.NewReader(conn)
		fmt.Fprint(conn, "PING\r\n")
		if said, err := in.ReadString('\n'); err != nil {
			return fmt.Errorf("%q: %w", said, err)
		}
		time.Sleep(time.Second)
		fmt.Fprint(conn, "PING\r\n")
		// A check that is late on a busy machine ends the connection, too: then once more.
		if said, err := in.ReadString('\n'); err != nil {
			return fmt.Errorf("after a second of silence: %q: %w", said, err)
		}
		return nil
	})
}
