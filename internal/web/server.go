package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/commands"
	"holdfast/internal/hostname"
	"holdfast/internal/otlp"
	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/auth"
	"holdfast/internal/web/command"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/fasthandler"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/keyspace"
	"holdfast/internal/web/observe"
	"holdfast/internal/web/response"
	"holdfast/internal/web/sse"
)

// Store is the way to the data. Many requests call its methods at once. The methods bound their own
// time, and a request under way is finished even when the server ends. Errors carry a redis.Kind.
type Store interface {
	// Do carries a request out and fills in its results.
	Do(ctx context.Context, r *redis.Request) error
	// Spec returns what Redis says about a command, or nil when Redis has no command of that name.
	Spec(ctx context.Context, cmd redis.Command) (*redis.Spec, error)
	// Subscribe, Monitor and Changes call hear, from one goroutine, until the context ends. hear
	// must not block.
	Subscribe(ctx context.Context, patterns bool, names []string, hear func(redis.Message)) error
	Monitor(ctx context.Context, hear func(line string)) error
	Changes(ctx context.Context, hear func(redis.Change)) error
	// Status returns at once; it asks nobody.
	Status() redis.Status
}

// Config holds the settings of a web node. A zero value takes the default that its field names.
type Config struct {
	Node string // the node's name, sent in Holdfast-Node; empty: not sent
	// Connections is how many connections there may be at once; further ones are turned away.
	// Default 16,384.
	Connections int
	// Streams is how many streams and long polls there may be at once; default half of Connections.
	// StreamsPerClient is how many of them one token may have, or without tokens one client
	// address; 0: at most as many as are free.
	Streams, StreamsPerClient int
	// SourceSecret begins the header Holdfast-Source, by which balancers name the client of a
	// request. Empty: that header is not believed.
	SourceSecret string
	// Drain is how long requests under way may take to finish at the end. Default 10 s.
	Drain  time.Duration
	Logger *slog.Logger // default: discards

	// Read and Async apply to a request that does not ask for anything else.
	Read  redis.ReadFrom
	Async bool

	MaxBody     int // bytes of a request's body; default 10 MB
	MaxKey      int // bytes of a key; default 64 KB
	MaxPipeline int // commands of one request; default 10,000

	// Allow lists commands, by name, that are refused otherwise: dangerous and blocking ones.
	Allow []string
	// InStack: the node is part of a stack, whose file says what is allowed and whose Redis clients
	// may not change.
	InStack bool
	// Scripts says which scripts and functions clients may run. ScriptUser: scripts of clients who
	// may write run as a Redis user of their own (redis.Config), whose rights are
	// commands.ScriptRights or fewer. ReadScriptUser is the same for clients who may only read.
	// ScriptsAnyway: tokens that may write may have scripts without such a user.
	Scripts                    commands.Scripts
	ScriptUser, ReadScriptUser bool
	ScriptsAnyway              bool
	// Tokens say who may do what. nil: everybody may do everything.
	Tokens *token.Set
	// CORS lists the origins whose pages may use this node. Empty: only the node's own.
	CORS []string
	// Hosts are the names of the node that a request's Host has to be one of, where no tokens are
	// asked for. nil: any name.
	Hosts *hostname.Set
	// AccessLog is the fraction of requests that are logged, from 0 to 1. Access is where they are
	// logged; default: nowhere.
	AccessLog float64
	Access    *slog.Logger
	// Trace is the base URL of an OTLP endpoint for traces (OpenTelemetry over HTTP). Empty: no
	// traces. TraceSettings say how traces are sent.
	Trace         string
	TraceSettings otlp.Settings
}

// Server serves HTTP requests from a Store.
type Server struct {
	cfg      Config
	store    Store
	auth     *auth.Authorizer
	metrics  *observe.Metrics
	observer *observe.Observer
	health   *observe.Health
	commands *command.Handler
	keys     *keyspace.Handler
	http     *fasthttp.Server
	conns    *eventloop.Manager
	handlers []handler // by the number of the route
	draining atomic.Bool
	rules    *consistency.Rules
	node     []byte // Config.Node
	turned   *fair.TurnedAway
	senders  *fair.Senders
	places   *fair.Places
	bodies   *fair.Bodies
	streams  *sse.Streams
}

// New returns a server. It starts nothing.
func New(cfg Config, store Store) *Server {
	return newServer(cfg, store, func(h eventloop.Handler) eventloop.Handler { return h })
}

