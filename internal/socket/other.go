//go:build !linux || !(amd64 || arm64)

package socket

import "net"

// Swift returns the connection unchanged.
func Swift(c net.Conn) net.Conn { return c }
