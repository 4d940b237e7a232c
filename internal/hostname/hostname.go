// Package hostname decides which host names a service answers to. It is pure.
//
// A page of another site can make its own name lead to an address of this machine or network (DNS
// rebinding). A browser then treats the service as a part of that site, and lets the page read and
// write. Such a request is recognisable only by its Host header. So a service that requires no
// token answers only to names that nobody else can have:
//
//   - addresses, for which no name server is asked;
//   - names without a dot, such as localhost, a machine's name or that of a service among
//     containers: none of them can be bought on the internet;
//   - names below localhost (RFC 6761), internal (ICANN's domain for private use), svc and
//     cluster.local (Kubernetes);
//   - names that it is given.
//
// New makes a Set of such names. Has checks a request; Pattern is the same rule as a regular
// expression, for HAProxy.
package hostname

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// All, given as a name, stands for every name.
const All = "*"

// private are the domains whose names always belong to the service.
var private = []string{"localhost", "internal", "svc", "cluster.local"}

// Set is a set of host names. It does not change. A nil Set contains every name.
type Set struct {
	names   map[string]bool // lower case
	domains [][]byte        // in lower case, each with a dot in front
}

var valid = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$`)

// New returns the set of a service's own names and of these: a name, *.DOMAIN for all names below a
// domain, or All.
func New(names ...string) (*Set, error) {
	s := &Set{names: map[string]bool{}}
	for _, domain := range private {
		s.domains = append(s.domains, []byte("."+domain))
	}
	for _, name := range names {
		if name == All {
			return nil, nil
		}
		if !valid.MatchString(name) {
			return nil, fmt.Errorf("%q is not the name of a host, such as www.example.com, *.example.com for all names below one, or * for every name", name)
		}
		name = strings.TrimSuffix(strings.ToLower(name), ".")
		if domain, ok := strings.CutPrefix(name, "*"); ok {
			s.domains = append(s.domains, []byte(domain))
		} else {
			s.names[name] = true
		}
	}
	return s, nil
}

// Has reports whether the set contains the name in a Host header, with or without a port. It
// contains the empty name, because a browser always sends a name.
func (s *Set) Has(host []byte) bool {
	if s == nil || len(host) == 0 {
		return true
	}

	name := host
	if name[0] == '[' {
		end := bytes.IndexByte(name, ']')
		return end > 1 && only(name[1:end], isAddress) && isPort(name[end+1:])
	}
	if colon := bytes.IndexByte(name, ':'); colon >= 0 {
		if !isPort(name[colon:]) {
			return false
		}
		name = name[:colon]
	}

	name = bytes.TrimSuffix(name, []byte("."))
	if len(name) == 0 || !only(name, isName) {
		return false
	}
	if bytes.IndexByte(name, '.') < 0 || isDigit(name[0]) && only(name, isNumber) {
		return true
	}

	var lower [253]byte
	if len(name) > len(lower) {
		return false
	}

	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}

	if s.names[string(lower[:len(name)])] {
		return true
	}

	for _, domain := range s.domains {
		if len(name) > len(domain) && bytes.HasSuffix(lower[:len(name)], domain) {
			return true
		}
	}
	return false
}

// Pattern returns a regular expression that matches the names in the set. It has to be used without
// regard to case. The set must not be nil.
func (s *Set) Pattern() string {
	names := make([]string, 0, len(s.names))
	for name := range s.names {
		names = append(names, regexp.QuoteMeta(name))
	}
	slices.Sort(names)
	for _, domain := range s.domains {
		names = append(names, `[a-z0-9._-]+`+regexp.QuoteMeta(string(domain)))
	}
	return `^((\[[0-9a-f:.]+\]|([0-9][0-9.]*|[a-z0-9_-]+|` + strings.Join(names, "|") + `)\.?)(:[0-9]*)?)?$`
}

func only(b []byte, is func(byte) bool) bool {
	for _, c := range b {
		if !is(c) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isNumber(c byte) bool { return isDigit(c) || c == '.' }
func isName(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isNumber(c) || c == '-' || c == '_'
}
func isAddress(c byte) bool {
	return isNumber(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' || c == ':'
}

// isPort reports whether a text is empty, or a colon and a port.
func isPort(text []byte) bool {
	return len(text) == 0 || text[0] == ':' && only(text[1:], isDigit)
}
