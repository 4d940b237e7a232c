package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAnAuthorityIsValidForLongAndSinceYesterday(t *testing.T) {
	t.Parallel()
	cert := newAuthority(t, "shop", start).Certificate()
	if cert.NotBefore != start.Add(-24*time.Hour) || cert.NotAfter.Before(start.AddDate(29, 0, 0)) {
		t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
	}
	if !cert.IsCA || !cert.MaxPathLenZero || cert.PublicKey.(*ecdsa.PublicKey).Curve != elliptic.P256() {
		t.Error("it is no authority of hosts alone, with a key of P-256")
	}
	for _, name := range []string{"", "Shop", "shop_1", "a b", "-a", strings.Repeat("a", 33), "shop/host"} {
		if _, err := NewAuthority(name, start, rand.Reader); err == nil {
			t.Errorf("a stack called %q", name)
		}
	}
}

func TestTheCertificateOfAHostSaysWhoItIsAndWhereItIsReached(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	g := grant(t, "shop", Host, "two")
	g.Addresses = []netip.Addr{netip.MustParseAddr("198.18.7.2"), netip.MustParseAddr("fd00::2")}
	cert := issue(t, a, g, start).Certificate

	if cert.NotBefore != start.Add(-24*time.Hour) || cert.NotAfter != start.Add(90*24*time.Hour) {
		t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
	}
	if !slices.Equal(cert.DNSNames, []string{"two"}) || len(cert.IPAddresses) != 2 || cert.IsCA {
		t.Errorf("for %v, %v, an authority: %v", cert.DNSNames, cert.IPAddresses, cert.IsCA)
	}
	if got, want := cert.URIs[0].String(), "spiffe://shop/host/two/"+g.Peer.ID; len(cert.URIs) != 1 || got != want {
		t.Errorf("the URI is %s, want %s", got, want)
	}
	peer := must[Peer](t)(PeerOf(cert))
	if !peer.Same(g.Peer) || peer.Serial == "" || peer.String() != "host two" {
		t.Errorf("it is for %+v, want %+v", peer, g.Peer)
	}
	operator := issue(t, a, grant(t, "shop", Operator, "anna"), start).Certificate
	if slices.Contains(operator.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || len(operator.DNSNames) != 0 {
		t.Error("an operator's certificate can serve")
	}
}

func TestWhatARequestSaysOfItselfIsNotTaken(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	key := newKey(t)
	der := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "one"}, DNSNames: []string{"one", "*"}, IPAddresses: []net.IP{net.IPv4(198, 18, 7, 1)},
		URIs:            []*url.URL{{Scheme: "spiffe", Host: "shop", Path: "/operator/root/0000000000000000"}},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}, // an authority
	}, key))
	cert := must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(a.Issue(der, grant(t, "shop", Host, "two"), start, rand.Reader))))
	if cert.Subject.CommonName != "two" || !slices.Equal(cert.DNSNames, []string{"two"}) || len(cert.URIs) != 1 || cert.IsCA ||
		len(cert.IPAddresses) != 1 || !cert.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) {
		t.Errorf("it was taken: %s, %v, %v, %v", cert.Subject, cert.DNSNames, cert.IPAddresses, cert.URIs)
	}
}

func TestAnAuthorityRefusesWhatItMayNotIssue(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	key := newKey(t)
	good := request(t, key)
	forged := slices.Clone(good)
	forged[len(forged)-1] ^= 1
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	other := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, ed))
	p384 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	long := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384))

	for name, c := range map[string]struct {
		request []byte
		stack   string
		at      time.Time
		reason  Reason
		words   string
	}{
		"nonsense":                   {[]byte("nonsense"), "shop", start, BadRequest, "cannot be read"},
		"nothing":                    {nil, "shop", start, BadRequest, "cannot be read"},
		"a key of somebody else":     {forged, "shop", start, BadRequest, "not signed with its own key"},
		"a key that HAProxy may not": {other, "shop", start, BadRequest, "P-256"},
		"a longer key":               {long, "shop", start, BadRequest, "P-256"},
		"another stack":              {good, "store", start, OtherStack, "store"},
		"a clock two days behind":    {good, "shop", start.Add(-48 * time.Hour), ClockOff, "set the clock"},
		"after its end":              {good, "shop", start.AddDate(31, 0, 0), Expired, "ended at 2056"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Issue(c.request, grant(t, c.stack, Host, "two"), c.at, rand.Reader)
			wantReason(t, err, c.reason, c.words)
		})
	}
	for _, name := range []string{"", "Two", "a.b", "a b", "-a", "*", "x/y", strings.Repeat("a", 64)} {
		if _, err := a.Issue(good, grant(t, "shop", Host, name), start, rand.Reader); err == nil {
			t.Errorf("a host called %q", name)
		}
	}
	late := issue(t, a, grant(t, "shop", Host, "two"), start.Add(authorityLife-24*time.Hour))
	if late.Certificate.NotAfter.After(a.Certificate().NotAfter) {
		t.Error("a certificate outlives its authority")
	}
}

func TestForeignCertificatesAreForNobody(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"", "https://shop/host/two/0123456789abcdef", "spiffe://shop/host/two", "spiffe://shop/host/two/0123456789abcdef/x",
		"spiffe://shop/root/two/0123456789abcdef", "spiffe://shop/host/Two/0123456789abcdef", "spiffe://shop/host/two/0123456789abcdeg",
		"spiffe://shop:1/host/two/0123456789abcdef", "spiffe://shop/host/two/0123456789abcdef?x", "spiffe://a@shop/host/two/0123456789abcdef",
		"spiffe://shop/host/two/0123456789abcdef#x", "spiffe://shop/host/tw%6f/0123456789abcdef", "spiffe:shop/host/two/0123456789abcdef",
		"spiffe://shop//two/0123456789abcdef", "spiffe://shop/host/\x1b[31m/0123456789abcdef",
	} {
		cert := &x509.Certificate{SerialNumber: big.NewInt(1)}
		if uri != "" {
			u, err := url.Parse(uri)
			if err != nil {
				u = &url.URL{Scheme: "spiffe", Host: "shop", Path: "/host/\x1b[31m/0123456789abcdef"}
			}
			cert.URIs = []*url.URL{u}
		}
		_, err := PeerOf(cert)
		wantReason(t, err, NotOurs)
		if err != nil && strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q moves the cursor", err)
		}
	}
	two := must[*url.URL](t)(url.Parse("spiffe://shop/host/two/0123456789abcdef"))
	_, err := PeerOf(&x509.Certificate{SerialNumber: big.NewInt(1), URIs: []*url.URL{two, two}})
	wantReason(t, err, NotOurs)
}
