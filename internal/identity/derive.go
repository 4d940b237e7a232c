package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// DerivedKeySize is the number of secret bytes that an authority is derived from. It is 16 more
// than a key has, so that in effect all keys are equally likely (FIPS 186-5, A.2.1).
const DerivedKeySize = 48

// All derived authorities have the same validity. It cannot begin when the authority was first
// derived, because that time is not known.
var (
	derivedFrom  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	derivedUntil = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// DeriveAuthority derives the authority of a stack from DerivedKeySize secret bytes. The same
// bytes give the same authority, so those who have them need not exchange it.
func DeriveAuthority(stack string, secret []byte) (*Authority, error) {
	if !validStack.MatchString(stack) {
		return nil, Peer{Stack: stack}.check()
	}
	key, err := deriveKey(secret)
	if err != nil {
		return nil, err
	}
	// Without a source of randomness the signature is deterministic, too (RFC 6979).
	return selfSigned(stack, key, x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: derivedFrom, NotAfter: derivedUntil}, nil)
}

// deriveKey derives a key of P-256 from secret bytes: a number from 1 to the order minus 1.
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
