package pod

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/identity"
	"holdfast/internal/plan"
)

// protocol is the protocol between pods, as TLS negotiates it (ALPN, RFC 7301).
const protocol = "http/1.1"

// Identity is the identity of a pod: its certificate, which it issues to itself with the
// authority that is derived from the stack's seed.
type Identity struct {
	keeper *identity.Keeper
	trust  *identity.Trust
}

// Bearer is the owner of a certificate.
type Bearer struct {
	Node      string
	Addresses []netip.Addr // where the node is reached
	Life      time.Duration
}

// OpenIdentity returns the identity of a pod. Its files are in the state directory, under the
// names of the plan. An earlier certificate is kept while it is good, because the pod's
// Sentinel would have to be restarted for a new one.
func OpenIdentity(stateDir string, authority *identity.Authority, b Bearer) (*Identity, error) {
	dir, err := identity.OpenDir(filepath.Join(stateDir, filepath.Dir(plan.CertificateFile)))
	if err != nil {
		return nil, err
	}
	trust, err := identity.NewTrust(authority.Certificate(), nil, time.Now)
	if err != nil {
		return nil, err
	}
	// A certificate that cannot be read is replaced.
	if c, err := dir.Load(); err != nil || !b.has(c, authority) {
		if err := b.issue(dir, authority); err != nil {
			return nil, err
		}
	}
	id := &Identity{trust: trust}
	renew := func(_ context.Context, request []byte) ([]byte, error) {
		return authority.Issue(request, b.grant(id.keeper.Credentials().Peer()), time.Now(), rand.Reader)
	}
	if id.keeper, err = identity.NewKeeper(dir, renew, time.Now); err != nil {
		return nil, err
	}
	return id, nil
}

func (b Bearer) grant(peer identity.Peer) identity.Grant {
	return identity.Grant{Peer: peer, Addresses: b.Addresses, Life: b.Life}
}

// issue makes a certificate with a new key.
func (b Bearer) issue(dir *identity.Dir, authority *identity.Authority) error {
	id, err := identity.NewID(rand.Reader)
	if err != nil {
		return err
	}
	peer := identity.Peer{Stack: authority.Stack(), Role: identity.Host, Name: b.Node, ID: id}
	c, err := authority.Credentials(b.grant(peer), time.Now(), rand.Reader)
	if err != nil {
		return fmt.Errorf("issue the certificate of this pod: %w", err)
	}
	_, err = dir.Save(c)
	return err
}

// has reports whether credentials are the bearer's, are of this authority, and are not due for
// renewal.
func (b Bearer) has(c identity.Credentials, authority *identity.Authority) bool {
	var addresses []netip.Addr
	for _, ip := range c.Certificate.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			addresses = append(addresses, a.Unmap())
		}
	}
	now := time.Now()
	return c.Authority.Equal(authority.Certificate()) && c.Peer().Name == b.Node &&
		slices.Equal(addresses, b.Addresses) && now.After(c.Certificate.NotBefore) && now.Before(identity.Due(c.Certificate))
}

// Server returns the TLS settings with which this pod serves other pods.
func (id *Identity) Server() *tls.Config { return id.trust.Server(id.keeper, protocol) }

// Client returns the TLS settings with which this pod connects to the pod of a node.
func (id *Identity) Client(node string) *tls.Config {
	return id.trust.Client(id.keeper, node, protocol)
}

// Keep renews the certificate when it is due, until ctx ends. The readers of its file notice
// the new certificate themselves.
func (id *Identity) Keep(ctx context.Context, log *slog.Logger) {
	id.keeper.Run(ctx, func(changed []string, err error) {
		if err != nil {
			log.Error("the certificate of this pod was not renewed", "error", err)
		}
		if len(changed) > 0 {
			log.Info("the certificate of this pod was renewed", "until", id.keeper.Credentials().Certificate.NotAfter)
		}
	})
}

// Addresses parses addresses, and returns them without duplicates, in their order.
func Addresses(texts ...string) (all []netip.Addr, err error) {
	for _, text := range texts {
		a, e := netip.ParseAddr(text)
		if err = errors.Join(err, e); e == nil && !slices.Contains(all, a.Unmap()) {
			all = append(all, a.Unmap())
		}
	}
	return all, err
}
