// Package metrics tells Prometheus how a stack is: what its supervisor knows of the
// nodes, what the kernel knows of their processes, what Redis, the Sentinels and the
// balancers count. The web nodes have metrics of their own (package web). Nothing is
// gathered before somebody asks.
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

// Stack is what is told of: a supervisor. Its methods are called concurrently.
type Stack interface {
	Status() supervise.Status
	Plan() plan.Plan
	Tally() supervise.Tally
	StateDir() string
}

// Limits of the server: who asks is one Prometheus, or two.
const (
	maxConnections = 16
	readTimeout    = 10 * time.Second
)

// Server answers at the address for Prometheus.
type Server struct {
	listener  net.Listener
	collector *collector
	http      *http.Server
}

// Listen opens the address of a stack's metrics. The version is that of this
// program.
func Listen(address, version string, stack Stack) (*Server, error) {
	return listen(address, version, stack, "")
}

// ListenNode does the same for one node alone, where each node has a supervisor of its own
// that knows nothing of the others' processes.
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
	// The operator's password is chosen at the first start, before this.
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

// guard keeps pages of other sites out that have their own name lead here (package
// hostname). Everybody who reaches an address that is not on loopback may read.
func (s *Server) guard(next http.Handler) http.Handler {
	names, err := hostname.New(supervise.MachineNames()...)
	if err != nil { // the machine's names are good ones
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

// Serve answers until Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends the server and its connections.
func (s *Server) Close() error {
	err := s.http.Close()
	s.collector.close()
	return err
}

// patience is how long one node may take to answer, and fresh for how long what was
// gathered is good: two who ask at once do not ask the nodes twice.
const (
	patience = time.Second
	fresh    = 500 * time.Millisecond
)

// within is a context of a question to a node.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patience)
}
