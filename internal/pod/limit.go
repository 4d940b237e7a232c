package pod

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// connLimit limits the number of connections at a port, for each address and in total. A new
// connection is never refused: it may be a probe of the kubelet, which restarts the container
// if a probe is not answered. Instead it replaces the connection that has been silent for the
// longest, of the address that has the most connections. It is safe for concurrent use.
type connLimit struct {
	perSource, total int

	mu      sync.Mutex
	sources map[netip.Addr][]*limitedConn
	count   int
	closed  bool
}

func newConnLimit(perSource, total int) *connLimit {
	return &connLimit{perSource: perSource, total: total, sources: map[netip.Addr][]*limitedConn{}}
}

// admit counts a connection until it is closed. If there are too many, it closes another one.
func (l *connLimit) admit(conn net.Conn) *limitedConn {
	c := &limitedConn{Conn: conn, limit: l, source: sourceOf(conn.RemoteAddr())}
	c.heard.Store(time.Now().UnixNano())
	if last := l.add(c); last != nil {
		last.Close()
	}
	return c
}

// add counts a connection, and returns the one that has to be closed for it, or nil.
func (l *connLimit) add(c *limitedConn) (last *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return c
	case len(l.sources[c.source]) >= l.perSource:
		last = mostSilent(l.sources[c.source])
	case l.count >= l.total:
		last = l.mostSilentOfAll()
	}
	l.sources[c.source] = append(l.sources[c.source], c)
	l.count++
	return last
}

// mostSilentOfAll returns the connection to close if there are too many in total.
func (l *connLimit) mostSilentOfAll() *limitedConn {
	most := 0
	for _, of := range l.sources {
		most = max(most, len(of))
	}
	var candidates []*limitedConn
	for _, of := range l.sources {
		if len(of) == most {
			candidates = append(candidates, mostSilent(of))
		}
	}
	return mostSilent(candidates)
}

func mostSilent(conns []*limitedConn) *limitedConn {
	return slices.MinFunc(conns, func(a, b *limitedConn) int { return cmp.Compare(a.heard.Load(), b.heard.Load()) })
}

// remove stops counting a connection.
func (l *connLimit) remove(c *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.sources[c.source]
	i := slices.Index(of, c)
	if i < 0 {
		return
	}
	l.count--
	if of = slices.Delete(of, i, i+1); len(of) > 0 {
		l.sources[c.source] = of
	} else {
		delete(l.sources, c.source)
	}
}

// Close closes all connections, including those that come later.
func (l *connLimit) Close() {
	l.mu.Lock()
	l.closed = true
	var all []*limitedConn
	for _, of := range l.sources {
		all = append(all, of...)
	}
	l.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// sourceOf returns the address under which a connection is counted. For IPv6 it is the /64
// network, because one host commonly has a whole one.
func sourceOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return ip
	}
	return network.Addr()
}

// limitedConn is a connection that a connLimit counts.
type limitedConn struct {
	net.Conn
	limit  *connLimit
	source netip.Addr
	// heard is when data last came from it, in nanoseconds since 1970. At first it is when the
	// connection was accepted.
	heard atomic.Int64
}

func (c *limitedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *limitedConn) Close() error {
	c.limit.remove(c)
	return c.Conn.Close()
}
