package plan

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/stack"
)

// nameserver tells every name's address, 127.0.0.1, as long as it is not silent.
type nameserver struct {
	silent, knowsNothing atomic.Bool
}

// serve answers at a port of its own.
func (n *nameserver) serve(t *testing.T) (address string) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		question := make([]byte, 8192)
		for {
			size, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			if answer := n.answer(question[:size]); answer != nil && !n.silent.Load() {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// answer is that of a message (RFC 1035, 4.1) with one question; nil: it is none.
func (n *nameserver) answer(question []byte) []byte {
	const header = 12
	end := header
	for end < len(question) && question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5 // the last label, the type and the class
	if end > len(question) {
		return nil
	}
	answer := append([]byte{}, question[:end]...)
	copy(answer[2:], []byte{0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}) // an authority's, one question
	switch {
	case n.knowsNothing.Load():
		answer[3] = 3 // NXDOMAIN
	case binary.BigEndian.Uint16(question[end-4:]) == 1: // A
		answer[7] = 1
		answer = append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1)
	}
	return answer
}

// HAProxy by itself takes a server out of service whose name was not resolved for 30 s,
// whatever its checks say.
func TestServersThatWereFoundStayWhereDNSIsAway(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than 30 s")
	}
	web, dns := &flaky{}, &nameserver{}
	s := httpStack(t)
	app := s.Apps["web"]
	app.Nodes, app.Ports = 0, nil
	app.Found = &stack.Found{At: "web.test:" + strconv.Itoa(web.serve(t)), Nodes: 1, Balancers: 1}
	s.Apps["web"] = app
	other := &flaky{}
	port := other.serve(t)
	c := newCluster(t, s, map[string]int{"other-1": port, "other-2": port})

	file := filepath.Join(c.dir, "nodes", "balancer-1", "haproxy.cfg")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Replace(string(text), "parse-resolv-conf", "nameserver test "+dns.serve(t), 1)
	if own == string(text) {
		t.Fatal("the nameserver of the host is not where it was")
	}
	if err := os.WriteFile(file, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })

	// One after the other, each for longer than HAProxy would wait by itself.
	dns.silent.Store(true)
	time.Sleep(34 * time.Second)
	if err := c.get("/up").is(200); err != nil {
		t.Errorf("DNS was silent: %v", err)
	}
	dns.knowsNothing.Store(true)
	dns.silent.Store(false)
	time.Sleep(34 * time.Second)
	if err := c.get("/up").is(200); err != nil {
		t.Errorf("DNS knew nothing of the name: %v", err)
	}
}
