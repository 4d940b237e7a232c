package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// claim returns the claim of a host with a token.
func claim(token Token, host, key string, at time.Time) Claim {
	secret := sha256.Sum256(token.Secret[:])
	return Claim{hex.EncodeToString(token.ID[:]), host, secret[:], []byte(key), at}
}

func TestATokenIsForOneHostOnceAndForMinutes(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	within, late := start.Add(29*time.Minute), start.Add(31*time.Minute)
	for name, c := range map[string]struct {
		claims func(two, three Token) []Claim
		reason Reason // of the last claim; "" if it is redeemed
		words  string
	}{
		"in time":    {func(two, _ Token) []Claim { return []Claim{claim(two, "two", "k", within)} }, "", ""},
		"late":       {func(two, _ Token) []Claim { return []Claim{claim(two, "two", "k", late)} }, TokenExpired, "host add two"},
		"a day late": {func(two, _ Token) []Claim { return []Claim{claim(two, "two", "k", late.Add(23*time.Hour))} }, TokenExpired, "ended at 2026-03-01 12:30:00"},
		"twice": {func(two, _ Token) []Claim {
			return []Claim{claim(two, "two", "k", within), claim(two, "two", "other", within)}
		}, TokenUsed, "remove host two"},
		"again, the same": {func(two, _ Token) []Claim {
			return []Claim{claim(two, "two", "k", within), claim(two, "two", "k", within)}
		}, "", ""},
		"again, the same, late": {func(two, _ Token) []Claim {
			return []Claim{claim(two, "two", "k", within), claim(two, "two", "k", late)}
		}, TokenExpired, "ended"},
		"twice and late": {func(two, _ Token) []Claim {
			return []Claim{claim(two, "two", "k", within), claim(two, "two", "other", late)}
		}, TokenUsed, "used already"},
		"another host": {func(two, _ Token) []Claim { return []Claim{claim(two, "three", "k", within)} }, OtherHost, "for host two"},
		"another secret": {func(two, three Token) []Claim {
			two.Secret = three.Secret
			return []Claim{claim(two, "two", "k", within)}
		}, TokenUnknown, "not known"},
		"another ID": {func(two, three Token) []Claim {
			two.ID = three.ID
			return []Claim{claim(two, "two", "k", within)}
		}, TokenUnknown, "not known"},
		"unknown": {func(two, _ Token) []Claim {
			two.ID[0] ^= 1
			return []Claim{claim(two, "two", "k", within)}
		}, TokenUnknown, "another stack"},
		"unknown, with no secret": {func(two, _ Token) []Claim {
			two.ID[0] ^= 1
			c := claim(two, "two", "k", within)
			c.SecretHash = nil
			return []Claim{c}
		}, TokenUnknown, "not known"},
		"no secret": {func(two, _ Token) []Claim {
			c := claim(two, "two", "k", within)
			c.SecretHash = nil
			return []Claim{c}
		}, TokenUnknown, "not known"},
		"another secret of a used one": {func(two, three Token) []Claim {
			other := two
			other.Secret = three.Secret
			return []Claim{claim(two, "two", "k", within), claim(other, "two", "k", within)}
		}, TokenUnknown, "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			two, i2 := newToken(t, a, "two", start)
			three, i3 := newToken(t, a, "three", start)
			all := Invitations{}
			ok(t, all.Add(i2, start))
			ok(t, all.Add(i3, start))
			var err error
			for _, c := range c.claims(two, three) {
				var got Invitation
				if got, err = all.Redeem(c); err == nil && (got.Host != "two" || got.Member != i2.Member) {
					t.Errorf("it is redeemed as %+v", got)
				}
			}
			if c.reason == "" {
				ok(t, err)
			} else {
				wantReason(t, err, c.reason, c.words)
			}
		})
	}
}

func TestOfTwoTokensForOneHostTheNewerCounts(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	old, first := newToken(t, a, "two", start)
	newer, second := newToken(t, a, "two", start)
	all := Invitations{}
	ok(t, all.Add(first, start))
	ok(t, all.Add(second, start))
	if got := all.Open(start); len(got) != 1 || got[0] != "two" {
		t.Errorf("open are %v", got)
	}
	_, err := all.Redeem(claim(old, "two", "k", start))
	wantReason(t, err, TokenUnknown, "a newer one")
	must[Invitation](t)(all.Redeem(claim(newer, "two", "k", start)))

	// A used invitation is remembered although there is a newer one.
	_, third := newToken(t, a, "two", start)
	ok(t, all.Add(third, start))
	_, err = all.Redeem(claim(newer, "two", "other", start))
	wantReason(t, err, TokenUsed)
}

func TestOldInvitationsAreForgottenAndTheirNumberIsBounded(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	all := Invitations{}
	var err error
	for n := range maxInvitations + 1 {
		_, i := newToken(t, a, fmt.Sprintf("host-%d", n), start)
		err = all.Add(i, start)
	}
	wantReason(t, err, TooMany)
	if len(all) != maxInvitations || len(all.Open(start)) != maxInvitations || len(all.Open(start.Add(time.Hour))) != 0 {
		t.Errorf("there are %d", len(all))
	}
	_, i := newToken(t, a, "two", start)
	ok(t, all.Add(i, start.Add(25*time.Hour)))
	if len(all) != 1 {
		t.Errorf("a day later there are %d", len(all))
	}
	all.Withdraw("two")
	if len(all) != 0 {
		t.Error("it is still there")
	}
}

// All members apply the same calls, some of them to invitations that they have read from a file.
func TestInvitationsComeBackFromJSONAsTheyWere(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	token, i := newToken(t, a, "two", start)
	all := Invitations{}
	ok(t, all.Add(i, start))
	must[Invitation](t)(all.Redeem(claim(token, "two", "k", start)))
	var back Invitations
	ok(t, json.Unmarshal(must[[]byte](t)(json.Marshal(all)), &back))
	if !reflect.DeepEqual(back, all) {
		t.Errorf("%+v, and was %+v", back, all)
	}
	_, err := back.Redeem(claim(token, "two", "other", start))
	wantReason(t, err, TokenUsed)
}
