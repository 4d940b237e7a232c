package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issued is a certificate with its key.
type issued struct {
	leaf *x509.Certificate
	key  crypto.Signer
}

// issue makes a certificate that by has signed; with nil it is self-signed.
func issue(t *testing.T, by *issued, authority bool, names ...string) issued {
	t.Helper()
	key := newKey(t)
	about := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: strings.Join(names, "+")},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: authority, BasicConstraintsValid: true,
	}
	if !authority {
		about.DNSNames = names
	}
	parent, signer := about, key
	if by != nil {
		parent, signer = by.leaf, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, about, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issued{leaf, key}
}

func (i issued) certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.leaf.Raw})
}

func keyPEM(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func join(texts ...[]byte) []byte { return slices.Concat(texts...) }

func TestAPairIsReadFromOneFileOrTwo(t *testing.T) {
	root := issue(t, nil, true, "root")
	middle := issue(t, &root, true, "middle")
	one := issue(t, &middle, false, "www.example.com")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalECPrivateKey(one.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	about := *one.leaf
	about.SignatureAlgorithm, about.PublicKey = x509.UnknownSignatureAlgorithm, nil
	self, err := x509.CreateCertificate(rand.Reader, &about, &about, rsaKey.Public(), rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, texts := range map[string][2][]byte{
		"two files":                      {join(one.certificate(), middle.certificate()), keyPEM(t, one.key)},
		"one file":                       {join(one.certificate(), middle.certificate(), keyPEM(t, one.key)), nil},
		"one file with the key first":    {join(keyPEM(t, one.key), one.certificate(), middle.certificate()), nil},
		"words between":                  {join([]byte("subject=x\n"), one.certificate(), []byte("\nissuer\n"), middle.certificate()), keyPEM(t, one.key)},
		"a key of the older form":        {join(one.certificate(), middle.certificate()), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec})},
		"a key of the older form of RSA": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: self}), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})},
	} {
		p, err := Read(texts[0], texts[1])
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := tls.X509KeyPair(p.PEM, p.PEM); err != nil {
			t.Errorf("%s: what is written is not read: %v", name, err)
		}
		if again, err := Read(p.PEM, nil); err != nil || string(again.PEM) != string(p.PEM) {
			t.Errorf("%s: read again it is another: %v", name, err)
		}
	}
}

func TestWhatCannotBeShownIsRefused(t *testing.T) {
	root := issue(t, nil, true, "root")
	one, other := issue(t, &root, false, "one.example"), issue(t, &root, false, "other.example")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this Go makes no short keys: ", err)
	}
	weak, err := x509.CreateCertificate(rand.Reader, one.leaf, root.leaf, short.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	weakPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: weak})
	for says, texts := range map[string][2][]byte{
		"there is no certificate":              {keyPEM(t, one.key), nil},
		"there is no private key":              {one.certificate(), nil},
		"there is no private key in it":        {one.certificate(), one.certificate()},
		"not that of the certificate":          {one.certificate(), keyPEM(t, other.key)},
		"certificate 2 in it":                  {join(root.certificate(), one.certificate()), keyPEM(t, one.key)},
		"the private key is encrypted":         {one.certificate(), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})},
		"key is encrypted, and nobody":         {one.certificate(), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: []byte("x")})},
		"certificate 1 in it is damaged":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), keyPEM(t, one.key)},
		"only 1 of them are whole":             {join(one.certificate(), root.certificate()[:200]), keyPEM(t, one.key)},
		"begin with \"-----BEGIN …\", and":     {join(one.certificate(), []byte("-----BEGIN CERTIFICATE-----\nAAA\n"), root.certificate()), keyPEM(t, one.key)},
		"the key: it has 1 parts":              {one.certificate(), keyPEM(t, one.key)[:80]},
		"the private key is damaged":           {one.certificate(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})},
		"1024 bits":                            {weakPEM, keyPEM(t, short)},
		"write the file of the certificate":    {nil, keyPEM(t, one.key)},
		"-----BEGIN CERTIFICATE-----":          {[]byte("half of a file"), keyPEM(t, one.key)},
		"write the two that were made togethe": {one.certificate(), keyPEM(t, other.key)},
	} {
		if _, err := Read(texts[0], texts[1]); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

func TestACertificateIsGoodForItsTime(t *testing.T) {
	one := issue(t, nil, false, "one.example")
	p := Pair{Leaf: one.leaf}
	for at, says := range map[time.Time]string{
		now:                      "",
		now.Add(-2 * time.Hour):  "good from 2026-03-04 04:06 UTC only",
		now.Add(25 * time.Hour):  "ended on 2026-03-05 05:06 UTC: renew it",
		one.leaf.NotAfter:        "",
		one.leaf.NotBefore:       "",
		now.Add(100 * time.Hour): "one.example",
	} {
		err := p.At(at)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("at %v: %v, want %q", at, err, says)
		}
	}
}

