package observe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"holdfast/internal/web/httpfast"
)

const (
	// maxProfile is how long a profile may take, and maxProfiles how many may be made at once: each
	// takes time from the node's clients.
	maxProfile  = 60 // seconds
	maxProfiles = 2
)

// maxAdmins is how many connections the admin's listener has at once, so that open files are left
// for clients.
const maxAdmins = 64

// profiles serves Go's profiles to clients on this machine. It leaves out pprof's cmdline, because
// a command line may have a password in it.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	making := make(chan struct{}, maxProfiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !sameMachine(r) {
			http.Error(w, "profiles are for clients on the node's own machine", http.StatusForbidden)
			return
		}
		if text := r.FormValue("seconds"); text != "" {
			if n, err := strconv.Atoi(text); err != nil || n < 1 || n > maxProfile {
				http.Error(w, fmt.Sprintf("seconds is a whole number from 1 to %d", maxProfile), http.StatusBadRequest)
				return
			}
		}
		select {
		case making <- struct{}{}:
			defer func() { <-making }()
			mux.ServeHTTP(w, r)
		default:
			http.Error(w, fmt.Sprintf("%d profiles are being made already", maxProfiles), http.StatusTooManyRequests)
		}
	})
}

// sameMachine reports whether a request came from this machine.
func sameMachine(r *http.Request) bool {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	if net.ParseIP(client).IsLoopback() {
		return true
	}
	ours, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if ours == nil {
		return false
	}
	host, _, err := net.SplitHostPort(ours.String())
	return err == nil && host == client
}

// ServeAdmin serves those who run the node, until the context ends: /metrics for Prometheus,
// /debug/pprof/ for Go's profiles, and /healthz. Clients are not to reach the listener.
func ServeAdmin(ctx context.Context, ln net.Listener, m *Metrics, h *Health) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{Registry: m.Registry}))
	mux.Handle("GET /debug/pprof/", profiles())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !h.Ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready") // an error means that the client is gone
	})
	admin := &http.Server{Handler: h.Auth.Guard(mux), ReadHeaderTimeout: httpfast.ReadTimeout, ReadTimeout: httpfast.ReadTimeout, IdleTimeout: httpfast.ReadTimeout}
	served := make(chan error, 1)
	go func() { served <- admin.Serve(netutil.LimitListener(ln, maxAdmins)) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the admin's routes on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	// A profile may take a minute, which is not waited for.
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := admin.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		err = admin.Close()
	}
	<-served
	return err
}
