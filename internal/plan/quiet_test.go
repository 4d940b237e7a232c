package plan

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// logOf returns what a node has written to its log so far.
func (c *cluster) logOf(node string) string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "logs", node+".log"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// Every token, key and value in secretRequests contains this word.
const secretWord = "hunter2"

// secretRequests are requests with every outcome that a balancer logs.
var secretRequests = []string{
	"GET /set/hunter2/hunter2?_token=hunter2 HTTP/1.1\r\nHost: hunter2.example\r\nAuthorization: Bearer hunter2\r\nCookie: node=hunter2\r\n\r\n",
	"GET /hunter2 HTTP/1.1\r\nHost: a\r\nReferer: http://a/?hunter2\r\nUser-Agent: hunter2\r\nConnection: close\r\n\r\n",
	"GET /set%2Fhunter2?a=%3Fhunter2 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /get;hunter2/x#hunter2 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://hunter2:hunter2@a/get/hunter2?_token=hunter2 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://a/get/hunter2?_token=hunter2 HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT hunter2:80 HTTP/1.1\r\nHost: hunter2:80\r\n\r\n",
	"GET /subscribe/hunter2?events=9&_token=hunter2 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /other/hunter2?hunter2 HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n[\"SET\",\"hunter2\"",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n[\"SET\",\"hunter2\"",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nhunter2\r\n",
	"GET /get/hunter2\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /get/hunter2 HTTP/9.9\r\nhunter2\r\n\r\n",
	"hunter2\r\n\r\n",
	"GET /get/hunter2?" + strings.Repeat("hunter2", 3000) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nhunter2",
	"\x16\x03\x01hunter2",
}

func TestNothingOfAUserStandsInABalancersLog(t *testing.T) {
	for _, path := range []bool{false, true} {
		t.Run(fmt.Sprintf("log-path: %v", path), func(t *testing.T) {
			t.Parallel()
			node := &flaky{}
			s := httpStack(t)
			s.Entry.Log, s.Entry.LogPath = "all", path
			s.Timeouts.HTTPRequest = 300 * time.Millisecond
			app := s.Apps["web"]
			app.KV.Hold = 0
			s.Apps["web"] = app
			port := node.serve(t)
			c := newCluster(t, s, map[string]int{"web-1": port, "web-2": port, "other-1": redistest.FreePort(t), "other-2": redistest.FreePort(t)})
			c.start("balancer-1")
			eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
			send := func() {
				for _, text := range secretRequests {
					c.send(t, text).Close()
					conn := c.send(t, text)
					conn.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
					conn.Read(make([]byte, 1000)) // the beginning of an answer, or nothing in time
					conn.Close()
				}
			}
			send()
			node.dies.Store(true)
			send()
			node.dies.Store(false)
			eventually(t, 10*time.Second, func() error { return c.get("/other/hunter2?_token=hunter2").is(503) })

			log := c.logOf("balancer-1")
			for _, words := range []string{" 503 ", " 400 ", " web/", " web.direct/", " other/"} {
				if !strings.Contains(log, words) {
					t.Errorf("no line has %q:\n%s", words, log)
				}
			}
			query := strings.Contains(log, "_token") || strings.Contains(log, "?")
			if !path && strings.Contains(log, secretWord) || query {
				t.Errorf("the log has what is the users':\n%s", log)
			}
			if shown := strings.Contains(log, `"GET /other/hunter2 HTTP/1.1"`); shown != path {
				t.Errorf("the log has a path: %v\n%s", shown, log)
			}
		})
	}
}

func TestABalancerSpeaksNoHTTP2(t *testing.T) {
	node := &flaky{}
	c := kvCluster(t, node, node)
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	r, body := c.raw(t, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	if r.StatusCode != http.StatusBadRequest {
		t.Errorf("the preface of HTTP/2 is answered with %s %q", r.Status, body)
	}
	conn := c.send(t, "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	start := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, start); err != nil || string(start) != "HTTP/1.1 200" {
		t.Errorf("the wish for HTTP/2 is answered with %q, %v", start, err)
	}
}

func TestARedisThatCrashesTellsNothingOfItsClients(t *testing.T) {
	c := newCluster(t, base(), nil)
	c.start("redis-1", "--replicaof", "no", "one")
	var client net.Conn
	eventually(t, 10*time.Second, func() (err error) {
		if client, err = net.Dial("tcp", c.process("redis-1").Address); err != nil {
			return err
		}
		fmt.Fprintf(client, "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$3\r\nweb\r\n$%d\r\n%s\r\n", len(c.secrets.Web), c.secrets.Web)
		said := make([]byte, 1)
		if _, err = io.ReadFull(client, said); err == nil && said[0] != '%' {
			err = errors.New("not logged in yet")
		}
		return err
	})
	defer client.Close()
	fmt.Fprintf(client, "CLIENT SETNAME %s\r\n", secretWord)
	eventually(t, 5*time.Second, func() error {
		_, err := do(c.process("redis-1").Address, "web", c.secrets.Web, "PING")
		return err
	})
	crashed := c.running["redis-1"]
	if err := crashed.Process.Signal(syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	crashed.Wait()
	if log := c.logOf("redis-1"); strings.Contains(log, secretWord) || strings.Contains(log, "CLIENT LIST") || !strings.Contains(log, "Ready to accept connections") {
		t.Errorf("%s", log)
	}
}
