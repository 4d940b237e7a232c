package web

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
)

// maxProfile is how long a profile may take, and maxProfiles how many may be
// made at once: each costs the node time that its clients need.
const (
	maxProfile  = 60 // seconds
	maxProfiles = 2
)

// maxAdmins is how many connections the admin's listener has at once, so that
// they leave open files to clients.
const maxAdmins = 64

// profiles serves Go's profiles, to clients on this machine. It leaves out what
// pprof has beside them: the command line may have a password in it.
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

// ServeAdmin answers those who run the node, on a listener that clients do not
// reach: /metrics for Prometheus, /debug/pprof/ for Go's profiles, and
// /healthz, until the context ends.
func (s *Server) ServeAdmin(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{Registry: s.metrics.registry}))
	mux.Handle("GET /debug/pprof/", profiles())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if s.draining.Load() || !able(s.store.Status()) {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready") // the client may be gone: nobody to tell
	})
	admin := &http.Server{Handler: s.guard(mux), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, IdleTimeout: readTimeout}
	served := make(chan error, 1)
	go func() { served <- admin.Serve(netutil.LimitListener(ln, maxAdmins)) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the admin's routes on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	// A profile takes its time; nobody waits for it.
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := admin.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		err = admin.Close()
	}
	<-served
	return err
}
