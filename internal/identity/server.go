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

// joinName is the server name (SNI, RFC 6066) that a host without a certificate asks for.
// No host is called so: names of hosts have no dot.
const joinName = "join.holdfast"

// AdmitJoins returns the settings of a server (see Trust.Server) at which new hosts can
// join, too, on the same port. Whoever asks for joinName need not show a certificate, and
// SplitJoins lets them do nothing but join. To them the server shows the certificate of the
// authority beside its own.
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

// SplitJoins passes the requests of new hosts to joins, and all others to members.
func SplitJoins(members, joins http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && r.TLS.ServerName == joinName {
			joins.ServeHTTP(w, r)
			return
		}
		members.ServeHTTP(w, r)
	})
}

// NewServer returns a server with limits for whoever has not shown who they are. What its
// connections are refused for stands in the log.
func NewServer(handler http.Handler, cfg *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		TLSConfig:         cfg,
		ReadHeaderTimeout: bodyTime, // of the handshake, too
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

const (
	// Nobody guesses a token; the limits are for the work of answering.
	triesPerSecond = 1
	triesAtOnce    = 10
	// maxSources is of how many addresses a limiter knows; all others share one limit.
	maxSources = 512
	// maxJoining is how many tries are carried out at a time.
	maxJoining = 8
)

// limiter bounds how often each address may try to join, and how many do at a time.
type limiter struct {
	mu      sync.Mutex
	sources map[netip.Addr]*rate.Limiter
	others  *rate.Limiter
	swept   time.Time // when it last looked whom it can forget
	running int
}

func newLimiter() *limiter {
	return &limiter{
		sources: map[netip.Addr]*rate.Limiter{},
		others:  rate.NewLimiter(triesPerSecond, triesAtOnce),
	}
}

// allow reports whether an address may try now.
func (l *limiter) allow(remote string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(remote, now).AllowN(now, 1)
}

// begin reports whether a try may be carried out; then end follows.
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
	if source.Is6() { // a network has all of its last 64 bits
		source = netip.PrefixFrom(source.WithZone(""), 64).Masked().Addr()
	}
	if own, ok := l.sources[source]; ok {
		return own
	}
	if len(l.sources) >= maxSources && now.Sub(l.swept) >= time.Second {
		l.swept = now
		for known, own := range l.sources {
			if own.TokensAt(now) >= triesAtOnce { // as good as new
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
