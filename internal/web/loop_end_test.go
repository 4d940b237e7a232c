//go:build linux && (amd64 || arm64)

package web

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/httpfast"
)

func TestWhatIsUnderWayOnALoopFinishesAtTheEnd(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	store := script(client)
	store.hold = make(chan struct{})
	server, _ := counted(t, Config{}, store)
	addr, stop := listen(t, server)
	idle, busy := dial(t, addr), dial(t, addr)
	go func() { <-store.held; store.hold <- struct{}{} }()
	idle.ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	io.WriteString(busy, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	select {
	case <-store.held:
	case <-time.After(20 * time.Second):
		got, err := busy.answer()
		t.Fatalf("the request did not reach the store: %q, %v", got, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	if _, err := idle.r.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection: %v, want its end", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("the server ended with a request under way: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(store.hold)
	got, err := busy.answer()
	if err != nil || !strings.HasSuffix(got, "\r\nConnection: close\r\n\r\nv") {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := busy.r.ReadByte(); err != io.EOF {
		t.Errorf("after the answer: %v, want the end", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the server does not end")
	}
}

// A balancer that has connected and is about to send gets its response, from the loop or from the
// HTTP server.
func TestWhoHasJustComeIsServedAtTheEnd(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, _ := counted(t, Config{}, client)
	addr, stop := listen(t, server)
	var fresh []*caller
	for range 4 {
		fresh = append(fresh, dial(t, addr))
	}
	idle := dial(t, addr)
	idle.ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	redistest.Eventually(t, 5*time.Second, "all are there", func() bool { return server.conns.connections() == 5 })
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	if _, err := idle.r.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection: %v, want its end", err)
	}
	time.Sleep(150 * time.Millisecond) // the HTTP server has ended by then
	for i, target := range []string{"/get?key=k", "/v1/keys/k", "/get?key="} {
		got := fresh[i].ask(t, "GET "+target+" HTTP/1.1\r\n"+plainHead+"\r\n")
		if !strings.Contains(got, "\r\nConnection: close\r\n") || i < 2 != strings.HasSuffix(got, "\r\n\r\nv") {
			t.Errorf("%s: %q", target, got)
		}
		if _, err := fresh[i].r.ReadByte(); err != io.EOF {
			t.Errorf("%s, after the answer: %v, want the end", target, err)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("the server ended, and one might yet send: %v", err)
	default:
	}
	for _, l := range loopsOf(server) {
		l.sweep(time.Now().Add(firstTimeout + 2*time.Second).Unix())
	}
	if _, err := fresh[3].r.ReadByte(); err != io.EOF {
		t.Errorf("who sends nothing: %v, want the end", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServeEndsThatIsStoppedBeforeItHasBegun(t *testing.T) {
	client, _ := single(t)
	for _, store := range []Store{client, slowStore{client}} {
		for range 50 {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- New(Config{}, store).Serve(ctx, ln) }()
			runtime.Gosched()
			cancel()
			select {
			case err := <-served:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("Serve does not end")
			}
			if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("the listener is open: %v", err)
			}
		}
	}
}

func TestABrokenLoopEndsTheServer(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, _ := counted(t, Config{}, client)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(t.Context(), ln) }()
	c := dial(t, ln.Addr().String())
	c.ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	loopsOf(server)[0].poll.Close() // as only the end does otherwise
	select {
	case err := <-served:
		if errors.Unwrap(err) == nil {
			t.Errorf("%v, want its reason", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the server goes on without a loop")
	}
}

func TestIdleConnectionsOfALoopEnd(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	server, _ := counted(t, Config{}, client)
	addr, _ := listen(t, server)
	silent, idle := dial(t, addr), dial(t, addr)
	idle.ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	redistest.Eventually(t, 5*time.Second, "both are there", func() bool { return server.conns.connections() == 2 })
	sweep := func(later time.Duration) {
		for _, l := range loopsOf(server) {
			l.sweep(server.conns.now() + int64(later/time.Second))
		}
	}
	sweep(httpfast.ReadTimeout + 2*time.Second)
	if _, err := silent.r.ReadByte(); err != io.EOF {
		t.Errorf("who sent nothing: %v, want the end", err)
	}
	sweep(idleTimeout - 2*time.Second)
	idle.ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	sweep(idleTimeout + 2*time.Second)
	if _, err := idle.r.ReadByte(); err != io.EOF {
		t.Errorf("who idled: %v, want the end", err)
	}
}
