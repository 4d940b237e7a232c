package web

import (
	"bytes"
	"crypto/subtle"
	"hash/maphash"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
)

// sourceHeader is how a balancer names the client of a request, as SECRET/ADDRESS. With another
// secret, or none, the header comes from the client itself and counts for nothing.
const sourceHeader = "Holdfast-Source"

// sender returns whose share of the node a request takes: the name of its token, or without tokens
// the address of its client.
func (s *Server) sender(ctx *fasthttp.RequestCtx, who *token.Rights) string {
	if who != nil {
		return who.Name
	}
	if address, ok := s.told(ctx.Request.Header.Peek(sourceHeader)); ok {
		return address
	}
	var buffer [32]byte
	return s.addresses.text(appendSource(buffer[:0], ctx.RemoteAddr()))
}

// redisSender returns sender for redis.Request.Sender. Without tokens it returns nothing for a
// single command that is brief, since nothing looks at it then. Several brief commands may together
// not be brief.
func (s *Server) redisSender(ctx *fasthttp.RequestCtx, who *token.Rights, r *redis.Request) string {
	if who == nil && !r.Atomic && len(r.Commands) == 1 {
		spec, err := s.store.Spec(ctx, r.Commands[0])
		if err == nil && spec != nil && spec.BriefFor(r.Commands[0]) {
			return ""
		}
	}
	return s.sender(ctx, who)
}

// bodySender is sender for a request of which only the header has come. Without tokens, all clients
// that come without a balancer count as one.
func (s *Server) bodySender(h *fasthttp.RequestHeader) string {
	if s.cfg.Tokens != nil {
		_, query, _ := bytes.Cut(h.RequestURI(), []byte{'?'})
		who, err := s.who(h.Peek("Authorization"), query)
		if err != nil {
			return "" // the request will be refused
		}
		return who.Name
	}
	address, _ := s.told(h.Peek(sourceHeader))
	return address
}

// reader returns whose room for long answers a request takes. It is like sender, except that it is
// empty for clients of whom nothing is known: they do not count as one client.
func (s *Server) reader(ctx *fasthttp.RequestCtx, who *token.Rights) string {
	if who != nil {
		return who.Name
	}
	address, _ := s.told(ctx.Request.Header.Peek(sourceHeader))
	return address
}

// told returns the client's address as a balancer sent it in sourceHeader. It reports false where
// no balancer did.
func (s *Server) told(header []byte) (string, bool) {
	if s.cfg.SourceSecret == "" {
		return "", false
	}
	secret, address, ok := bytes.Cut(header, []byte{'/'})
	if !ok || subtle.ConstantTimeCompare(secret, []byte(s.cfg.SourceSecret)) != 1 {
		return "", false
	}
	return s.addresses.text(address), true
}

// texts keeps short texts that come again and again, so that not every request allocates its own.
// Texts that hash to one place replace each other. The zero value is ready for use, also by several
// goroutines.
type texts [256]atomic.Pointer[string]

var textSeed = maphash.MakeSeed()

// text returns the bytes as a string that stays valid.
func (t *texts) text(b []byte) string {
	if len(b) > len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255") {
		return string(b)
	}
	place := &t[maphash.Bytes(textSeed, b)%uint64(len(t))]
	if kept := place.Load(); kept != nil && *kept == string(b) {
		return *kept
	}
	text := string(b)
	place.Store(&text)
	return text
}

// source returns the address that the connections of one client have in common. For IPv6 these are
// the first 64 bits, since one client has the rest. It is empty for a unix socket.
func source(addr net.Addr) string { return string(appendSource(nil, addr)) }

// appendSource appends what source returns.
func appendSource(dst []byte, addr net.Addr) []byte {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return dst
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		ip = netip.PrefixFrom(ip, 64).Masked().Addr()
	}
	return ip.AppendTo(dst)
}
