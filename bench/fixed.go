package main

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/routes"
)

// fixedServer is a web node's event loops and HTTP server around responses that are made without a
// store: the ceiling to which a web node is compared. Value returns what GET of any path answers for
// a query. Fields, each a name and a value, are in every response. A response to a request for a
// cached value says that it is cached, as a node's does.
type fixedServer struct {
	Fields [][2]string
	Value  func(query []byte) []byte
}

// Serve serves until the context ends.
func (x fixedServer) Serve(ctx context.Context, ln net.Listener) error {
	fields := make([][2][]byte, 0, len(x.Fields))
	for _, f := range x.Fields {
		fields = append(fields, [2][]byte{[]byte(f[0]), []byte(f[1])})
	}
	e := eventloop.New(eventloop.HTTPServer(func(ctx *fasthttp.RequestCtx) {
		for _, f := range x.Fields {
			ctx.Response.Header.Set(f[0], f[1])
		}
		ctx.SetContentType(httpfast.TextPlain)
		ctx.SetBody(x.Value(ctx.URI().QueryString()))
	}), fixedHandler{httpfast.NewResponseHead(fields), x.Value}, 16384, new(fair.TurnedAway))
	served := make(chan error, 1)
	go func() { served <- e.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := e.Shutdown(limit)
	<-served
	return err
}

// fixedHandler is the handler of a fixedServer on its loops.
type fixedHandler struct {
	head  *httpfast.ResponseHead
	value func(query []byte) []byte
}

func (x fixedHandler) Wants(q *httpfast.Request) bool { return q.Method == routes.Get }

func (x fixedHandler) Respond(f *eventloop.Pending, q *httpfast.Request, out []byte) ([]byte, eventloop.Progress) {
	if q.Method != routes.Get {
		return out, eventloop.Declined
	}
	value := x.value(q.Query)
	out = x.head.Append(out, f.Memory.Now, httpfast.TextPlain, len(value))
	if from, _ := consistency.ReadFrom(&q.Options, redis.ReadMaster); from == redis.ReadCached {
		out = append(out, consistency.ReadHeader+": cached\r\n"...)
	}
	return append(append(out, "\r\n"...), value...), eventloop.Answered
}

func (x fixedHandler) Long(*eventloop.Pending) bool { return false }

func (x fixedHandler) Finish(_ *eventloop.Pending, out []byte) []byte { return out }

func (x fixedHandler) FinishTo(*eventloop.Pending, net.Conn) error { return nil }

func (x fixedHandler) Answered(int, time.Duration) {}

func (x fixedHandler) Again(*eventloop.Pending) bool { return true }

func (x fixedHandler) Express(context.Context) (*redis.Express, net.Conn, error) {
	return nil, nil, errors.ErrUnsupported
}
