// Package metrics serves the metrics of a stack to Prometheus: what its supervisor knows
// about the nodes, what the kernel knows about their processes, and what Redis, the Sentinels
// and the balancers count. Metrics are gathered only on a request (collect.go, balancer.go,
// backup.go); names.go has their names. The web nodes serve metrics of their own (package
// web), of which web.go reads some.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"holdfast/internal/hostname"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// Stack is the part of a supervisor that is reported on. Its methods must be safe for
// concurrent use.
type Stack interface {
	Status() supervise.Status
	Plan() plan.Plan
	Tally() supervise.Tally
	StateDir() string
}

// Limits of the server. Its clients are one Prometheus, or two.
const (
	maxConnections = 16
	readTimeout    = 10 * time.Second
)

// Server serves the metrics to Prometheus.
type Server struct {
	listener  net.Listener
	collector *collector
	http      *http.Server
}

// Listen opens the address of a stack's metrics. Version is the version of this program.
func Listen(address, version string, stack Stack) (*Server, error) {
	return listen(address, version, stack, "")
}

// ListenNode is Listen for a single node. It is used where each node has a supervisor of its
// own, which knows nothing about the processes of the others.
func ListenNode(address, version string, stack Stack, node string) (*Server, error) {
	return listen(address, version, stack, node)
}

func listen(address, version string, stack Stack, node string) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		by := ""
		if who, held := supervise.Holder(address); held {
			by = " by " + who
		}
		return nil, fmt.Errorf("the supervisor's metrics cannot listen on %s: the address is taken%s (%w); end that process, or name another in the stack file (metrics.listen)",
			address, by, errors.Unwrap(err))
	}

	// The operator's password exists already: it is chosen at the first start.
	secrets, err := supervise.Secrets(stack.StateDir())
	if err != nil {
		l.Close()
		return nil, err
	}
	way, err := supervise.Way(stack.StateDir(), stack.Plan().Stack)
	if err != nil {
		l.Close()
		return nil, err
	}

	s := &Server{listener: netutil.LimitListener(l, maxConnections), collector: newCollector(stack, version, secrets.Operator, way)}
	s.collector.only = node
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.collector, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	s.http = &http.Server{Handler: s.guard(mux), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, IdleTimeout: time.Minute}
	return s, nil
}

// guard refuses requests of web pages whose site has let its own name resolve to this
// address (DNS rebinding; see package hostname). It does so only on loopback: every client
// that can reach another address may read the metrics anyway.
func (s *Server) guard(next http.Handler) http.Handler {
	names, err := hostname.New(supervise.MachineNames()...)
	if err != nil { // does not happen: the machine's names are valid
		names, _ = hostname.New()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if local != nil && local.IP.IsLoopback() && !names.Has([]byte(r.Host)) {
			http.Error(w, "this is not a name of the service: ask for an address or localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Serve serves requests until Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close closes the server and its connections.
func (s *Server) Close() error {
	err := s.http.Close()
	s.collector.close()
	return err
}

// patience is how long one node may take to answer. fresh is how long gathered metrics are
// used again, so that two requests at the same time do not ask the nodes twice.
const (
	patience = time.Second
	fresh    = 500 * time.Millisecond
)

// within returns the context for a request to a node.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patience)
}
