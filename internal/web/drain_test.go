package web

import (
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// A balancer that has connected and is about to send gets its response at the end of the server, from a
// loop or from the HTTP server. The response says that the connection ends.
func TestWhoHasJustComeIsServedAtTheEnd(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	addr, server, stop := serve(t, client)
	targets := []string{"/get?key=k", "/v1/keys/k", "/get?key="}
	var fresh []*caller
	for range targets {
		fresh = append(fresh, dial(t, addr))
	}
	redistest.Eventually(t, 5*time.Second, "all are there", func() bool { return server.conns.Connections() == len(targets) })
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	redistest.Eventually(t, 5*time.Second, "the server is draining", server.draining.Load)

	for i, target := range targets {
		got := fresh[i].ask(t, "GET "+target+" HTTP/1.1\r\n"+plainHead+"\r\n")
		if !strings.Contains(got, "\r\nConnection: close\r\n") || (i < 2) != strings.HasSuffix(got, "\r\n\r\nv") {
			t.Errorf("%s: %q", target, got)
		}
		if _, err := fresh[i].r.ReadByte(); err != io.EOF {
			t.Errorf("%s, after the answer: %v, want the end", target, err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
