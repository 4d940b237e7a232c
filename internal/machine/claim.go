package machine

import (
	"io"
	"net"
	"runtime"
	"strconv"
)

// Claim claims a port of this machine among all supervisors, until the claim is closed. It
// returns false if another one has claimed the port. A claim does not keep other programs from
// listening at the port.
//
// A claim is a socket named after the port in Linux' abstract namespace (unix(7)). Like a port,
// the name belongs to a network namespace and not to a user, and the kernel frees it when the
// process ends. On systems without this namespace, every port can be claimed.
func Claim(port int) (claim io.Closer, free bool) {
	if runtime.GOOS != "linux" {
		return io.NopCloser(nil), true
	}
	l, err := net.Listen("unix", "@holdfast/port/"+strconv.Itoa(port))
	if err != nil {
		return nil, false
	}
	return l, true
}
