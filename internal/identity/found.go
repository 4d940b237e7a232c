package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"time"
)

// Found makes the authority of a stack and the credentials of its first host. It keeps what
// exists already, so that it can be called again after an interrupted start.
func Found(dir *Dir, stack, host string, addresses []netip.Addr, now time.Time, random io.Reader) (*Authority, Credentials, error) {
	a, err := dir.LoadAuthority()
	if errors.Is(err, fs.ErrNotExist) {
		a, err = foundAuthority(dir, stack, now, random)
	}
	if err != nil {
		return nil, Credentials{}, err
	}
	if a.Stack() != stack {
		return nil, Credentials{}, refuse(OtherStack, "%s has the authority of stack %s and not of stack %s: choose another state directory, or put the name back", dir.path, a.Stack(), stack)
	}

	c, err := dir.Load()
	if errors.Is(err, fs.ErrNotExist) {
		c, err = foundHost(dir, a, host, addresses, now, random)
	}
	if err != nil {
		return nil, Credentials{}, err
	}
	if !c.Authority.Equal(a.Certificate()) || c.Peer().Name != host {
		return nil, Credentials{}, refuse(OtherHost, "%s has the certificate of %s of stack %s, and host %s of stack %s was to be there", dir.path, c.Peer(), c.Peer().Stack, host, stack)
	}
	return a, c, nil
}

// foundAuthority makes an authority, unless the directory has credentials. A host with
// credentials has joined a stack, and a second authority would split that stack.
func foundAuthority(dir *Dir, stack string, now time.Time, random io.Reader) (*Authority, error) {
	switch c, err := dir.Load(); {
	case err == nil:
		return nil, refuse(OtherAuthority, "%s has the certificate of %s, and not the authority that issued it: another host of stack %s has that", dir.path, c.Peer(), c.Peer().Stack)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	a, err := NewAuthority(stack, now, random)
	if err != nil {
		return nil, err
	}
	return a, dir.SaveAuthority(a)
}

func foundHost(dir *Dir, a *Authority, host string, addresses []netip.Addr, now time.Time, random io.Reader) (Credentials, error) {
	id, err := NewID(random)
	if err != nil {
		return Credentials{}, err
	}
	c, err := a.Credentials(Grant{Peer{Stack: a.Stack(), Role: Host, Name: host, ID: id}, addresses, DefaultLife}, now, random)
	if err != nil {
		return Credentials{}, err
	}
	_, err = dir.Save(c)
	return c, err
}

// Credentials makes a key and issues a certificate for it: for a host that has the authority
// itself, or for an operator.
func (a *Authority) Credentials(g Grant, now time.Time, random io.Reader) (Credentials, error) {
	key, err := NewKey()
	if err != nil {
		return Credentials{}, err
	}
	request, err := NewRequest(key)
	if err != nil {
		return Credentials{}, err
	}
	der, err := a.Issue(request, g, now, random)
	if err != nil {
		return Credentials{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Credentials{}, fmt.Errorf("read the certificate of %s: %w", g.Peer, err)
	}
	return NewCredentials(a.cert, cert, key)
}
