package cli

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"holdfast/internal/control"
	"holdfast/internal/hostname"
	"holdfast/internal/supervise"
)

// address is an address to listen on.
type address struct {
	network string // tcp or unix
	at      string // host:port, or the socket's path
	secure  bool   // clients speak TLS
}

// maxAbstract is the length of an abstract socket's name in bytes, including the @ that stands for
// its leading NUL (unix(7)).
const maxAbstract = 108

// parseAddress parses HOST:PORT or unix:PATH; unix:@NAME is an abstract socket.
func parseAddress(text string) (address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" || path == "@" {
			return address{}, fmt.Errorf("behind unix: there is no path")
		}
		if len(path) > control.MaxSocketPath {
			return address{}, fmt.Errorf("the path has %d bytes, and a unix socket can have %d", len(path), control.MaxSocketPath)
		}
		return address{network: "unix", at: path}, nil
	}
	return address{network: "tcp", at: text}, checkAddress(text)
}

// loopback reports whether only this machine can connect.
func (a address) loopback() bool {
	if a.network == "unix" {
		return true
	}
	host, _, _ := net.SplitHostPort(a.at)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ownHosts returns the host names that a service on this machine accepts: the machine's own, and
// further ones.
func ownHosts(further []string) (*hostname.Set, error) {
	return hostname.New(append(supervise.MachineNames(), further...)...)
}

// open listens at the address. A unix socket is for its owner and the owner's group; it replaces a
// socket that a dead node has left.
func (a address) open() (net.Listener, error) {
	at := a.at
	switch {
	case a.network == "unix" && strings.HasPrefix(at, "@"):
		// HAProxy pads an abstract name with NULs, which are part of the name (manual, section 4.2,
		// "bind", "abns@").
		at += strings.Repeat("\x00", maxAbstract-len(at))
	case a.network == "unix":
		if err := control.RemoveStale(a.at); err != nil {
			return nil, fmt.Errorf("the web node cannot start: %w", err)
		}
		// bind creates the socket with the mode that the umask leaves, so that other users cannot
		// connect even for a moment.
		old := syscall.Umask(0o117)
		defer syscall.Umask(old)
	}
	ln, err := net.Listen(a.network, at)
	if err != nil {
		return nil, fmt.Errorf("the web node cannot start: %w", err)
	}
	return ln, nil
}

// shownAddress returns a listener's address in the form of --listen.
func shownAddress(ln net.Listener) string {
	if ln.Addr().Network() == "unix" {
		return "unix:" + strings.TrimRight(ln.Addr().String(), "\x00")
	}
	return ln.Addr().String()
}

// listenAddress returns $HOST:$PORT, with a default for each.
func listenAddress(getenv func(string) string) string {
	host, port := getenv("HOST"), getenv("PORT")
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "5000"
	}
	return net.JoinHostPort(host, port)
}

// checkListen returns a usage error for an address that is not valid to listen on.
func checkListen(address string) error {
	if err := checkAddress(address); err != nil {
		return usagef("listen on %q: %w; it is given by --listen or by HOST and PORT", address, err)
	}
	return nil
}

// checkAddress returns an error for a text that is not host:port.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("not an address of the form host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}
