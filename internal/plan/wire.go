package plan

import (
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/stack"
)

// The files of a host's certificate, relative to its state directory (package identity writes
// them). CertificateFile contains the key as well.
const (
	CertificateFile = "identity/host.pem"
	AuthorityFile   = "identity/ca.pem"
)

// wire is how the nodes of a host communicate with those of other hosts.
type wire struct {
	// Hosts is true where there are other hosts, and Encrypted where nodes use TLS with theirs.
	Hosts, Encrypted bool
	// Certificate and Authority are the absolute paths of CertificateFile and AuthorityFile.
	Certificate, Authority string
}

// encrypts reports whether nodes of different hosts use TLS.
func (b builder) encrypts() bool { return len(b.facts.Hosts) > 0 && b.stack.Encrypts() }

func (b builder) wire(n node) wire {
	dir := b.host(n).StateDir
	return wire{
		Hosts: len(b.facts.Hosts) > 0, Encrypted: b.encrypts(),
		Certificate: filepath.Join(dir, CertificateFile), Authority: filepath.Join(dir, AuthorityFile),
	}
}

// servesTLS reports whether an application's node uses TLS with the balancers of other hosts. The
// balancers of its own host reach it on loopback, without TLS.
func (b builder) servesTLS(n node) bool {
	return n.kind == Web && b.encrypts() && b.stack.Apps[n.app].Kind() == stack.KV
}

// localAddress returns where the node's own host reaches it without TLS.
func (b builder) localAddress(n node) string {
	if b.servesTLS(n) {
		return net.JoinHostPort(loopback, strconv.Itoa(b.facts.Ports[n.name]))
	}
	return b.address(n)
}

// server returns an application's node as a balancer reaches it.
func (b builder) server(balancer, n node) serverData {
	d := serverData{Name: n.name, Address: b.address(n), Drained: b.facts.Drained[n.name]}
	if balancer.host != n.host {
		d.Unheard = unheardProgram
		if b.stack.Apps[n.app].Kind() == stack.KV {
			d.Unheard = unheardWeb
		}
	}
	switch {
	case !b.servesTLS(n):
	case balancer.runsOn(n.host):
		d.Address = b.localAddress(n)
	default:
		d.TLS = b.tls(balancer, n)
	}
	return d
}

// A host that is lost or cut off does not answer, not even with a reset. The kernel repeats what
// was not acknowledged for a quarter of an hour, and requests on old connections would wait for the
// health checks. So such a connection is closed early. A request for a web node is then sent to
// another node, whatever it is; a request for a program may have to fail.
//
// The time also counts while the other end is there but does not read (tcp(7), TCP_USER_TIMEOUT). A
// web node always reads. A program may pause in a large body, or in what comes through a tcp entry.
const (
	unheardWeb     = 2 * time.Second
	unheardProgram = 30 * time.Second
)

// connectLimit is how long connecting to another host may take. A request that was not sent can
// always go to another server.
const connectLimit = 500 * time.Millisecond

// Encrypted reports whether a balancer uses TLS with any of the servers. A health check with a
// connect rule of its own uses TLS only where the rule says "default", which stands for the
// settings in the server's line (HAProxy manual, "tcp-check connect").
func (d backendData) Encrypted() bool { return d.DiscoveredTLS != nil || anyTLS(d.Servers) }

// Encrypted reports the same for the redis nodes.
func (d redisBackendData) Encrypted() bool { return anyTLS(d.Servers) }

func anyTLS(servers []serverData) bool {
	return slices.ContainsFunc(servers, func(s serverData) bool { return s.TLS != nil })
}
