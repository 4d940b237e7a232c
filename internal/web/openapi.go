package web

import (
	_ "embed"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/httpfast"
)

// description describes, in OpenAPI 3.1, what the node serves.
//
//go:embed openapi.json
var description []byte

// describe sends the description.
func describe(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType(httpfast.JSON)
	ctx.SetBody(description)
}
