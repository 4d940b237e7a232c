//go:build !linux || !(amd64 || arm64)

package socket

import "net"

// Swift answers the connection as it is.
func Swift(c net.Conn) net.Conn { return c }
