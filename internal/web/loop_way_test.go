//go:build linux && (amd64 || arm64)

package web

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/httpfast"
)

// How a connection moves between a loop and the HTTP server.

// A reader whose buffer is nearly full of a header reads a single byte, as one does that waits for
// the next request.
func TestNothingInsideAHeaderIsARequest(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, _ := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	c := dial(t, addr)
	for range 10 { // to the HTTP server, until the connection may come back
		c.ask(t, "GET /v1/keys/k HTTP/1.1\r\n"+plainHead+"\r\n")
	}
	outer := "GET /v1/keys/k HTTP/1.1\r\n" + plainHead + "X-Long: "
	outer += strings.Repeat("x", httpfast.MaxHeader-1-len(outer)-2) + "\r\n"
	if _, err := io.WriteString(c, outer); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // so that what follows is read by itself
	_, _ = io.WriteString(c, "GET /set?key=smuggled&value=1 HTTP/1.1\r\n"+plainHead+"\r\n")
	if got, err := c.answer(); strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("what stood inside a request was answered by itself: %q, %v", got, err)
	}
	if got := master.Do("GET", "smuggled"); got == "1" {
		t.Error("what stood inside a request was carried out by itself")
	}
	// The node is still there.
	if got := dial(t, addr).ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("the next request: %q", got)
	}
}

// comingBack returns a connection of the HTTP server that waits for its next request, and its
// client's end.
func comingBack(t *testing.T, server *Server) (here net.Conn, there net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if there, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	if here, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	here = newConn(here, nil, server.conns, 0)
	between(here, fasthttp.StateIdle)
	return here, there
}

// The HTTP server does not count a connection any more when it closes it.
func TestAConnectionThatComesBackIsCountedAllTheTime(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, _ := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	dial(t, addr).ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n") // the server has begun
	here, there := comingBack(t, server)
	_, _ = io.WriteString(there, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	before := server.conns.open.Load()
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if server.conns.open.Load() == before {
		t.Error("a request was read, and the end would not wait for it")
	}
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	_ = there.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := there.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 200") {
		t.Errorf("%q, %v", b[:n], err)
	}
	if n := server.conns.open.Load(); n != before+1 { // the connection is on its loop
		t.Errorf("%d connections are counted, and %d were before it came", n, before)
	}
}

// At its end the HTTP server closes idle connections, and the goroutine that reads one closes it
// once more.
func TestAConnectionIsGivenBackOrClosedOnce(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, _ := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	dial(t, addr).ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")

	here, there := comingBack(t, server)
	_, _ = io.WriteString(there, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := errors.Join(here.Close(), here.Close()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	_ = there.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := there.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 200") {
		t.Errorf("given back and closed: %q, %v", b[:n], err)
	}

	here, _ = comingBack(t, server)
	before := server.conns.open.Load()
	if err := errors.Join(here.Close(), here.Close()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := here.Read(make([]byte, 1)); err == nil {
		t.Error("a closed connection is read")
	}
	if server.conns.open.Load() != before {
		t.Error("a closed connection is counted")
	}
}

// A client whose long response does not say that the connection closes may have sent its next
// request meanwhile.
func TestWhatCameDuringALongAnswerIsServedAtTheEnd(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	master.Do("SET", "long", strings.Repeat("y", longAnswer+1))
	server, _ := counted(t, Config{}, client)
	h := &held{server.conns.responder, make(chan struct{}, 16), make(chan struct{})}
	server.conns.responder = h
	addr, stop := listen(t, server)
	c := dial(t, addr)
	_, _ = io.WriteString(c, "GET /get?key=long HTTP/1.1\r\n"+plainHead+"\r\n")
	<-h.making
	_, _ = io.WriteString(c, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for draining := false; !draining; time.Sleep(time.Millisecond) {
		l := loopsOf(server)[0]
		l.mu.Lock()
		draining = l.draining
		l.mu.Unlock()
	}
	close(h.may)
	for _, what := range []string{"the long answer", "the next one"} {
		if got, err := c.answer(); err != nil || !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%s: %.60q, %v", what, got, err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
