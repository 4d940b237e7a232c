package host

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// maxStrangers is how many connections a host's port has to those who have not shown the
// certificate of a host: in the handshake, or to join.
const maxStrangers = 64

// strangers are these connections. When there are too many, the oldest one of the address
// that has the most is closed. So somebody who opens many closes their own ones, and a host
// of the stack, whose handshake takes milliseconds, need not wait: it may have any address.
type strangers struct {
	mu    sync.Mutex
	conns []stranger // the oldest one first
}

type stranger struct {
	conn net.Conn
	from netip.Addr
}

func (s *strangers) add(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, stranger{conn, sourceOf(conn.RemoteAddr())})
	if len(s.conns) <= maxStrangers {
		return
	}
	i := tooMany(s.conns)
	_ = s.conns[i].conn.Close()
	s.conns = slices.Delete(s.conns, i, i+1)
}

// remove forgets a connection.
func (s *strangers) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(k stranger) bool { return k.conn == conn })
}

// tooMany is the index of the one that goes.
func tooMany(conns []stranger) int {
	of := map[netip.Addr]int{}
	for _, s := range conns {
		of[s.from]++
	}
	oldest := 0
	for i, s := range conns {
		if of[s.from] > of[conns[oldest].from] {
			oldest = i
		}
	}
	return oldest
}

// sourceOf is where a connection comes from. A network of IPv6 has all of its last 64 bits.
func sourceOf(remote net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Addr{}
	}
	source := at.Addr().Unmap().WithZone("")
	if source.Is6() {
		source = netip.PrefixFrom(source, 64).Masked().Addr()
	}
	return source
}
