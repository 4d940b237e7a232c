package host

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// maxStrangers is how many connections a host's port keeps whose client has not shown the
// certificate of a host: because the handshake is not finished, or because it wants to join.
const maxStrangers = 64

// strangers keeps these connections. When there are too many, it closes the oldest one of the
// address that has the most. So a client that opens many loses its own ones. A host of the
// stack, whose handshake takes milliseconds, is not held up, whatever its address is.
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

// tooMany returns the index of the connection to close.
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

// sourceOf returns the address that a connection is counted under. For IPv6 it is the /64
// network: one client commonly has a whole /64.
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
