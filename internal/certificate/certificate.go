// Package certificate checks certificates that a server is to show: whether certificate, chain
// and key belong together, for how long and for which names they are valid, and whether clients
// can verify them. It finds the certificates in a folder (folder.go), makes a self-signed one
// for trying out (self.go), and lets the stack's own clients trust certain certificates
// (trust.go). It works on contents: it reads no files, and does not know who shows a certificate.
package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Pair is a certificate with its chain and its key, which belong together.
type Pair struct {
	// PEM has the certificate, the chain and the key, in this order.
	PEM []byte
	// Leaf is the certificate itself, and Chain the certificates after it.
	Leaf  *x509.Certificate
	Chain []*x509.Certificate
	// Digest is the SHA-256 of PEM, and identifies the pair. Fingerprint is that of the
	// certificate.
	Digest, Fingerprint string
}

// leastRSA is the least number of bits of an RSA key. OpenSSL refuses shorter ones.
const leastRSA = 2048

// Read parses a certificate with its chain, and its key, from PEM. If certificate has the key
// as well, key is nil. The error tells what is wrong and what to do.
func Read(certificate, key []byte) (Pair, error) {
	var p Pair
	var own, other crypto.Signer
	var err error
	if p.Chain, own, err = parse(certificate); err != nil {
		return Pair{}, err
	}
	if len(p.Chain) == 0 {
		return Pair{}, errors.New("there is no certificate in it (\"-----BEGIN CERTIFICATE-----\"): write the file of the certificate and its chain, in PEM")
	}
	if key != nil {
		if _, other, err = parse(key); err != nil {
			return Pair{}, fmt.Errorf("the key: %w", err)
		}
		own = other
	}
	if own == nil {
		return Pair{}, errors.New("there is no private key in it (\"-----BEGIN PRIVATE KEY-----\"): write the file of the key, in PEM")
	}
	p.Leaf, p.Chain = p.Chain[0], p.Chain[1:]
	if err := p.fits(own); err != nil {
		return Pair{}, err
	}
	return p, p.encode(own)
}

// begin is the beginning of each part of PEM.
const begin = "-----BEGIN "

// parse parses the certificates and the key of a text. It returns an error for a part without
// an end, or a damaged one. Package pem would skip such a part, so a file that is just being
// written could be taken for a certificate without its chain.
func parse(text []byte) (all []*x509.Certificate, key crypto.Signer, err error) {
	begun, read := bytes.Count(text, []byte(begin)), 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		read++
	}

	if read < begun {
		return nil, nil, fmt.Errorf("it has %d parts that begin with \"%s…\", and only %d of them are whole: it was cut off or is damaged; write the whole file", begun, begin, read)
	}

	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("certificate %d in it is damaged (%w)", len(all)+1, err)
			}
			all = append(all, c)
		case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, nil, errors.New("the private key is encrypted, and nobody is there to type its passphrase: write it without one ('openssl pkey -in KEY -out PLAIN'), readable to Holdfast's user alone")
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && key == nil:
			if key, err = parseKey(block.Bytes); err != nil {
				return nil, nil, err
			}
		}
	}
	return all, key, nil
}

func parseKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("the private key is damaged, or of a kind that is not known (%w)", err)
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key is of a kind that cannot sign: write that of the certificate")
	}
	return signer, nil
}

// publicKey is the interface of all public keys of the standard library.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// fits returns why a certificate and a key cannot be used together, or nil.
func (p Pair) fits(key crypto.Signer) error {
	public, ok := key.Public().(publicKey)
	if !ok || !public.Equal(p.Leaf.PublicKey) {
		for i, c := range p.Chain {
			if ok && public.Equal(c.PublicKey) {
				return fmt.Errorf("the key is that of certificate %d in it, and not of the first: write the certificate itself first, and its chain after it", i+2)
			}
		}
		return fmt.Errorf("the key is not that of the certificate (%s): write the two that were made together", Subject(p.Leaf))
	}
	if k, is := key.(*rsa.PrivateKey); is && k.N.BitLen() < leastRSA {
		return fmt.Errorf("the RSA key has %d bits, and clients take %d at least: have a new one made", k.N.BitLen(), leastRSA)
	}
	if k, is := key.(*ecdsa.PrivateKey); is && k.Curve.Params().BitSize < 256 {
		return errors.New("the EC key is of a curve that clients do not take: have one of P-256 made")
	}
	return nil
}

