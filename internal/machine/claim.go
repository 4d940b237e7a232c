package machine

import (
	"io"
	"net"
	"runtime"
	"strconv"
)

// Claim keeps a port of this machine from every other supervisor that claims it, until it
// is closed; false: another one has it. A program that knows nothing of claims can still
// listen there.
//
// A claim is a socket with the port's number in Linux' abstract namespace (unix(7)). Like
// a port, the name is one network namespace's, whatever user has it, and the kernel frees
// it when the process ends. Where there is no such namespace, every port can be claimed.
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
