package supervise

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// forged is text that an application may reply or write to imitate Holdfast's own output.
const forged = "\x1b[2K\x1b[1Aweb-2  up \u202e\u009b31m\r\nredis-9  master  up"

func TestWhatAnApplicationAnswersIsQuoted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			http.ReadRequest(bufio.NewReader(conn))
			fmt.Fprintf(conn, "HTTP/1.1 503 \x1b[31mevil\r\nConnection: close\r\n\r\n%s%s", forged, strings.Repeat("x", 1000))
			conn.Close()
		}
	}()

	s := &Supervisor{hosts: hostsAt(t.TempDir())}
	r := s.probe(t.Context(), plan.Process{Address: l.Addr().String(), Probe: plan.Probe{Kind: plan.ProbeHTTP, Ready: "/health"}})
	for _, c := range r.detail {
		if !unicode.IsPrint(c) {
			t.Errorf("the detail has %q: %q", c, r.detail)
			break
		}
	}
	if !strings.Contains(r.detail, "redis-9  master  up") || len(r.detail) > 4*quote.Most {
		t.Errorf("the detail is %q", r.detail)
	}
}

func TestTheLastWordsOfANodeAreQuoted(t *testing.T) {
	err := &FailedError{Node: "web-1", Detail: "exit status 1", Log: []string{"\x1b[2J\rholdfast: all is well", strings.Repeat("x", 10_000)}}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || strings.ContainsAny(err.Error(), "\x1b\r") || len(err.Error()) > 2*longLine {
		t.Errorf("the error is %.300q", err.Error())
	}
}
