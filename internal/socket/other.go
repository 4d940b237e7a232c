//go:build !linux || !(amd64 || arm64)

package socket

import "net"

// NonBlocking returns the connection unchanged.
func NonBlocking(c net.Conn) net.Conn { return c }
