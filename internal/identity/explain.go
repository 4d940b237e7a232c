package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"reflect"

	"holdfast/internal/quote"
)

// Explain turns an error of a TLS connection into an *Error with advice, if this end has
// refused the certificate of the other end, or the other end has refused this one's. It returns
// other errors unchanged. Whom is the name of the other end, such as "host two".
func (t *Trust) Explain(err error, whom string) error {
	if told := new(Error); errors.As(err, &told) {
		return told
	}
	if failed := new(tls.CertificateVerificationError); errors.As(err, &failed) && len(failed.UnverifiedCertificates) > 0 {
		return t.explain(failed.Err, failed.UnverifiedCertificates[0], whom)
	}
	if number, ok := remoteAlert(err); ok {
		return explainAlert(number, err, whom)
	}
	return err
}

// explain is Explain for an error of package x509 about a certificate.
func (t *Trust) explain(err error, cert *x509.Certificate, whom string) error {
	now := t.now()
	invalid := x509.CertificateInvalidError{}
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.Before(cert.NotBefore):
		return refuse(NotYetValid, "the certificate of %s is valid from %s on, and this host's clock says %s: this clock is behind, or another host's was ahead when the certificate was issued; set the clocks of both (timedatectl, chronyc tracking)",
			whom, stamp(cert.NotBefore), stamp(now))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return refuse(Expired, "the certificate of %s ended at %s, and this host's clock says %s: if this clock is right, %s could not renew its certificate, which its log explains; it can join again with 'holdfast host add'",
			whom, stamp(cert.NotAfter), stamp(now), whom)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return refuse(WrongUse, "the certificate of %s is not for this use: an operator's certificate cannot serve", whom)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return refuse(OtherAuthority, "the certificate of %s (issued by %s) is not from the authority of stack %s: another stack answers at this address, or somebody in between",
			whom, quote.Text(cert.Issuer.CommonName), t.stack)
	case errors.As(err, new(x509.HostnameError)):
		return refuse(OtherHost, "%s was expected at the other end, and there is %s: the address in the stack file is another host's, or the hosts have exchanged their addresses", whom, nameOf(cert))
	}
	return refuse(NotOurs, "the certificate of %s cannot be used: %w", whom, err)
}

// nameOf returns the owner that a certificate names, for messages.
func nameOf(cert *x509.Certificate) string {
	if peer, err := PeerOf(cert); err == nil {
		return peer.String()
	}
	return "a certificate of " + quote.Text(cert.Subject.String())
}

// The alerts by which the other end refuses a certificate (RFC 8446, section 6.2).
const (
	alertBadCertificate      = 42
	alertUnsupported         = 43
	alertCertificateExpired  = 45
	alertUnknownAuthority    = 48
	alertCertificateRequired = 116
)

func explainAlert(number uint64, err error, whom string) error {
	switch number {
	case alertBadCertificate, alertUnsupported:
		return refuse(Refused, "%s refused this host's certificate: this host was removed from the stack, or has another role than needed; the log of %s says more: %w", whom, whom, err)
	case alertCertificateExpired:
		return refuse(Expired, "%s refused this host's certificate because of its time: the certificate has ended, or one of the two clocks is wrong: %w", whom, err)
	case alertUnknownAuthority:
		return refuse(OtherAuthority, "%s refused this host's certificate as another authority's: it belongs to another stack: %w", whom, err)
	case alertCertificateRequired:
		return refuse(NotOurs, "%s wants a certificate, and this side showed none: %w", whom, err)
	}
	return err
}

// remoteAlert returns the number of the alert that the other end has sent. Package tls has no
// exported type for it: the error is a net.OpError around an unsigned integer (tls/conn.go).
func remoteAlert(err error) (number uint64, ok bool) {
	op := new(net.OpError)
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return v.Uint(), true
}
