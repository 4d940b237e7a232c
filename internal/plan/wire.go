package plan

import (
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/stack"
)

// The files of a host's certificate, relative to its state directory (package identity
// writes them). The first one has the key as well.
const (
	CertificateFile = "identity/host.pem"
	AuthorityFile   = "identity/ca.pem"
)

// wire is how the nodes of a host speak with those of others.
type wire struct {
	// Hosts is true where there are other hosts, and Encrypted where nodes speak TLS with
	// theirs.
	Hosts, Encrypted bool
	// Certificate and Authority are the absolute paths of CertificateFile and AuthorityFile.
	Certificate, Authority string
}

// encrypts reports whether nodes of different hosts speak TLS.
func (b builder) encrypts() bool { return len(b.facts.Hosts) > 0 && b.stack.Encrypts() }

func (b builder) wire(n node) wire {
	dir := b.host(n).StateDir
	return wire{
		Hosts: len(b.facts.Hosts) > 0, Encrypted: b.encrypts(),
		Certificate: filepath.Join(dir, CertificateFile), Authority: filepath.Join(dir, AuthorityFile),
	}
}

// servesTLS reports whether an application's node speaks TLS with the balancers of other
// hosts. Those of its own host reach it on loopback, in plain.
func (b builder) servesTLS(n node) bool {
	return n.kind == Web && b.encrypts() && b.stack.Apps[n.app].Kind() == stack.KV
}

// local is where the node's own host reaches it in plain.
func (b builder) local(n node) string {
	if b.servesTLS(n) {
		return net.JoinHostPort(loopback, strconv.Itoa(b.facts.Ports[n.name]))
	}
	return b.address(n)
}

// server is an application's node as a balancer reaches it.
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
	case balancer.on(n.host):
		d.Address = b.local(n)
	default:
		d.TLS = b.tls(balancer, n)
	}
	return d
}

// A host that is lost, or cut off, says nothing: the kernel sends again what was not
// acknowledged, for a quarter of an hour, and requests that went there on connections of
// before would wait for the health checks. So such a connection ends early. A request for a
// web node is sent to another one then, whatever it is; one for a program may have to fail.
// The time counts as well while the other end is there and does not read (tcp(7),
// TCP_USER_TIMEOUT): a web node always reads, a program may pause in a large body, or in what
// comes by a tcp entry.
const (
	unheardWeb     = 2 * time.Second
	unheardProgram = 30 * time.Second
)

// connectLimit is how long it may take to connect to another host. What has not connected
// can always be sent to another server.
const connectLimit = 500 * time.Millisecond

// Encrypted reports whether a balancer speaks TLS with any of the servers. A check that
// connects by a rule of its own does so only where the rule says "default": by what the
// line of the server has (HAProxy manual, "tcp-check connect").
func (d backendData) Encrypted() bool { return d.FoundTLS != nil || anyTLS(d.Servers) }

// Encrypted is that of the redis nodes.
func (d redisBackendData) Encrypted() bool { return anyTLS(d.Servers) }

func anyTLS(servers []serverData) bool {
	return slices.ContainsFunc(servers, func(s serverData) bool { return s.TLS != nil })
}
