package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web"
)

// ceilingCommand is the first argument by which this program runs itself as
// the server that has no Redis.
const ceilingCommand = "ceiling"

// serveCeiling answers every GET with a fixed value: what the HTTP server
// alone can do, on as many cores as a web node uses. The arguments are
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
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	debug.SetGCPercent(400)
	small, large := []byte(fixedValue(smallValue)), []byte(fixedValue(largeValue))
	largeKey := []byte("key=" + prefixOf(largeValue))
	server := web.Bare(func(ctx *fasthttp.RequestCtx) {
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
	})
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(web.Listener(ln)) }()
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
