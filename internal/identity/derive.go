package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// DerivedKeySize is how many secret bytes an authority is derived from. It is 16 more than a
// key has, so that no key is more likely than another one (FIPS 186-5, A.2.1).
const DerivedKeySize = 48

// The life of derived authorities is the same for all: it cannot be told when the first one
// was made.
var (
	derivedFrom  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	derivedUntil = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// DeriveAuthority makes the authority of a stack from DerivedKeySize secret bytes. All who
// have the bytes make the same one, and so need not exchange it.
func DeriveAuthority(stack string, secret []byte) (*Authority, error) {
	if !validStack.MatchString(stack) {
		return nil, Peer{Stack: stack}.check()
	}
	key, err := deriveKey(secret)
	if err != nil {
		return nil, err
	}
	// Without randomness the signature follows from the key, too (RFC 6979).
	return selfSigned(stack, key, x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: derivedFrom, NotAfter: derivedUntil}, nil)
}

// deriveKey makes a key of P-256 from secret bytes: a number from 1 to the order less 1.
func deriveKey(secret []byte) (*ecdsa.PrivateKey, error) {
	if len(secret) != DerivedKeySize {
		return nil, fmt.Errorf("an authority is derived from %d bytes, and these are %d", DerivedKeySize, len(secret))
	}
	one := big.NewInt(1)
	most := new(big.Int).Sub(elliptic.P256().Params().N, one)
	d := new(big.Int).SetBytes(secret)
	d.Mod(d, most).Add(d, one)
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
	if err != nil {
		return nil, fmt.Errorf("derive the authority's key: %w", err)
	}
	return key, nil
}
