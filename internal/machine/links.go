package machine

import (
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Link is a network interface.
type Link struct {
	Name string
	// Addresses have no prefix length.
	Addresses []string
}

// links returns the network interfaces. An interface that vanishes meanwhile is left out.
func links() (links []Link, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		addresses, err := l.Addrs()
		if err != nil {
			continue
		}
		link := Link{Name: l.Name}
		for _, a := range addresses {
			if n, is := a.(*net.IPNet); is {
				link.Addresses = append(link.Addresses, n.IP.String())
			}
		}
		links = append(links, link)
	}
	return links, nil
}

// userName returns the name of the user that this process runs as, or "" if it has none.
func userName() string {
	u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		return ""
	}
	return u.Username
}

// setsAddresses reports whether a program that this process starts may set addresses and send
// VRRP packets: it inherits both capabilities, or its file has capabilities of its own.
func setsAddresses(program string) bool {
	const both = 1<<12 | 1<<13 // CAP_NET_ADMIN and CAP_NET_RAW (capabilities(7))
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return os.Geteuid() == 0
	}

	// A program of root gets the whole bounding set, that of another user the ambient set.
	name := "CapAmb:"
	if os.Geteuid() == 0 {
		name = "CapBnd:"
	}

	for line := range strings.Lines(string(text)) {
		word, is := strings.CutPrefix(line, name)
		if !is {
			continue
		}
		if has, err := strconv.ParseUint(strings.TrimSpace(word), 16, 64); err == nil && has&both == both {
			return true
		}
	}

	path, err := LookPath(program)
	if err != nil {
		return false
	}
	size, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && size > 0
}
