package web

import (
	"log/slog"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/response"
)

// observer counts, logs and traces requests. Many requests use it at once.
type observer struct {
	metrics  *metrics
	fraction float64 // of the requests that are logged
	log      *slog.Logger
	tracing  *tracing // nil: off
}

// begin is called for every request before anything is done about it.
func (o *observer) begin(ctx *fasthttp.RequestCtx) {
	o.metrics.inFlight.Add(1)
	if o.tracing != nil {
		o.tracing.begin(ctx)
	}
}

// end is called for every request when it has been answered, and for an event stream when it begins.
// class is what was asked for: a command's name, or a route such as "pipeline" or "keys".
func (o *observer) end(ctx *fasthttp.RequestCtx, began time.Time, class string) {
	response.SetBrowserHeaders(ctx)
	took := time.Since(began)
	number := o.metrics.class(class)
	o.metrics.observe(number, methodNumber(ctx.Method()), statusNumber(ctx.Response.StatusCode()), took, 1)
	if o.fraction > 0 {
		o.logAccess(ctx, took, classes[number])
	}
	if o.tracing != nil {
		o.tracing.end(ctx, classes[number])
	}
	o.metrics.inFlight.Add(-1)
}
