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

// sourceHeader is how a balancer says of which client a request is, as
// SECRET/ADDRESS. What has another secret, or none, is the client's own.
const sourceHeader = "Holdfast-Source"

// sender is by whom the shares of a request are counted: its token, or without
// tokens the address of its client.
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

// redisSender is sender for redis.Request.Sender. It is empty without tokens for one
// command that is brief, since nobody looks at it then. Commands that are brief each
// may not be so together.
func (s *Server) redisSender(ctx *fasthttp.RequestCtx, who *token.Rights, r *redis.Request) string {
	if who == nil && !r.Atomic && len(r.Commands) == 1 {
		spec, err := s.store.Spec(ctx, r.Commands[0])
		if err == nil && spec != nil && spec.BriefFor(r.Commands[0]) {
			return ""
		}
	}
	return s.sender(ctx, who)
}

// bodySender is sender for a request of which there is no more than the header
// yet. Without tokens, clients that come without a balancer count as one.
func (s *Server) bodySender(h *fasthttp.RequestHeader) string {
	if s.cfg.Tokens != nil {
		_, query, _ := bytes.Cut(h.RequestURI(), []byte{'?'})
		who, err := s.who(h.Peek("Authorization"), query)
		if err != nil {
			return "" // it will be refused
		}
		return who.Name
	}
	address, _ := s.told(h.Peek(sourceHeader))
	return address
}

// reader is by whom the room for long answers is counted: as sender, but that
// clients of whom nothing is known do not count as one.
func (s *Server) reader(ctx *fasthttp.RequestCtx, who *token.Rights) string {
	if who != nil {
		return who.Name
	}
	address, _ := s.told(ctx.Request.Header.Peek(sourceHeader))
	return address
}

// told is the client's address as a balancer tells it in sourceHeader.
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

// texts keep short texts that come again and again, so that not every request
// takes memory for its own. Texts that share a place replace each other. The zero
// value is ready for use.
type texts [256]atomic.Pointer[string]

var textSeed = maphash.MakeSeed()

// text returns the bytes as a text of their own.
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

// source is the address that the connections of one client have in common: of
// IPv6 the first 64 bits, since one client has the rest. It is empty for a unix
// socket.
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