// newServer is New with something around the event loops' handler.
func newServer(cfg Config, store Store, around func(eventloop.Handler) eventloop.Handler) *Server {
	if cfg.Connections == 0 {
		cfg.Connections = 16384
	}
	if cfg.Streams == 0 {
		cfg.Streams = max(1, cfg.Connections/2)
	}
	if cfg.Drain == 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 10 << 20
	}
	if cfg.MaxKey == 0 {
		cfg.MaxKey = 64 << 10
	}
	if cfg.MaxPipeline == 0 {
		cfg.MaxPipeline = 10000
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Access == nil {
		cfg.AccessLog = 0
	}

	s := &Server{cfg: cfg, store: store, node: []byte(cfg.Node)}
	s.turned, s.senders, s.bodies = new(fair.TurnedAway), fair.NewSenders(cfg.SourceSecret), fair.NewBodies(cfg.MaxBody)
	s.auth = auth.New(auth.Config{
		Allow: cfg.Allow, InStack: cfg.InStack, Scripts: cfg.Scripts,
		ScriptUser: cfg.ScriptUser, ReadScriptUser: cfg.ReadScriptUser, ScriptsAnyway: cfg.ScriptsAnyway,
		Tokens: cfg.Tokens, CORS: cfg.CORS, Hosts: cfg.Hosts,
		KeepName: cfg.AccessLog > 0 || cfg.Trace != "",
		Learned:  func(spec *redis.Spec) { s.metrics.Learn(spec) },
		Refused:  func() { s.metrics.TokensRefused.Inc() },
	}, store, s.senders)
	s.rules = consistency.New(cfg.Read, cfg.Async, store)
	s.places = fair.NewPlaces(cfg.Streams, cfg.StreamsPerClient, s.senders, s.turned)
	s.streams = sse.New(store, s.auth, s.places, cfg.Logger)
	s.health = &observe.Health{Status: store.Status, Draining: s.draining.Load, Secret: cfg.SourceSecret, Auth: s.auth}

	var traces *observe.Tracing
	var done observe.Store = store
	if cfg.Trace != "" {
		traces = &observe.Tracing{Base: cfg.Trace, Node: cfg.Node, Settings: cfg.TraceSettings, Logger: cfg.Logger}
		done = observe.Traced{Store: store, Tracing: traces}
	}
	s.commands = &command.Handler{Store: done, Auth: s.auth, Rules: s.rules, Senders: s.senders, MaxKey: cfg.MaxKey, MaxCommands: cfg.MaxPipeline}
	s.keys = keyspace.New(keyspace.Config{
		Store: done, Auth: s.auth, Rules: s.rules, Senders: s.senders, Places: s.places, Streams: s.streams,
		Logger: cfg.Logger, MaxKey: cfg.MaxKey,
	})

	s.handlers = s.numberedHandlers()
	s.http = eventloop.HTTPServer(s.handle)
	s.http.ErrorHandler, s.http.HeaderReceived, s.http.ExpectHandler = s.malformed, s.headerReceived, s.expect
	s.http.Concurrency, s.http.MaxRequestBodySize = cfg.Connections, cfg.MaxBody

	s.metrics = observe.NewMetrics(observe.Sources{
		Connections: func() int { return s.conns.Connections() }, Ready: s.health.Ready, Streams: s.places.InUse, Turned: s.turned, Status: store.Status,
	})
	s.conns = eventloop.New(s.http, around(s.newFastHandler()), cfg.Connections, s.turned)
	s.observer = &observe.Observer{Metrics: s.metrics, Fraction: cfg.AccessLog, Log: cfg.Access, Tracing: traces}
	return s
}

// newFastHandler returns nil where the HTTP server has to serve even simple requests. Log lines and
// spans need what only the HTTP server keeps of a request, and only it answers other origins.
func (s *Server) newFastHandler() eventloop.Handler {
	store, ok := s.store.(fasthandler.Store)
	if !ok || s.cfg.AccessLog > 0 || s.cfg.Trace != "" || len(s.cfg.CORS) > 0 {
		return nil
	}
	return &fasthandler.Handler{
		Store: store, Commands: s.commands, Auth: s.auth, Rules: s.rules, Senders: s.senders, Metrics: s.metrics,
		Head: httpfast.NewResponseHead(response.CommonHeaders(s.node)), Node: s.node, Shared: s.cfg.Tokens == nil,
	}
}

// Serve serves the listeners until the context ends. The end has this order: readiness goes first,
// so that balancers send nothing more; event streams end; the listeners and idle connections close;
// requests under way finish, within Config.Drain. Only then does Serve return, so that the caller
// may end the store after it. Its error is nil when all requests finished.
func (s *Server) Serve(ctx context.Context, lns ...net.Listener) error {
	if t := s.observer.Tracing; t != nil {
		flush, err := t.Start(ctx)
		if err != nil {
			return err
		}
		defer flush()
	}

	served := make(chan error, len(lns))
	for _, ln := range lns {
		go func() { served <- fmt.Errorf("serve on %s: %w", ln.Addr(), s.conns.Serve(ln)) }()
	}
	var broken error
	running := len(lns)
	select {
	case broken = <-served:
		running--
	case <-ctx.Done():
	}

	s.draining.Store(true)
	s.streams.End()
	defer s.keys.Wait()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	err := s.conns.Shutdown(limit)
	for range running {
		<-served
	}

	if broken != nil {
		return broken
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("requests were still under way after %v", s.cfg.Drain)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

// ServeAdmin serves those who run the node, until the context ends: /metrics for Prometheus,
// /debug/pprof/ for Go's profiles, and /healthz. Clients are not to reach the listener.
func (s *Server) ServeAdmin(ctx context.Context, ln net.Listener) error {
	return observe.ServeAdmin(ctx, ln, s.metrics, s.health)
}
