package identity

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"

	"holdfast/internal/quote"
)

// Role is the role of the owner of a certificate in the stack.
type Role string

// The roles. A host serves and connects; an operator only connects.
const (
	Host     Role = "host"
	Operator Role = "operator"
)

// Peer is the owner of a certificate. The certificate has it as its only URI (RFC 5280, section
// 4.2.1.6), in the form of a SPIFFE ID, so that other programs can check it, too:
// spiffe://STACK/host/NAME/ID.
type Peer struct {
	Stack string
	Role  Role
	Name  string // of the host, or of the operator
	// ID is a random number that a host gets when it joins and keeps when its certificate is
	// renewed. A host that is removed and joins again under the same name gets another one.
	ID string
	// Serial is the serial number of the certificate, in hexadecimal.
	Serial string
}

func (p Peer) String() string { return string(p.Role) + " " + p.Name }

// Same reports whether two peers are the same member of a stack, perhaps with two certificates.
func (p Peer) Same(q Peer) bool {
	p.Serial, q.Serial = "", ""
	return p == q
}

// The names are those of the stack file. The name of a host has no dot and is not longer than a
// DNS label, because its certificate has it as a DNS name.
var (
	validStack = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	validName  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	validID    = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

func (p Peer) check() error {
	switch {
	case !validStack.MatchString(p.Stack):
		return fmt.Errorf("%q is no name for a stack: use lower-case letters, digits and dashes, 32 at most", quote.Text(p.Stack))
	case p.Role != Host && p.Role != Operator:
		return fmt.Errorf("%q is no role", quote.Text(string(p.Role)))
	case !validName.MatchString(p.Name):
		return fmt.Errorf("%q is no name for %s: use lower-case letters, digits and dashes, 63 at most", quote.Text(p.Name), p.Role)
	case !validID.MatchString(p.ID):
		return fmt.Errorf("%q is no ID of %s", quote.Text(p.ID), p)
	}
	return nil
}

// NewID returns the ID of a new member.
func NewID(random io.Reader) (string, error) {
	b := make([]byte, 8)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("read random bytes: %w", err)
	}
	return hex.EncodeToString(b), nil
}

func (p Peer) uri() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: p.Stack, Path: "/" + string(p.Role) + "/" + p.Name + "/" + p.ID}
}

// stackURI names the stack in the certificate of its authority.
func stackURI(stack string) *url.URL { return &url.URL{Scheme: "spiffe", Host: stack} }

// PeerOf returns the owner of a certificate. It does not check who issued it. The error is an
// *Error, reason NotOurs.
func PeerOf(cert *x509.Certificate) (Peer, error) {
	if len(cert.URIs) != 1 {
		return Peer{}, refuse(NotOurs, "a certificate of %s does not say whose it is: it is not one of Holdfast's", quote.Text(cert.Subject.String()))
	}
	u := cert.URIs[0]
	parts := strings.Split(u.Path, "/")
	if len(parts) != 4 || parts[0] != "" {
		return Peer{}, refuse(NotOurs, "a certificate is for %s, which is neither a host nor an operator of a stack", quote.Text(u.String()))
	}
	p := Peer{Stack: u.Host, Role: Role(parts[1]), Name: parts[2], ID: parts[3], Serial: serial(cert)}
	// The text must be exactly what uri returns: a port, a query or an escape is not ours.
	if err := p.check(); err != nil || p.uri().String() != u.String() {
		return Peer{}, refuse(NotOurs, "a certificate is for %s, which is neither a host nor an operator of a stack", quote.Text(u.String()))
	}
	return p, nil
}

func serial(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }
