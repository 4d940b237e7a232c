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
)

// reachGrace is how long a node stays ready that reaches neither a Redis node
// nor a Sentinel. A failover is shorter and leaves most of them reachable: a
// node that reaches none for so long is itself cut off, and its peers are not.
const reachGrace = 3 * time.Second

const (
	textPlain       = "text/plain; charset=utf-8"
	applicationJSON = "application/json"
	octetStream     = "application/octet-stream"
)

// Store is the way to the data. Its methods are called by many requests at
// once; they bound their own time, and a request under way is finished even
// when the server ends. Errors carry a redis.Kind.
type Store interface {
	// Do carries a request out and fills in its answer.
	Do(ctx context.Context, r *redis.Request) error
	// Spec is what Redis says of a command; nil when it knows none of that
	// name.
	Spec(ctx context.Context, cmd redis.Command) (*redis.Spec, error)
	// Subscribe, Monitor and Changes call hear, from one goroutine, until the
	// context ends. hear does not wait.
	Subscribe(ctx context.Context, patterns bool, names []string, hear func(redis.Message)) error
	Monitor(ctx context.Context, hear func(line string)) error
	Changes(ctx context.Context, hear func(redis.Change)) error
	// Status answers at once.
	Status() redis.Status
}

// Config is a web node's. Zero values take the defaults beside them.
type Config struct {
	Node string // the node's name, told in Holdfast-Node; empty: not told
	// Connections at once; further ones are turned away. Default 16,384.
	Connections int
	// Streams are how many streams and long polls there are at once; default half
	// of Connections. StreamsPerClient is how many of them one token has, or
	// without tokens one client address; 0: at most as many as are free.
	Streams, StreamsPerClient int
	// SourceSecret is what balancers begin Holdfast-Source with, the header by
	// which they tell of which client a request is; empty: nobody tells.
	SourceSecret string
	// Drain is how long requests under way may take to finish at the end.
	// Default 10 s.
	Drain  time.Duration
	Logger *slog.Logger // default: nobody

	// Read and Async are what a request gets that does not say what it wants.
	Read  redis.ReadFrom
	Async bool

	MaxBody     int // bytes of a request's body; default 10 MB
	MaxKey      int // bytes of a key; default 64 KB
	MaxPipeline int // commands of one request; default 10,000

	// Allow are the names of commands that are refused otherwise: dangerous
	// and blocking ones.
	Allow []string
	// InStack: the node is one of a stack, whose file says what is allowed, and
	// whose Redis is not the clients' to change.
	InStack bool
	// Scripts says which scripts and functions clients may run. ScriptUser and
	// ReadScriptUser: those of clients who may write, and of those who may only
	// read, run as a Redis user of their own (redis.Config), whose rights are
	// commands.ScriptRights or fewer. ScriptsAnyway: tokens that may write may have
	// scripts without one.
	Scripts                    commands.Scripts
	ScriptUser, ReadScriptUser bool
	ScriptsAnyway              bool
	// Tokens say who may do what; nil: everybody may do everything.
	Tokens *token.Set
	// CORS are the origins whose pages may use this node; none: only its own.
	CORS []string
	// Hosts are the names that the node answers to where it asks for no tokens;
	// nil: every name.
	Hosts *hostname.Set
	// AccessLog is the fraction of requests that are logged, 0 to 1, and
	// Access where: default nobody.
	AccessLog float64
	Access    *slog.Logger
	// Trace is the base URL of an OTLP endpoint for traces (OpenTelemetry over
	// HTTP); empty: none are made. TraceSettings are how they are sent.
	Trace         string
	TraceSettings otlp.Settings
}

// Server answers HTTP requests from a Store.
type Server struct {
	cfg      Config
	store    Store
	access   access
	metrics  *metrics
	tracing  *tracing // nil: off
	http     *fasthttp.Server
	engine   *engine
	draining atomic.Bool
	answers  atomic.Uint64 // that came with a token
	node     []byte        // Config.Node
	bodies   bodies
	// lasting are the places of streams and long polls, monitors those of streams
	// of all commands besides.
	lasting, monitors *shares
	addresses         texts                  // of clients, as balancers tell them
	unsent            atomic.Int64           // bytes that wait to be sent on streams
	host              atomic.Pointer[string] // one of Config.Hosts, the first that was asked for
	// streams is the context of the streams of events; endStreams ends them.
	streams    context.Context
	endStreams context.CancelFunc
	heartbeat  time.Duration
	hub        *hub // of those who watch keys
}

// New makes a server. It starts nothing.
func New(cfg Config, store Store) *Server {
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
	s := &Server{cfg: cfg, store: store, node: []byte(cfg.Node), access: newAccess(cfg), heartbeat: heartbeat}
	s.lasting = newShares(cfg.Streams, cfg.StreamsPerClient, 1)
	s.monitors = newShares(maxMonitors, 0, 1)
	s.bodies = bodies{shares: newShares(max(allBodies, 4*cfg.MaxBody), 0, 3), claims: map[*fasthttp.RequestHeader]claim{}}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	s.hub = newHub(store.Changes, cfg.Logger)
	s.http = bare(s.handle)
	s.http.ErrorHandler, s.http.HeaderReceived, s.http.ExpectHandler = s.malformed, s.headerReceived, s.expect
	s.http.Concurrency, s.http.MaxRequestBodySize = cfg.Connections, cfg.MaxBody
	s.engine = newEngine(s.http, newQuick(s), cfg.Connections)
	s.metrics = newMetrics(s)
	return s
}

// bare is a web node's HTTP server without what it serves. It wants connections
// made by newConn.
func bare(handler fasthttp.RequestHandler) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:               handler,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		Concurrency:           16384,
		ReadBufferSize:        maxHeader,
		ReduceMemoryUsage:     true, // else every idle connection keeps a buffer of maxHeader
		ReadTimeout:           readTimeout,
		WriteTimeout:          writeTimeout,
		IdleTimeout:           idleTimeout,
		CloseOnShutdown:       true,
		SecureErrorLogMessage: true,
		ConnState:             between,
		Logger:                discard{},

		DisablePreParseMultipartForm: true,
	}
}

// discard drops what fasthttp logs of clients' mistakes: they got their
// answer.
type discard struct{}

func (discard) Printf(string, ...any) {}

// Serve answers requests on the listeners until the context ends. Then the
// order is: readiness goes first, so that nobody sends more; streams of events
// end; the listener and idle connections close; requests under way finish, within Config.Drain; and
// only then does Serve return, so that the store may end after it. Its error
// is nil when all of them finished.
func (s *Server) Serve(ctx context.Context, lns ...net.Listener) error {
	flush, err := s.startTracing(ctx)
	if err != nil {
		return err
	}
	defer flush()
	served := make(chan error, len(lns))
	for _, ln := range lns {
		go func() { served <- fmt.Errorf("serve on %s: %w", ln.Addr(), s.engine.serve(ln)) }()
	}
	var broken error
	running := len(lns)
	select {
	case broken = <-served:
		running--
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.endStreams()
	defer s.hub.wait()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	err = s.engine.shutdown(limit)
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
