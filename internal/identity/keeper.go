package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lookEvery is how often a keeper looks at the clock, which may have been set, or have
	// stood still with a machine that slept.
	lookEvery = time.Hour
	// retryFirst and retryMost are the waits after a renewal that failed; each is twice the
	// one before.
	retryFirst, retryMost = time.Minute, time.Hour
)

// Renew asks the authority for a new certificate for a key; request is what NewRequest
// makes, and the certificate is returned in DER.
type Renew func(ctx context.Context, request []byte) (certificate []byte, err error)

// Keeper has the newest credentials of a host, and renews them. All but Run may be called
// at any time, by anybody.
type Keeper struct {
	dir   *Dir
	renew Renew
	now   func() time.Time

	renewing sync.Mutex
	newest   atomic.Pointer[shown]
}

// shown is what a host shows at handshakes.
type shown struct {
	credentials          Credentials
	alone, withAuthority *tls.Certificate
}

// NewKeeper returns a keeper of the credentials in a directory. Its error is
// fs.ErrNotExist where there are none.
func NewKeeper(dir *Dir, renew Renew, now func() time.Time) (*Keeper, error) {
	c, err := dir.Load()
	if err != nil {
		return nil, err
	}
	k := &Keeper{dir: dir, renew: renew, now: now}
	k.show(c)
	return k, nil
}

func (k *Keeper) show(c Credentials) {
	k.newest.Store(&shown{c, c.tls(), c.tlsWithAuthority()})
}

// Credentials returns the newest credentials.
func (k *Keeper) Credentials() Credentials { return k.newest.Load().credentials }

// GetCertificate is for tls.Config: each handshake shows the newest certificate.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return k.newest.Load().alone, nil
}

// GetClientCertificate is GetCertificate for clients.
func (k *Keeper) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return k.newest.Load().alone, nil
}

// Due returns when a certificate is to be renewed: after two thirds of its life.
func Due(cert *x509.Certificate) time.Time {
	issued := cert.NotBefore.Add(backdate)
	return issued.Add(cert.NotAfter.Sub(issued) * 2 / 3)
}

// Renew renews the credentials now, with a new key. It returns the paths of the files that
// changed: Redis takes them by CONFIG SET, HAProxy by a reload; Sentinel 7.0 has to be
// started anew. Open connections stay. When it fails, the old credentials stay in force.
func (k *Keeper) Renew(ctx context.Context) (changed []string, err error) {
	k.renewing.Lock()
	defer k.renewing.Unlock()

	old := k.Credentials()
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	request, err := NewRequest(key)
	if err != nil {
		return nil, err
	}
	der, err := k.renew(ctx, request)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, damaged("the new certificate cannot be read: %w", err)
	}
	c, err := NewCredentials(old.Authority, cert, key)
	if err != nil {
		return nil, err
	}
	if !c.Peer().Same(old.Peer()) {
		return nil, refuse(OtherHost, "the new certificate is for %s (%s) and not for %s (%s)", c.Peer(), c.Peer().ID, old.Peer(), old.Peer().ID)
	}
	if err := checkTime(c, k.now()); err != nil {
		return nil, err
	}
	if changed, err = k.dir.Save(c); len(changed) > 0 {
		// From here on the files have the new ones, whatever else went wrong.
		k.show(c)
	}
	return changed, err
}

// checkTime refuses new credentials that this host's clock does not accept.
func checkTime(c Credentials, now time.Time) error {
	trust, err := NewTrust(c.Authority, nil, func() time.Time { return now })
	if err != nil {
		return err
	}
	_, err = trust.Verify(c.Certificate, x509.ExtKeyUsageClientAuth)
	return err
}

// Run renews the credentials when it is time, until ctx ends. It reports each renewal: the
// files that changed, or why it failed, after which it tries again.
func (k *Keeper) Run(ctx context.Context, report func(changed []string, err error)) {
	for retry := time.Duration(0); ; {
		timer := time.NewTimer(k.wait(retry))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}

		cert := k.Credentials().Certificate
		if k.now().Before(Due(cert)) {
			retry = 0
			continue
		}
		changed, err := k.Renew(ctx)
		if ctx.Err() != nil && err != nil {
			return
		}
		if err != nil {
			retry = min(max(2*retry, retryFirst), retryMost)
			err = fmt.Errorf("the certificate of %s cannot be renewed, %s: %w", k.Credentials().Peer(), ends(cert.NotAfter, k.now()), err)
		} else {
			// Near the end of the authority, new certificates are due at once.
			retry = retryFirst
		}
		report(changed, err)
	}
}

// wait returns how long to wait before the next look, or the next try.
func (k *Keeper) wait(retry time.Duration) time.Duration {
	if retry > 0 {
		return retry
	}
	return min(max(Due(k.Credentials().Certificate).Sub(k.now()), 0), lookEvery)
}

// ends says when a certificate ends, for a person.
func ends(at, now time.Time) string {
	switch left := at.Sub(now); {
	case left <= 0:
		return "and it ended at " + stamp(at)
	case left < 48*time.Hour:
		return fmt.Sprintf("and it ends in %d hours", int(left.Hours()))
	default:
		return fmt.Sprintf("and it ends in %d days", int(left.Hours()/24))
	}
}
