package identity

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"math/big"
	"testing"
)

func TestWhoHasTheSecretMakesTheSameAuthority(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte{7}, DerivedKeySize)
	a := must[*Authority](t)(DeriveAuthority("shop", secret))
	// The key must never change, so that pods of two versions accept each other's certificates.
	raw := must[[]byte](t)(a.key.Bytes())
	if got, want := hex.EncodeToString(raw), "01d786abee323c0bb074bad9e07a004a835898c3f631ebccc4551fb0351bd1d8"; got != want {
		t.Errorf("its key is %s, want %s", got, want)
	}
	if b := must[*Authority](t)(DeriveAuthority("shop", secret)); !b.cert.Equal(a.cert) {
		t.Error("another pod makes another certificate")
	}
	if err := checkAuthority(a.cert); err != nil {
		t.Error(err)
	}
	c := must[Credentials](t)(a.Credentials(grant(t, "shop", Host, "redis-1"), start.AddDate(1, 0, 0), rand.Reader))
	b := must[*Authority](t)(DeriveAuthority("shop", secret))
	if err := c.Certificate.CheckSignatureFrom(b.cert); err != nil {
		t.Errorf("another pod refuses the certificate: %v", err)
	}
	other := must[*Authority](t)(DeriveAuthority("shop", bytes.Repeat([]byte{8}, DerivedKeySize)))
	if c.Certificate.CheckSignatureFrom(other.cert) == nil {
		t.Error("the authority of another secret accepts it")
	}
}

func TestEverySecretIsAKey(t *testing.T) {
	t.Parallel()
	order := elliptic.P256().Params().N
	for _, number := range []*big.Int{big.NewInt(0), new(big.Int).Sub(order, big.NewInt(1)), order} {
		if _, err := deriveKey(number.FillBytes(make([]byte, DerivedKeySize))); err != nil {
			t.Errorf("%s: %v", number, err)
		}
	}
	if _, err := deriveKey(bytes.Repeat([]byte{0xff}, DerivedKeySize)); err != nil {
		t.Error(err)
	}
	if _, err := deriveKey(make([]byte, 32)); err == nil {
		t.Error("too few bytes are taken")
	}
}
