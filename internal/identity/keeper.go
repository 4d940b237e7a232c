package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/clock"
)

const (
	// lookEvery is the longest time between two checks of the clock. The clock may have been
	// set, or the machine may have been asleep.
	lookEvery = time.Hour
	// retryFirst is the wait after a failed renewal, and doubles with each further failure up
	// to retryMost.
	retryFirst, retryMost = time.Minute, time.Hour
)

// Renew obtains a new certificate from the authority. The request is one of NewRequest; the
// certificate is in DER.
type Renew func(ctx context.Context, request []byte) (certificate []byte, err error)

// Keeper has the newest credentials of a host, and renews them. Its methods are safe for
// concurrent use; Run may run only once.
type Keeper struct {
	dir   *Dir
	renew Renew
	now   func() time.Time

	renewing sync.Mutex
	newest   atomic.Pointer[shown]
}

// shown is the credentials of a host in the forms that TLS handshakes need.
type shown struct {
	credentials          Credentials
	alone, withAuthority *tls.Certificate
}

// NewKeeper returns a keeper of the credentials in a directory. The error is fs.ErrNotExist if
// there are none.
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

// GetCertificate returns the newest certificate. It is for the field of tls.Config.
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

// Renew renews the credentials now, with a new key. It returns the paths of the files that have
// changed. Redis takes new files over by CONFIG SET, HAProxy by a reload; Sentinel 7.0 has to
// be restarted. Open connections stay open. If Renew fails and has changed no file, the old
// credentials stay in use.
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
		// The files have the new credentials from here on, whatever else failed.
		k.show(c)
	}
	return changed, err
}

// checkTime returns an *Error if the credentials are not valid at this time.
func checkTime(c Credentials, now time.Time) error {
	trust, err := NewTrust(c.Authority, nil, func() time.Time { return now })
	if err != nil {
		return err
	}
	_, err = trust.Verify(c.Certificate, x509.ExtKeyUsageClientAuth)
	return err
}

// Run renews the credentials whenever that is due, until ctx ends. It calls report after each
// attempt with the files that have changed, or the error. After an error it tries again.
func (k *Keeper) Run(ctx context.Context, report func(changed []string, err error)) {
	for retry := time.Duration(0); ; {
		if !clock.Sleep(ctx, k.wait(retry)) {
			return
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
			// Shortly before the authority expires, new certificates are due at once. So there
			// is a pause after a success, too.
			retry = retryFirst
		}
		report(changed, err)
	}
}

// wait returns how long to wait before the next check of the clock, or the next attempt.
func (k *Keeper) wait(retry time.Duration) time.Duration {
	if retry > 0 {
		return retry
	}
	return min(max(Due(k.Credentials().Certificate).Sub(k.now()), 0), lookEvery)
}

// ends returns a phrase about when a certificate expires, for a message.
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
