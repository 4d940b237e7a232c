package outcome

import (
	"errors"
	"net"
)

// Dialling reports whether an error occurred while a connection was being made, so that nothing
// was sent.
func Dialling(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
