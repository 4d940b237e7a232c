package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
)

// Limits of a request. The value comes in the query, so the header's limit is
// the value's.
const (
	maxHeader = 128 << 10 // bytes of request line and header fields together
	maxBody   = 64 << 10  // bytes; no request needs one
	maxKey    = 64 << 10  // bytes
	maxIdem   = 255       // characters of an idempotency key
)

// Time limits of a connection. The idle one is longer than HAProxy keeps an
// idle connection to a server (pool-purge-delay, 5 s; HAProxy manual, section
// 4.2), so that HAProxy closes first and no request meets a closing one.
const (
	readTimeout  = 10 * time.Second // for a whole request
	writeTimeout = 30 * time.Second
	idleTimeout  = 75 * time.Second
)

// reachGrace is how long a node stays ready that reaches neither a Redis node
// nor a Sentinel. A failover is shorter and leaves most of them reachable: a
// node that reaches none for so long is itself cut off, and its peers are not.
const reachGrace = 3 * time.Second

// receivedHeader is when a balancer got a write, in seconds since 1970, and
// maxAge how old one may be when it comes here. A balancer sends a write to
// another node when this one hangs; when it wakes up, the write may still wait
// for it in the socket. By then the record that makes the two count as one may
// be gone (redis.Config.IdempotencyTTL, which is longer than maxAge and the
// time a write is held), and newer values stored. The hosts' clocks may differ
// by seconds, no more.
const (
	receivedHeader = "Holdfast-Received"
	maxAge         = 20 * time.Second
)

const textPlain = "text/plain; charset=utf-8"

// Store is what the web node keeps values in. Its methods are called by many
// requests at once; they bound their own time, and a request under way is
// finished even when the server ends. Errors carry a redis.Kind.
type Store interface {
	// Get answers false when there is no such key.
	Get(ctx context.Context, key string) ([]byte, bool, error)
	// Set answers nil when the write is durable. It does not keep value.
	Set(ctx context.Context, key string, value []byte, idempotencyKey string) error
	// Status answers at once.
	Status() redis.Status
}

// Config is a web node's. Zero values take the defaults beside them.
type Config struct {
	Node string // the node's name, told in Holdfast-Node; empty: not told
	// Connections at once; further ones are turned away. Default 16,384.
	Connections int
	// Drain is how long requests under way may take to finish at the end.
	// Default 10 s.
	Drain  time.Duration
	Logger *slog.Logger // default: nobody
}

// Server answers HTTP requests from a Store.
type Server struct {
	cfg      Config
	store    Store
	http     *fasthttp.Server
	draining atomic.Bool
}

// New makes a server. It starts nothing.
func New(cfg Config, store Store) *Server {
	if cfg.Connections == 0 {
		cfg.Connections = 16384
	}
	if cfg.Drain == 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, store: store}
	s.http = &fasthttp.Server{
		Handler:               s.handle,
		ErrorHandler:          s.malformed,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		Concurrency:           cfg.Connections,
		ReadBufferSize:        maxHeader,
		MaxRequestBodySize:    maxBody,
		ReduceMemoryUsage:     true, // else every idle connection keeps a buffer of maxHeader
		ReadTimeout:           readTimeout,
		WriteTimeout:          writeTimeout,
		IdleTimeout:           idleTimeout,
		CloseOnShutdown:       true,
		SecureErrorLogMessage: true,
		Logger:                discard{},

		DisablePreParseMultipartForm: true,
	}
	return s
}

// discard drops what fasthttp logs of clients' mistakes: they got their
// answer.
type discard struct{}

func (discard) Printf(string, ...any) {}

// Serve answers requests on the listener until the context ends. Then the
// order is: readiness goes first, so that nobody sends more; the listener and
// idle connections close; requests under way finish, within Config.Drain; and
// only then does Serve return, so that the store may end after it. Its error
// is nil when all of them finished.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	err := s.http.ShutdownWithContext(limit)
	<-served
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("requests were still under way after %v", s.cfg.Drain)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop serving on %s: %w", ln.Addr(), err)
	}
	return nil
}

func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	s.mark(ctx)
	var handler func(*fasthttp.RequestCtx)
	switch string(ctx.URI().PathOriginal()) {
	case "/set":
		handler = s.set
	case "/get":
		handler = s.get
	case "/healthz/live":
		handler = s.live
	case "/healthz/ready":
		handler = s.ready
	case "/healthz/master":
		handler = s.master
	default:
		answer(ctx, fasthttp.StatusNotFound, "There is nothing here. The routes are /set?key=K&value=V and /get?key=K.")
		return
	}
	if allowed := methods(ctx.URI().PathOriginal()); !slices.Contains(allowed, string(ctx.Method())) {
		ctx.Response.Header.Set("Allow", strings.Join(allowed, ", "))
		answer(ctx, fasthttp.StatusMethodNotAllowed, "The method is not allowed here; allowed are "+strings.Join(allowed, ", ")+".")
		return
	}
	handler(ctx)
}

// mark sets what every answer carries. Values are the clients' own bytes: no
// browser may take them for anything but what we say they are.
func (s *Server) mark(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if s.cfg.Node != "" {
		h.Set("Holdfast-Node", s.cfg.Node)
	}
}

// methods are those of a path. HEAD is GET without the body, but not for /set:
// what only wants to look must not write.
func methods(path []byte) []string {
	if string(path) == "/set" {
		return []string{"GET", "POST"}
	}
	return []string{"GET", "HEAD"}
}

