//go:build linux && (amd64 || arm64)

package web

import (
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/internal/web/httpfast"
)

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
