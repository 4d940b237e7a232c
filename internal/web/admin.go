package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ServeAdmin answers those who run the node, on a listener that clients do not
// reach: /metrics for Prometheus, /debug/pprof/ for Go's profiles, and
// /healthz, until the context ends.
func (s *Server) ServeAdmin(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{Registry: s.metrics.registry}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if s.draining.Load() || !able(s.store.Status()) {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready") // the client may be gone: nobody to tell
	})
	admin := &http.Server{Handler: mux, ReadHeaderTimeout: readTimeout, IdleTimeout: idleTimeout}
	served := make(chan error, 1)
	go func() { served <- admin.Serve(ln) }()
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
