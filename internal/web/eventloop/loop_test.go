//go:build linux && (amd64 || arm64)

package eventloop

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/httpfast"
)

// comingBack returns a connection of the HTTP server that waits for its next request, and its
// client's end.
func comingBack(t *testing.T, e *Manager) (here net.Conn, there net.Conn) {
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
	here = newConn(here, nil, e, 0)
	between(here, fasthttp.StateIdle)
	return here, there
}

// The HTTP server does not count a connection any more when it closes it.
func TestAConnectionThatComesBackIsCountedAllTheTime(t *testing.T) {
	e := manage(&getter{}, 16)
	addr, _ := listen(t, e)
	dial(t, addr).ask(t, getV) // the server has begun
	here, there := comingBack(t, e)
	_, _ = io.WriteString(there, getV)
	before := e.open.Load()
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if e.open.Load() == before {
		t.Error("a request was read, and the end would not wait for it")
	}
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	_ = there.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := there.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), goodAnswer) {
		t.Errorf("%q, %v", b[:n], err)
	}
	if n := e.open.Load(); n != before+1 { // the connection is on its loop
		t.Errorf("%d connections are counted, and %d were before it came", n, before)
	}
}

// At its end the HTTP server closes idle connections, and the goroutine that reads one closes it
// once more.
func TestAConnectionIsGivenBackOrClosedOnce(t *testing.T) {
	e := manage(&getter{}, 16)
	addr, _ := listen(t, e)
	dial(t, addr).ask(t, getV)

	here, there := comingBack(t, e)
	_, _ = io.WriteString(there, getV)
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := errors.Join(here.Close(), here.Close()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	_ = there.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := there.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), goodAnswer) {
		t.Errorf("given back and closed: %q, %v", b[:n], err)
	}

	here, _ = comingBack(t, e)
	before := e.open.Load()
	if err := errors.Join(here.Close(), here.Close()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := here.Read(make([]byte, 1)); err == nil {
		t.Error("a closed connection is read")
	}
	if e.open.Load() != before {
		t.Error("a closed connection is counted")
	}
}

