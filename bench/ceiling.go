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
)

// ceilingCommand is the first argument with which this program starts itself as the server without
// Redis.
const ceilingCommand = "ceiling"

// serveCeiling answers every GET with a fixed value. It shows what a web node's own event loop and
// HTTP server can do without commands and Redis, on as many cores as a web node uses. The arguments
// are its address and the headers of every answer, as "name: value".
func serveCeiling(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("ceiling wants an address")
	}
	var fields [][2]string
	for _, header := range args[1:] {
		name, value, _ := strings.Cut(header, ": ")
		fields = append(fields, [2]string{name, value})
	}
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	debug.SetGCPercent(400)
	small, large := []byte(fixedValue(smallValue)), []byte(fixedValue(largeValue))
	largeKey := []byte("key=" + prefixOf(largeValue))
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	server := fixedServer{Fields: fields, Value: func(query []byte) []byte {
		if bytes.HasPrefix(query, largeKey) {
			return large
		}
		return small
	}}
	if err := server.Serve(ctx, ln); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	}
	return nil
}

// fixedValue returns the answer of a server without a store.
func fixedValue(size int) string { return strings.Repeat("x", size) }