// set answers the source's words: /set?key=K&value=V.
func (s *Server) set(ctx *fasthttp.RequestCtx) {
	query := ctx.URI().QueryString()
	key, ok, err := parameter(query, "key")
	if err != nil {
		fail(ctx, err)
		return
	}
	value, hasValue, err := parameter(query, "value")
	if err != nil {
		fail(ctx, err)
		return
	}
	if !ok || len(key) == 0 || !hasValue { // an empty value is one; an empty key is none
		fail(ctx, badRequest("OOps, the key or value is NULL"))
		return
	}
	if len(key) > maxKey {
		fail(ctx, errKeyTooLong)
		return
	}
	once, err := idempotencyKey(ctx)
	if err != nil {
		fail(ctx, err)
		return
	}
	if err := checkAge(ctx); err != nil {
		fail(ctx, err)
		return
	}
	if err := s.store.Set(context.Background(), string(key), value, once); err != nil {
		fail(ctx, err)
		return
	}
	body := make([]byte, 0, len(key)+len(value)+32)
	body = append(body, "OK. We have set "...)
	body = append(body, key...)
	body = append(body, " to be "...)
	body = append(body, value...)
	s.bytes(ctx, body)
}

// get answers a value as it went in: /get?key=K.
func (s *Server) get(ctx *fasthttp.RequestCtx) {
	key, ok, err := parameter(ctx.URI().QueryString(), "key")
	switch {
	case err != nil:
		fail(ctx, err)
		return
	case !ok || len(key) == 0:
		fail(ctx, badRequest("OOps, the key is null"))
		return
	case len(key) > maxKey:
		fail(ctx, errKeyTooLong)
		return
	}
	value, found, err := s.store.Get(context.Background(), string(key))
	switch {
	case err != nil:
		fail(ctx, err)
	case !found:
		answer(ctx, fasthttp.StatusNotFound, "There is no such key.")
	default:
		s.bytes(ctx, value)
	}
}

var errKeyTooLong = &failure{fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("The key is too long; at most %d bytes are possible.", maxKey)}

// bytes answers a client's own bytes.
func (s *Server) bytes(ctx *fasthttp.RequestCtx, body []byte) {
	if utf8.Valid(body) {
		ctx.SetContentType(textPlain)
	} else {
		ctx.SetContentType("application/octet-stream")
	}
	ctx.SetBody(body)
}

// idempotencyKey reads the Idempotency-Key header; empty: none.
func idempotencyKey(ctx *fasthttp.RequestCtx) (string, error) {
	keys := ctx.Request.Header.PeekAll("Idempotency-Key")
	if len(keys) == 0 {
		return "", nil
	}
	bad := badRequest(fmt.Sprintf("The Idempotency-Key has to be given once, and be 1 to %d printable ASCII characters.", maxIdem))
	if len(keys) > 1 || len(keys[0]) == 0 || len(keys[0]) > maxIdem {
		return "", bad
	}
	for _, c := range keys[0] {
		if c < ' ' || c > '~' {
			return "", bad
		}
	}
	return string(keys[0]), nil
}

// checkAge turns down a write that a balancer got too long ago.
func checkAge(ctx *fasthttp.RequestCtx) error {
	received := ctx.Request.Header.Peek(receivedHeader)
	if len(received) == 0 {
		return nil
	}
	seconds, err := strconv.ParseInt(string(received), 10, 64)
	if err != nil {
		return badRequest(receivedHeader + " is for balancers: the time in seconds since 1970.")
	}
	if time.Since(time.Unix(seconds, 0)) > maxAge {
		return errTooLate
	}
	return nil
}

var errTooLate = &failure{fasthttp.StatusGatewayTimeout, "The outcome is unknown: the write came to this node too late to be tried again, and an earlier try may have happened."}

// live: the process is there.
func (s *Server) live(ctx *fasthttp.RequestCtx) { answer(ctx, fasthttp.StatusOK, "live") }

// ready: the node can serve. It does not fall with the master, whose failover
// every node has to wait for alike; it falls when this node alone is cut off,
// or is about to end.
func (s *Server) ready(ctx *fasthttp.RequestCtx) {
	st := s.store.Status()
	switch {
	case s.draining.Load():
		answer(ctx, fasthttp.StatusServiceUnavailable, "not ready: the node is about to end")
	case !st.Found:
		answer(ctx, fasthttp.StatusServiceUnavailable, "not ready: no Redis master was found yet: "+st.Why)
	case time.Since(st.Heard) > reachGrace:
		answer(ctx, fasthttp.StatusServiceUnavailable, fmt.Sprintf("not ready: neither a Redis node nor a Sentinel has answered for %v", time.Since(st.Heard).Round(time.Second)))
	default:
		answer(ctx, fasthttp.StatusOK, "ready")
	}
}

// master: the dependency. 200 when there is a master now.
func (s *Server) master(ctx *fasthttp.RequestCtx) {
	st := s.store.Status()
	body, err := json.Marshal(st)
	if err != nil {
		fail(ctx, err)
		return
	}
	if st.Master == "" {
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(append(body, '\n'))
}

// malformed answers a request that could not be read; its connection closes.
func (s *Server) malformed(ctx *fasthttp.RequestCtx, err error) {
	s.mark(ctx)
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		answer(ctx, fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("The request line and header are too large; at most %d bytes are possible, key and value escaped.", maxHeader))
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		answer(ctx, fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("The body is too large; at most %d bytes are possible.", maxBody))
	case errors.As(err, &network) && network.Timeout():
		answer(ctx, fasthttp.StatusRequestTimeout, "The request took too long to arrive.")
	default:
		answer(ctx, fasthttp.StatusBadRequest, "The request is not valid HTTP.")
	}
	ctx.SetConnectionClose()
}
