package observe

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"holdfast/internal/otlp"
	"holdfast/internal/redis"
	"holdfast/internal/web/auth"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/response"
	"holdfast/internal/web/routes"
)

// flushTime is how long sending the last spans may take at the end.
const flushTime = 2 * time.Second

// Tracing makes a span of each request and of each call to the store. Its attributes have
// OpenTelemetry's names (semantic conventions, HTTP and database). They hold no key, value, path or
// token.
type Tracing struct {
	Base     string // Config.Trace
	Node     string
	Settings otlp.Settings
	Logger   *slog.Logger
	parent   propagation.TraceContext

	// start sets them, before the first request.
	tracer trace.Tracer
}

// Start begins to send spans. end sends the last ones.
func (t *Tracing) Start(ctx context.Context) (end func(), err error) {
	endpoint, err := url.JoinPath(t.Base, "v1/traces")
	if err != nil {
		return nil, fmt.Errorf("the endpoint for traces: %w", err)
	}

	out := otlp.New(endpoint, t.Settings)
	if err := out.Start(ctx); err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", t.Base, err)
	}
	// The library reads from OTEL_TRACES_SAMPLER which requests are traced.
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&exporter{SpanExporter: out, log: t.Logger}),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "holdfast-web"),
			attribute.String("service.instance.id", t.Node),
		)),
	)

	t.tracer = provider.Tracer("holdfast/web")
	return func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := provider.Shutdown(limit); err != nil {
			t.Logger.Warn("the last traces were not sent", "error", err)
		}
	}, nil
}

// exporter logs when spans cannot be sent, and when they can again; each change once.
type exporter struct {
	sdktrace.SpanExporter
	log    *slog.Logger
	failed atomic.Bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if failed := err != nil; e.failed.Swap(failed) != failed {
		if failed {
			e.log.Warn("traces cannot be sent", "error", err)
		} else {
			e.log.Info("traces are sent again")
		}
	}
	return nil // the library would only print the error
}

// header reads a request's trace context (W3C Trace Context).
type header struct{ *fasthttp.RequestHeader }

// Get, Set and Keys implement propagation.TextMapCarrier.
func (h header) Get(key string) string { return string(h.Peek(key)) }
func (h header) Set(string, string)    {}
func (h header) Keys() []string        { return nil }

// begin starts a request's span.
func (t *Tracing) begin(ctx *fasthttp.RequestCtx) {
	above := t.parent.Extract(context.Background(), header{&ctx.Request.Header})
	within, _ := t.tracer.Start(above, routes.Methods[routes.Number(ctx.Method())], trace.WithSpanKind(trace.SpanKindServer))
	ctx.SetUserValue(consistency.SpanContext, within)
}

// id returns a request's trace id, in hex; empty when the trace is not recorded.
func (t *Tracing) id(ctx *fasthttp.RequestCtx) string {
	if span := trace.SpanContextFromContext(consistency.Within(ctx)); span.IsSampled() {
		return span.TraceID().String()
	}
	return ""
}

// end ends a request's span.
func (t *Tracing) end(ctx *fasthttp.RequestCtx, class string) {
	span := trace.SpanFromContext(consistency.Within(ctx))
	if !span.IsRecording() {
		return
	}
	method, status := routes.Methods[routes.Number(ctx.Method())], ctx.Response.StatusCode()
	span.SetName(method + " " + class)
	span.SetAttributes(
		attribute.String("http.request.method", method),
		attribute.String("http.route", class),
		attribute.Int("http.response.status_code", status),
		attribute.String("network.peer.address", ctx.RemoteAddr().String()),
	)
	if name, ok := ctx.UserValue(auth.TokenName).(string); ok {
		span.SetAttributes(attribute.String("user.name", name))
	}
	if status >= 500 {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// Store is what is traced: see web.Store.
type Store interface {
	Do(ctx context.Context, r *redis.Request) error
	Spec(ctx context.Context, cmd redis.Command) (*redis.Spec, error)
	Changes(ctx context.Context, hear func(redis.Change)) error
}

// Traced is a store that makes a span of each request.
type Traced struct {
	Store
	Tracing *Tracing
}

// Do carries a request out, in a span of its own.
func (t Traced) Do(ctx context.Context, r *redis.Request) error {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return t.Store.Do(ctx, r)
	}
	operation, size := "script", 1
	if r.Script == nil && len(r.Commands) > 0 && len(r.Commands[0]) > 0 {
		operation, size = strings.ToUpper(response.ShownName(r.Commands[0][0])), len(r.Commands)
	}
	switch {
	case r.Atomic:
		operation = "MULTI"
	case size > 1:
		operation = "PIPELINE"
	}
	ctx, span := t.Tracing.tracer.Start(ctx, operation, trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	err := t.Store.Do(ctx, r)
	span.SetAttributes(
		attribute.String("db.system.name", "redis"),
		attribute.String("db.operation.name", operation),
		attribute.Int("db.operation.batch.size", size),
		attribute.String("server.address", r.Node),
	)
	if err != nil {
		status, _ := response.Outcome(err)
		span.SetStatus(codes.Error, fmt.Sprintf("answered with %d", status)) // the error's words may have a key in them
	}
	return err
}
