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

// maxAbstract is the length of an abstract socket's name in bytes, the NUL that
// it begins with included (sun_path, unix(7)).
const maxAbstract = 108

// serveCeiling answers every GET with a fixed value: what the HTTP server
// alone can do. The server is configured as in package web. The arguments are
// its address, its unix socket as HAProxy names it (abns@NAME; may be empty),
// and the headers of every answer, "name: value".
func serveCeiling(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("ceiling wants an address and a socket")
	}
	var names, values []string
	for _, header := range args[2:] {
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
	listeners := []net.Listener{ln}
	if name, is := strings.CutPrefix(args[1], "abns@"); is {
		// HAProxy fills the name up with NULs, which count (manual, section
		// 4.2, "bind", "abns@").
		ln, err := net.Listen("unix", "@"+name+strings.Repeat("\x00", maxAbstract-1-len(name)))
		if err != nil {
			return err
		}
		listeners = append(listeners, ln)
	}
	served := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() { served <- server.Serve(ln) }()
	}
	select {
	case err := <-served:
		return fmt.Errorf("the ceiling cannot serve: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.ShutdownWithContext(end); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for range listeners {
		<-served
	}
	return nil
}

// fixedValue is what a server without a store answers.
func fixedValue(size int) string { return strings.Repeat("x", size) }
