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