func TestNamesThatACertificateIsFor(t *testing.T) {
	c := &x509.Certificate{DNSNames: []string{"www.example.com", "*.shop.example"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1")}}
	for name, want := range map[string]bool{
		"www.example.com": true, "WWW.example.com": true, "example.com": false, "a.shop.example": true,
		"a.b.shop.example": false, "*.shop.example": true, "*.example.com": false, "192.0.2.1": true, "192.0.2.2": false,
	} {
		if Covers(c, name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	narrow := &x509.Certificate{DNSNames: []string{"www.example.com"}}
	if !CoversAll(c, narrow) || CoversAll(narrow, c) {
		t.Error("the names of two certificates are not compared")
	}
}

func TestAChainThatLacksTheIssuerIsTold(t *testing.T) {
	root := issue(t, nil, true, "root")
	middle := issue(t, &root, true, "middle")
	one := issue(t, &middle, false, "www.example.com")
	alone := Pair{Leaf: one.leaf}
	if gap := alone.Gap(); !strings.Contains(gap, "middle") || !strings.Contains(gap, "fullchain.pem") {
		t.Errorf("without the issuer: %q", gap)
	}
	wrong := Pair{Leaf: one.leaf, Chain: []*x509.Certificate{root.leaf}}
	if wrong.Gap() == "" {
		t.Error("a chain that is another's is taken")
	}
	for what, p := range map[string]Pair{
		"with the issuer": {Leaf: one.leaf, Chain: []*x509.Certificate{middle.leaf}},
		"self-signed":     {Leaf: issue(t, nil, false, "x.example").leaf},
	} {
		if gap := p.Gap(); gap != "" {
			t.Errorf("%s: %s", what, gap)
		}
	}
}

func TestASelfSignedCertificateIsRenewedWithItsKey(t *testing.T) {
	names := []string{"www.example.com", "127.0.0.1", "::1"}
	p, err := SelfSigned(names, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.Leaf)
	for _, name := range []string{"www.example.com", "[127.0.0.1]", "[::1]"} {
		if _, err := p.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Renew(p.Leaf, names, now.Add(300*24*time.Hour)) || !Renew(p.Leaf, names, now.Add(336*24*time.Hour)) || !Renew(p.Leaf, append(names, "other.example"), now) {
		t.Error("it is not made anew a month before its end, or for another name")
	}
	next, err := SelfSigned(names, &p, now.Add(336*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if !next.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(p.Leaf.PublicKey) || next.Leaf.SerialNumber.Cmp(p.Leaf.SerialNumber) == 0 {
		t.Error("the next one has another key, or the same serial number")
	}
}

func TestCertificatesAreFoundInAFolder(t *testing.T) {
	files := map[string][]byte{}
	for _, name := range strings.Fields("b.pem a.crt a.key sub/fullchain.pem sub/privkey.pem sub/cert.pem sub/chain.pem k8s/tls.crt k8s/tls.key README .hidden.pem") {
		files[name] = []byte(name)
	}
	var got []string
	for _, s := range Folder(files, nil) {
		got = append(got, s.Name+" "+string(s.Certificate)+" "+string(s.Key))
	}
	want := []string{"a.crt a.crt a.key", "b.pem b.pem ", "k8s/tls.crt k8s/tls.crt k8s/tls.key", "sub/fullchain.pem sub/fullchain.pem sub/privkey.pem"}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}

	// A problem with one certificate does not affect the others.
	more := maps.Clone(files)
	more["c.key"] = []byte("c")
	delete(more, "a.key")
	wrong := map[string]error{"a.key": errors.New("forbidden"), "d.pem": errors.New("leads nowhere"), "closed": errors.New("forbidden, too")}
	var says []string
	for _, s := range Folder(more, wrong) {
		if s.Wrong != nil {
			says = append(says, fmt.Sprint(s.Name, ": ", s.Wrong, " ", s.IsFolder))
		}
	}
	want = []string{"a.crt: forbidden false", "c.key: it has no certificate beside it: write c.crt there false", "closed: forbidden, too true", "d.pem: leads nowhere false"}
	if !slices.Equal(says, want) {
		t.Errorf("wrong are %q, want %q", says, want)
	}
	if all := Folder(more, wrong); len(all) != len(got)+3 {
		t.Errorf("with these there are %d", len(all))
	}
}

func TestAPinnedClientAsksAgainAfterARenewal(t *testing.T) {
	one, other, stranger := issue(t, nil, false, "one"), issue(t, nil, false, "other"), issue(t, nil, false, "stranger")
	known, asked := []string{Fingerprint(one.leaf)}, 0
	var failed error
	c := Pinned(func() ([]string, error) { asked++; return known, failed })
	shows := func(i issued) error {
		return c.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{i.leaf}})
	}
	if err := errors.Join(shows(one), shows(one)); err != nil || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	if shows(other) == nil || c.VerifyConnection(tls.ConnectionState{}) == nil {
		t.Error("another certificate is trusted")
	}
	known = []string{Fingerprint(other.leaf)}
	if err := shows(other); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
	if shows(stranger) == nil {
		t.Error("a stranger is trusted")
	}
	if failed = errors.New("gone"); shows(stranger) == nil || shows(other) != nil {
		t.Error("while nobody says what is shown, what is known does not count")
	}
}
