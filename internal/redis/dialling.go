package redis

import (
	"errors"
	"net"
)

// dialling reports whether an error occurred while a connection was being made, so that nothing
// was sent.
func dialling(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
