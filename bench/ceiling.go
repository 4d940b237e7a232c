package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// ceilingCommand is the first argument by which this program runs itself as
// the server that has no Redis.
const ceilingCommand = "ceiling"

// serveCeiling answers every GET with a fixed value: what the HTTP server
// alone can do. The server is configured as in package web. The arguments are
// its address and the headers of every answer, "name: value".
func serveCeiling(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("ceiling wants an address")
	}
	var names, values []string
	for _, header := range args[1:] {
		name, value, _ := strings.Cut(header, ": ")
		names, values = append(names, name), append(values, value)
	}
	small, large := []byte(fixedValue(smallValue)), []byte(fixedValue(largeValue))
	largeKey := []byte("key=" + prefixOf(largeValue))
	server := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			h := &ctx.Response.Header
			for i := range names {
				h.Set(names[i], values[i])
			}
			ctx.SetContentType("text/plain; charset=utf-8")
			if bytes.HasPrefix(ctx.URI().QueryString(), largeKey) {
				ctx.SetBody(large)
			} else {
				ctx.SetBody(small)
			}
		},
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		Concurrency:           16384,
		ReadBufferSize:        128 << 10,
		ReduceMemoryUsage:     true,
		ReadTimeout:           10 * time.Second,
		WriteTimeout:          30 * time.Second,
		IdleTimeout:           75 * time.Second,

		DisablePreParseMultipartForm: true,
	}
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.ShutdownWithContext(end); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	<-served
	return nil
}

// fixedValue is what a server without a store answers.
func fixedValue(size int) string { return strings.Repeat("x", size) }
