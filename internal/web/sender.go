package web

import (
	"bytes"
	"crypto/subtle"
	"net"
	"net/netip"

	"github.com/valyala/fasthttp"

	"holdfast/internal/token"
)

// sourceHeader is how a balancer says of which client a request is that lasts, as
// SECRET/ADDRESS. What has another secret, or none, is the client's own.
const sourceHeader = "Holdfast-Source"

// sender is by whom the shares of a request are counted: its token, or without
// tokens the address of its client.
func (s *Server) sender(ctx *fasthttp.RequestCtx, who *token.Rights) string {
	if who != nil {
		return who.Name
	}
	if address, ok := s.told(&ctx.Request.Header); ok {
		return address
	}
	return source(ctx.RemoteAddr())
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
	address, _ := s.told(h)
	return address
}

// reader is by whom the room for long answers is counted: as sender, but that
// clients of whom nothing is known do not count as one.
func (s *Server) reader(ctx *fasthttp.RequestCtx, who *token.Rights) string {
	if who != nil {
		return who.Name
	}
	address, _ := s.told(&ctx.Request.Header)
	return address
}

// told is the client's address as a balancer tells it.
func (s *Server) told(h *fasthttp.RequestHeader) (string, bool) {
	if s.cfg.SourceSecret == "" {
		return "", false
	}
	secret, address, ok := bytes.Cut(h.Peek(sourceHeader), []byte{'/'})
	if !ok || subtle.ConstantTimeCompare(secret, []byte(s.cfg.SourceSecret)) != 1 {
		return "", false
	}
	return string(address), true
}

// source is the address that the connections of one client have in common: of
// IPv6 the first 64 bits, since one client has the rest. It is empty for a unix
// socket.
func source(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().Addr().String()
	}
	return ip.String()
}
