package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/quote"
)

// Dial implements Network.
func (m *Local) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "unix" {
		path, err := m.at(address)
		if err != nil {
			return nil, err
		}
		address = path
	}
	// With keep-alive, a connection to a host that has vanished ends soon.
	dialer := net.Dialer{KeepAlive: time.Second}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, known(err) // not conn, which may be an interface around a nil pointer
	}
	return conn, nil
}

// Free implements Network.
func (m *Local) Free(_ context.Context, address string) error {
	err := listenOnce(address)
	var why *net.OpError
	if errors.As(err, &why) {
		err = why.Err // without the address, which the caller knows
	}
	return known(err)
}

// listenOnce listens on an address for a moment. It does not set SO_REUSEPORT, so it fails also
// if those who listen there share the port.
func listenOnce(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// Holder implements Network.
func (m *Local) Holder(_ context.Context, port int) string {
	return holder(port)
}

// Present implements Network.
func (m *Local) Present(context.Context) bool { return true }

// holder returns the name of the process that listens on a TCP port, such as "redis-server
// (pid 42)". It is empty if that cannot be seen, for example for another user's process.
func holder(port int) string {
	inodes := map[string]bool{}

	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, _ := os.ReadFile(table)
		for line := range strings.Lines(string(b)) {
			// proc(5): sl local_address rem_address st … uid timeout inode
			f := strings.Fields(line)
			const listen = "0A"
			if len(f) < 10 || f[3] != listen {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if p, err := strconv.ParseUint(hex, 16, 16); err == nil && int(p) == port {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}

	if len(inodes) == 0 {
		return ""
	}

	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && inodes[target] {
			pid := strings.Split(fd, "/")[2]
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("%s (pid %s)", quote.Text(strings.TrimSpace(string(name))), pid)
		}
	}
	return ""
}
