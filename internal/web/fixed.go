package web

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/routes"
)

// Fixed is a web node's server that makes its responses without a store: the ceiling to which a
// benchmark compares a node. Value returns what GET of any path answers for a query. Fields, each a
// name and a value, are in every response. A response to a request for a cached value says that it
// is cached, as a node's does.
type Fixed struct {
	Fields [][2]string
	Value  func(query []byte) []byte
}

// Serve serves until the context ends.
func (x Fixed) Serve(ctx context.Context, ln net.Listener) error {
	fields := make([][2][]byte, 0, len(x.Fields))
	for _, f := range x.Fields {
		fields = append(fields, [2][]byte{[]byte(f[0]), []byte(f[1])})
	}
	e := newConnManager(bare(func(ctx *fasthttp.RequestCtx) {
		for _, f := range x.Fields {
			ctx.Response.Header.Set(f[0], f[1])
		}
		ctx.SetContentType(httpfast.TextPlain)
		ctx.SetBody(x.Value(ctx.URI().QueryString()))
	}), fixed{httpfast.NewResponseHead(fields), x.Value}, 16384, new(fair.TurnedAway))
	served := make(chan error, 1)
	go func() { served <- e.serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := e.shutdown(limit)
	<-served
	return err
}

// fixed is the fastResponder of Fixed.
type fixed struct {
	head  *httpfast.ResponseHead
	value func(query []byte) []byte
}

func (x fixed) wants(q *httpfast.Request) bool { return q.Method == routes.Get }

func (x fixed) respond(f *pendingRequest, q *httpfast.Request, out []byte) ([]byte, progress) {
	if q.Method != routes.Get {
		return out, declined
	}
	value := x.value(q.Query)
	out = x.head.Append(out, f.memory.now, httpfast.TextPlain, len(value))
	if from, _ := consistency.ReadFrom(&q.Options, redis.ReadMaster); from == redis.ReadCached {
		out = append(out, cachedLine...)
	}
	return append(append(out, "\r\n"...), value...), answered
}

func (x fixed) long(*pendingRequest) bool { return false }

func (x fixed) finish(_ *pendingRequest, out []byte) []byte { return out }

func (x fixed) finishTo(*pendingRequest, net.Conn) error { return nil }

func (x fixed) answered(int, time.Duration) {}

func (x fixed) again(*pendingRequest) bool { return true }

func (x fixed) express(context.Context) (*redis.Express, net.Conn, error) {
	return nil, nil, errors.ErrUnsupported
}