// encode sets PEM and the fields that follow from it.
func (p *Pair) encode(key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("the private key: %w", err)
	}
	var text bytes.Buffer
	for _, c := range slices.Concat([]*x509.Certificate{p.Leaf}, p.Chain) {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	text.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	sum := sha256.Sum256(text.Bytes())
	p.PEM, p.Digest, p.Fingerprint = text.Bytes(), hex.EncodeToString(sum[:]), Fingerprint(p.Leaf)
	return nil
}

// timeForm is the format of times in errors.
const timeForm = "2006-01-02 15:04 MST"

// At returns why the certificate is not valid at a time, or nil if it is.
func (p Pair) At(now time.Time) error {
	switch {
	case now.After(p.Leaf.NotAfter):
		return fmt.Errorf("the certificate (%s) ended on %s: renew it", Subject(p.Leaf), p.Leaf.NotAfter.UTC().Format(timeForm))
	case now.Before(p.Leaf.NotBefore):
		return fmt.Errorf("the certificate (%s) is good from %s only: set the clock, or use the one before until then", Subject(p.Leaf), p.Leaf.NotBefore.UTC().Format(timeForm))
	}
	return nil
}

// Names returns the host names and addresses that a certificate is for.
func Names(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// Subject returns a name of a certificate for errors.
func Subject(c *x509.Certificate) string {
	names := Names(c)
	switch {
	case len(names) > 3:
		return strings.Join(names[:3], ", ") + ", …"
	case len(names) > 0:
		return strings.Join(names, ", ")
	}
	return c.Subject.String()
}

// Covers reports whether a certificate is for a name, or for all names below one
// (*.example.com).
func Covers(c *x509.Certificate, name string) bool {
	if strings.HasPrefix(name, "*.") {
		return slices.ContainsFunc(c.DNSNames, func(has string) bool { return strings.EqualFold(has, name) })
	}
	if ip := net.ParseIP(name); ip != nil {
		name = "[" + name + "]"
	}
	return c.VerifyHostname(name) == nil
}

// CoversAll reports whether a certificate is for every name that another one is for.
func CoversAll(c, other *x509.Certificate) bool {
	return !slices.ContainsFunc(Names(other), func(name string) bool { return !Covers(c, name) })
}

// Gap returns what a chain lacks for clients to verify it, judged by the file and this
// machine's authorities. It is empty if nothing is missing.
func (p Pair) Gap() string {
	if bytes.Equal(p.Leaf.RawIssuer, p.Leaf.RawSubject) {
		return "" // self-signed: it has no issuer
	}
	between := x509.NewCertPool()
	for _, c := range p.Chain {
		between.AddCert(c)
	}
	_, err := p.Leaf.Verify(x509.VerifyOptions{Intermediates: between, CurrentTime: p.Leaf.NotBefore.Add(time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err == nil {
		return ""
	}
	if slices.ContainsFunc(p.Chain, func(c *x509.Certificate) bool { return p.Leaf.CheckSignatureFrom(c) == nil }) {
		return "" // the issuer is in the file; clients may know a private authority
	}
	return fmt.Sprintf("the certificate of its issuer (%s) is not in the file, and this machine does not know it: clients may refuse the connection; write the file with the chain, such as certbot's fullchain.pem", p.Leaf.Issuer)
}

// Fingerprint returns the SHA-256 of a certificate, in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// SHA1 returns the fingerprint that HAProxy shows for a certificate. It is enough to tell two
// certificates apart, but proves nothing.
func SHA1(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
