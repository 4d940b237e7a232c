package plan

import "path/filepath"

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
