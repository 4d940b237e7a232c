package observe

import (
	"log/slog"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/response"
	"holdfast/internal/web/routes"
)

// Observer counts, logs and traces requests. Many requests use it at once.
type Observer struct {
	Metrics  *Metrics
	Fraction float64 // of the requests that are logged
	Log      *slog.Logger
	Tracing  *Tracing // nil: off
}

// Begin is called for every request before anything is done about it.
func (o *Observer) Begin(ctx *fasthttp.RequestCtx) {
	o.Metrics.InFlight.Add(1)
	if o.Tracing != nil {
		o.Tracing.begin(ctx)
	}
}

// End is called for every request when it has been answered, and for an event stream when it begins.
// class is what was asked for: a command's name, or the class of a route.
func (o *Observer) End(ctx *fasthttp.RequestCtx, began time.Time, class string) {
	response.SetBrowserHeaders(ctx)
	took := time.Since(began)
	number := o.Metrics.Class(class)
	o.Metrics.Observe(number, routes.Number(ctx.Method()), StatusNumber(ctx.Response.StatusCode()), took, 1)
	if o.Fraction > 0 {
		o.logAccess(ctx, took, classes[number])
	}
	if o.Tracing != nil {
		o.Tracing.end(ctx, classes[number])
	}
	o.Metrics.InFlight.Add(-1)
}
