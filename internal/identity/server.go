package identity

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// joinName is the server name (SNI, RFC 6066) that a host without a certificate asks for. It
// cannot be the name of a host, because those have no dot.
const joinName = "join.holdfast"

// AdmitJoins returns the TLS settings of a server for members (see Trust.Server) with which new
// hosts can join on the same port. A client that asks for joinName need not show a certificate,
// and SplitJoins lets it do nothing but join. To such a client the server also shows the
// authority's certificate.
func AdmitJoins(members *tls.Config, own *Keeper) *tls.Config {
	joins := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return own.newest.Load().withAuthority, nil
		},
	}
	both := members.Clone()
	both.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName == joinName {
			return joins, nil
		}
		return nil, nil // members
	}
	return both
}

// SplitJoins returns a handler that passes the requests of new hosts to joins, and all others
// to members.
func SplitJoins(members, joins http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && r.TLS.ServerName == joinName {
			joins.ServeHTTP(w, r)
			return
		}
		members.ServeHTTP(w, r)
	})
}

// NewServer returns a server with limits that are safe for clients without a certificate. It
// logs why connections were refused.
func NewServer(handler http.Handler, cfg *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		TLSConfig:         cfg,
		ReadHeaderTimeout: bodyTime, // also limits the handshake
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

const (
	// Tokens cannot be guessed. These limits bound the work of answering.
	triesPerSecond = 1
	triesAtOnce    = 10
	// maxSources is how many addresses have a limit of their own; all others share one.
	maxSources = 512
	// maxJoining is how many attempts are carried out at the same time.
	maxJoining = 8
)

// limiter limits how often each address may try to join, and how many attempts are carried out
// at the same time. It is safe for concurrent use.
type limiter struct {
	mu      sync.Mutex
	sources map[netip.Addr]*rate.Limiter
	others  *rate.Limiter
	swept   time.Time // when addresses were last forgotten
	running int
}

func newLimiter() *limiter {
	return &limiter{
		sources: map[netip.Addr]*rate.Limiter{},
		others:  rate.NewLimiter(triesPerSecond, triesAtOnce),
	}
}

// allow reports whether an address may try to join now.
func (l *limiter) allow(remote string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(remote, now).AllowN(now, 1)
}

// begin reports whether an attempt may be carried out. If so, the caller must call end after it.
func (l *limiter) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running >= maxJoining {
		return false
	}
	l.running++
	return true
}

func (l *limiter) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
}

func (l *limiter) of(remote string, now time.Time) *rate.Limiter {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return l.others
	}
	source := at.Addr().Unmap()
	if source.Is6() { // one client commonly has a whole /64 network
		source = netip.PrefixFrom(source.WithZone(""), 64).Masked().Addr()
	}

	if own, ok := l.sources[source]; ok {
		return own
	}

	if len(l.sources) >= maxSources && now.Sub(l.swept) >= time.Second {
		l.swept = now
		for known, own := range l.sources {
			if own.TokensAt(now) >= triesAtOnce { // the same as a new limiter
				delete(l.sources, known)
			}
		}
	}

	if len(l.sources) >= maxSources {
		return l.others
	}

	own := rate.NewLimiter(triesPerSecond, triesAtOnce)
	l.sources[source] = own
	return own
}