// A client whose long response does not say that the connection closes may have sent its next
// request meanwhile.
func TestWhatCameDuringALongAnswerIsServedAtTheEnd(t *testing.T) {
	h := &getter{making: make(chan struct{}, 16), may: make(chan struct{})}
	e := manage(h, 16)
	addr, stop := listen(t, e)
	c := dial(t, addr)
	_, _ = io.WriteString(c, getLong)
	<-h.making
	_, _ = io.WriteString(c, getV)
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for draining := false; !draining; time.Sleep(time.Millisecond) {
		l := e.running()[0]
		l.mu.Lock()
		draining = l.draining
		l.mu.Unlock()
	}
	close(h.may)
	for _, what := range []string{"the long answer", "the next one"} {
		if got, err := c.answer(); err != nil || !strings.HasPrefix(got, goodAnswer) {
			t.Errorf("%s: %.60q, %v", what, got, err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A balancer that has connected and is about to send gets its response, from the loop or from the
// HTTP server.
func TestWhoHasJustComeIsServedAtTheEnd(t *testing.T) {
	e := manage(&getter{}, 16)
	addr, stop := listen(t, e)
	var fresh []*caller
	for range 3 {
		fresh = append(fresh, dial(t, addr))
	}
	idle := dial(t, addr)
	idle.ask(t, getV)
	redistest.Eventually(t, 5*time.Second, "all are there", func() bool { return e.Connections() == 4 })
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	if _, err := idle.r.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection: %v, want its end", err)
	}
	time.Sleep(150 * time.Millisecond) // the HTTP server has ended by then
	for i, raw := range []string{getV, notOnLoop} {
		got := fresh[i].ask(t, raw)
		if i == 0 && !strings.Contains(got, closingLine) || !strings.HasPrefix(got, goodAnswer) {
			t.Errorf("%q: %q", raw, got)
		}
		if _, err := fresh[i].r.ReadByte(); err != io.EOF {
			t.Errorf("%q, after the answer: %v, want the end", raw, err)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("the server ended, and one might yet send: %v", err)
	default:
	}
	for _, l := range e.running() {
		l.sweep(time.Now().Add(firstTimeout + 2*time.Second).Unix())
	}
	if _, err := fresh[2].r.ReadByte(); err != io.EOF {
		t.Errorf("who sends nothing: %v, want the end", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestABrokenLoopEndsTheServer(t *testing.T) {
	e := manage(&getter{}, 16)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(ln) }()
	dial(t, ln.Addr().String()).ask(t, getV)
	e.running()[0].poll.Close() // as only the end does otherwise
	select {
	case err := <-served:
		if err == nil {
			t.Error("there is no reason")
		}
	case <-time.After(20 * time.Second):
		t.Error("the server goes on without a loop")
	}
	_ = e.Shutdown(t.Context())
}

func TestIdleConnectionsOfALoopEnd(t *testing.T) {
	e := manage(&getter{}, 16)
	addr, _ := listen(t, e)
	silent, idle := dial(t, addr), dial(t, addr)
	idle.ask(t, getV)
	redistest.Eventually(t, 5*time.Second, "both are there", func() bool { return e.Connections() == 2 })
	sweep := func(later time.Duration) {
		for _, l := range e.running() {
			l.sweep(e.now() + int64(later/time.Second))
		}
	}
	sweep(httpfast.ReadTimeout + 2*time.Second)
	if _, err := silent.r.ReadByte(); err != io.EOF {
		t.Errorf("who sent nothing: %v, want the end", err)
	}
	sweep(idleTimeout - 2*time.Second)
	idle.ask(t, getV)
	sweep(idleTimeout + 2*time.Second)
	if _, err := idle.r.ReadByte(); err != io.EOF {
		t.Errorf("who idled: %v, want the end", err)
	}
}

// A part of a request takes memory, so there are fewer of them than connections.
func TestPartsOfRequestsAreFewerThanConnections(t *testing.T) {
	e := manage(&getter{}, 1000)
	e.table.maxParts = 16
	addr, _ := listen(t, e)
	for range 100 {
		c := dial(t, addr)
		if _, err := io.WriteString(c, "GET /get?key=k HTTP/1.1\r\nHost: a\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	// Each further one makes the node look again.
	redistest.Eventually(t, 5*time.Second, "few are left", func() bool {
		c := dial(t, addr)
		_, err := io.WriteString(c, "GET /get?key=k HTTP/1.1\r\nHost: a\r\n")
		return err == nil && e.table.parts.Load() <= 17
	})
	if got := dial(t, addr).ask(t, "POST /set/k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nv"); !strings.HasPrefix(got, goodAnswer) {
		t.Error(got)
	}
	redistest.Eventually(t, 15*time.Second, "none is counted that is gone", func() bool {
		return e.table.parts.Load() == int64(len(e.table.waiting(arrives)))
	})
}

// A client that is cut off for room gets an answer, if it has sent a part of a request.
func TestAHalfSentRequestIsAnsweredWhenItIsCutOff(t *testing.T) {
	e := manage(&getter{}, 4)
	late := make(chan error, 1)
	e.http.ErrorHandler = func(ctx *fasthttp.RequestCtx, err error) {
		late <- err
		ctx.SetStatusCode(fasthttp.StatusRequestTimeout)
	}
	addr, _ := listen(t, e)
	first := dial(t, addr)
	if _, err := io.WriteString(first, "POST /set/k HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 5*time.Second, "it is seen", func() bool { return len(e.table.waiting(arrives)) == 1 })
	e.makeRoom()
	got, err := first.answer()
	if err != nil || !strings.HasPrefix(got, "HTTP/1.1 408 ") {
		t.Errorf("%q, %v", got, err)
	}
	var network net.Error
	if err := <-late; !errors.As(err, &network) || !network.Timeout() {
		t.Errorf("%v, want a timeout: web.Server words it as one", err)
	}
	if _, err := first.r.ReadByte(); err != io.EOF {
		t.Errorf("the connection: %v", err)
	}
}
