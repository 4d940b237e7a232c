package supervise

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// haproxysQuestion is HAProxy's own check with this path and host, as HAProxy 2.6 sends it.
const haproxysQuestion = "GET //up?full=1 HTTP/1.1\r\nhost: shop.example:81\r\nconnection: close\r\n\r\n"

func TestTheSupervisorAsksWordForWordWhatHAProxyAsks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked, answers := make(chan string, 9), make(chan string, 9)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			head := make([]byte, len(haproxysQuestion))
			n, _ := io.ReadFull(conn, head)
			asked <- string(head[:n])
			io.WriteString(conn, <-answers)
			conn.Close()
		}
	}()
	s := &Supervisor{hosts: hostsAt(t.TempDir())}
	p := plan.Process{Address: l.Addr().String(), Probe: plan.Probe{Kind: plan.ProbeHTTP, Ready: "//up?full=1", Host: "shop.example:81"}}
	for answer, says := range map[string]string{
		"HTTP/1.1 204 No Content\r\n\r\n":                           "",
		"HTTP/1.0 302 Found\r\nLocation: /login\r\n\r\n":            "",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n":                  "answers 101",
		"HTTP/1.1 503 Away\r\nContent-Length: 7\r\n\r\nno disk":     "answers 503 Away: no disk",
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nhost": "answers 400 Bad Request to a request for the host shop.example:81 (health.host): host",
		"HTTP/1.1 421 Misdirected\r\nContent-Length: 4\r\n\r\nhost": "(health.host)",
		"SSH-2.0-OpenSSH\r\n":                                       "no answer in HTTP",
		"":                                                          "no answer in HTTP",
	} {
		answers <- answer
		err := s.askHealth(t.Context(), p, p.Probe.Ready)
		if got := <-asked; got != haproxysQuestion {
			t.Fatalf("it asks\n%q\nand HAProxy\n%q", got, haproxysQuestion)
		}
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %v, want %q", answer, err, says)
		}
	}
}
