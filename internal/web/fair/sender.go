package fair

import (
	"bytes"
	"crypto/subtle"
	"hash/maphash"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"holdfast/internal/token"
)

// SourceHeader is how a balancer names the client of a request, as SECRET/ADDRESS. With another
// secret, or none, the header comes from the client itself and counts for nothing.
const SourceHeader = "Holdfast-Source"

// Senders tells whose share of the node a request takes.
type Senders struct {
	secret    string    // begins SourceHeader; empty: that header is not believed
	addresses textCache // clients' addresses, as balancers send them
}

// NewSenders returns senders that believe SourceHeader when it begins with the secret; with an empty
// one, never.
func NewSenders(secret string) *Senders { return &Senders{secret: secret} }

// Sender returns whose share of the node a request takes: the name of its token, or without tokens the
// address of its client.
func (s *Senders) Sender(ctx *fasthttp.RequestCtx, who *token.Rights) string {
	if who != nil {
		return who.Name
	}
	if address, ok := s.FromBalancer(ctx.Request.Header.Peek(SourceHeader)); ok {
		return address
	}
	var buffer [32]byte
	return s.addresses.text(appendSource(buffer[:0], ctx.RemoteAddr()))
}

// Reader returns whose room for long answers a request takes. It is like Sender, except that it is
// empty for clients of whom nothing is known: they do not count as one client.
func (s *Senders) Reader(ctx *fasthttp.RequestCtx, who *token.Rights) string {
	if who != nil {
		return who.Name
	}
	address, _ := s.FromBalancer(ctx.Request.Header.Peek(SourceHeader))
	return address
}

// FromBalancer returns the client's address as a balancer sent it in SourceHeader. It reports false
// where no balancer did.
func (s *Senders) FromBalancer(header []byte) (string, bool) {
	if s.secret == "" {
		return "", false
	}
	secret, address, ok := bytes.Cut(header, []byte{'/'})
	if !ok || subtle.ConstantTimeCompare(secret, []byte(s.secret)) != 1 {
		return "", false
	}
	return s.addresses.text(address), true
}

// textCache keeps short texts that come again and again, so that not every request allocates its own.
// Texts that hash to one place replace each other. The zero value is ready for use, also by several
// goroutines.
type textCache [256]atomic.Pointer[string]

var textSeed = maphash.MakeSeed()

// text returns the bytes as a string that stays valid.
func (t *textCache) text(b []byte) string {
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

// Source returns the address that the connections of one client have in common. For IPv6 these are
// the first 64 bits, since one client has the rest. It is empty for a unix socket.
func Source(addr net.Addr) string { return string(appendSource(nil, addr)) }

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
