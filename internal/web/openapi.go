package web

import (
	_ "embed"

	"github.com/valyala/fasthttp"
)

// description says in OpenAPI 3.1 what the node serves.
//
//go:embed openapi.json
var description []byte

// describe answers with the description.
func describe(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType(applicationJSON)
	ctx.SetBody(description)
}
