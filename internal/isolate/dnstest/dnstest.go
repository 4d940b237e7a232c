// Package dnstest is a name server for tests that can be made to fail. It knows IPv4 addresses
// and answers by UDP.
package dnstest

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
)

// How is the way in which a Server answers.
type How int

const (
	Well         How = iota // with the addresses that were set
	Silent                  // not at all
	Failing                 // SERVFAIL
	KnowsNothing            // NXDOMAIN for every name
)

// Server is a name server. It is safe for concurrent use.
type Server struct {
	conn net.PacketConn

	mu    sync.Mutex
	how   How
	known map[string][]netip.Addr
	every []netip.Addr
}

// Start starts a Server at a free port of this machine. It runs until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Serve(t, conn)
}

// Serve starts a Server on a socket, which is closed when the test ends.
func Serve(t testing.TB, conn net.PacketConn) *Server {
	s := &Server{conn: conn, known: map[string][]netip.Addr{}}
	ended := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		question := make([]byte, 8192)
		for {
			size, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			if answer := s.answer(question[:size]); answer != nil {
				_, _ = conn.WriteTo(answer, from) // after an error the client asks again
			}
		}
	}()
	return s
}

// Address returns the address of the server.
func (s *Server) Address() string { return s.conn.LocalAddr().String() }

// Be sets how the server answers from now on.
func (s *Server) Be(how How) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.how = how
}

// Set sets the addresses of a name. Without addresses the name does not exist. The empty name
// stands for all names that were not set.
func (s *Server) Set(name string, addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	if name == "" {
		s.every = all
		return
	}
	s.known[strings.ToLower(name)] = all
}

// Resolver returns a resolver that asks this server.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.Address())
	}}
}

// answer returns the answer to a message (RFC 1035, 4.1) with one question, or nil if there is
// to be none.
func (s *Server) answer(question []byte) []byte {
	const header, servfail, nxdomain, typeA = 12, 2, 3, 1
	var labels []string
	end := header
	for end < len(question) && question[end] != 0 {
		next := end + int(question[end]) + 1
		if next > len(question) {
			return nil
		}
		labels = append(labels, string(question[end+1:next]))
		end = next
	}
	end += 5 // the last label, the type and the class
	if end > len(question) {
		return nil
	}

	s.mu.Lock()
	how, addresses := s.how, slices.Clone(s.every)
	if known, is := s.known[strings.ToLower(strings.Join(labels, "."))]; is {
		addresses = slices.Clone(known)
	}
	s.mu.Unlock()
	answer := append([]byte{}, question[:end]...)
	copy(answer[2:], []byte{0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}) // an authoritative answer to one question
	switch {
	case how == Silent:
		return nil
	case how == Failing:
		answer[3] = servfail
	case how == KnowsNothing || len(addresses) == 0:
		answer[3] = nxdomain
	case binary.BigEndian.Uint16(question[end-4:]) == typeA:
		answer[7] = byte(len(addresses))
		for _, a := range addresses {
			ip := a.As4()
			answer = append(answer, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 5, 0, 4)
			answer = append(answer, ip[:]...)
		}
	}
	return answer
}
