package identity

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var member = netip.MustParseAddrPort("198.18.7.1:6300")

func newToken(t testing.TB, a *Authority, host string, now time.Time, members ...netip.AddrPort) (Token, Invitation) {
	t.Helper()
	if len(members) == 0 {
		members = []netip.AddrPort{member}
	}
	token, i, err := Invite(a.Certificate(), host, loopback, members, DefaultTokenLife, now, rand.Reader)
	ok(t, err)
	return token, i
}

func TestATokenIsOneLineThatComesBackAsItWas(t *testing.T) {
	t.Parallel()
	token, i := newToken(t, newAuthority(t, "shop", start), "two", start.Add(time.Millisecond), member, netip.MustParseAddrPort("[fd00::1]:6300"))
	line := token.Encode()
	if strings.ContainsAny(line, " \n'\"$\\&;|<>") || len(line) > 400 {
		t.Errorf("%q has %d characters, or some that a shell reads", line, len(line))
	}
	for _, pasted := range []string{line, "  " + line + "\n"} {
		got := must[Token](t)(ParseToken(pasted))
		if fmt.Sprint(got.Members) != fmt.Sprint(token.Members) || got.Secret != token.Secret || got.Encode() != line || !got.Expires.Equal(start.Add(30*time.Minute)) {
			t.Errorf("it comes back as %+v", got)
		}
	}
	t.Logf("%d characters: %s", len(line), line)

	kept := string(must[[]byte](t)(json.Marshal(i)))
	for _, format := range []string{"%s", "%v", "%+v", "%#v", "%q"} {
		for _, secret := range []string{string(token.Secret[:]), fmt.Sprint(token.Secret[:]), fmt.Sprintf("%x", token.Secret[:])} {
			if strings.Contains(fmt.Sprintf(format, token), secret) || strings.Contains(kept, secret) {
				t.Errorf("the secret is in %s, or is kept", format)
			}
		}
	}
}

func TestAGarbledTokenIsRefused(t *testing.T) {
	t.Parallel()
	token, _ := newToken(t, newAuthority(t, "shop", start), "two", start)
	line := token.Encode()
	broken := func(change func(*Token)) string {
		other := token
		change(&other)
		return other.Encode()
	}
	for name, text := range map[string]string{
		"nothing":                " \n",
		"a blank inside":         line[:40] + " " + line[40:],
		"a line end inside":      line[:40] + "\n" + line[40:],
		"its end is missing":     line[:len(line)-1],
		"half of it":             line[:len(line)/2],
		"twice":                  line + line,
		"its prefix alone":       tokenPrefix,
		"without prefix":         line[len(tokenPrefix):],
		"of a newer version":     "hf2_" + line[len(tokenPrefix):],
		"of another product":     "K10f08676bf::server:8c123b4e1c",
		"upper case":             strings.ToUpper(line),
		"padding":                line + "=",
		"long":                   line + strings.Repeat("A", maxToken),
		"no member":              broken(func(t *Token) { t.Members = nil }),
		"a member without port":  broken(func(t *Token) { t.Members = []netip.AddrPort{netip.AddrPortFrom(member.Addr(), 0)} }),
		"a member of no address": broken(func(t *Token) { t.Members = []netip.AddrPort{{}} }),
		"too many members": broken(func(t *Token) {
			t.Members = make([]netip.AddrPort, maxMembers+1)
			for i := range t.Members {
				t.Members[i] = member
			}
		}),
		"no host":              broken(func(t *Token) { t.Host = "" }),
		"a host with a cursor": broken(func(t *Token) { t.Host = "\x1b[2J" }),
		"a stack of no name":   broken(func(t *Token) { t.Stack = "Shop" }),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseToken(text)
			wantReason(t, err, Garbled, "holdfast host add")
			if err != nil && (strings.Contains(err.Error(), line[8:40]) || strings.Contains(err.Error(), "\x1b")) {
				t.Errorf("%q quotes the token", err)
			}
		})
	}
	for i := range line {
		other := []byte(line)
		other[i] ^= 1
		if got, err := ParseToken(string(other)); err == nil {
			t.Fatalf("with another character %d it is %+v", i, got)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	a := newAuthority(f, "shop", start)
	token, _ := newToken(f, a, "two", start, member, netip.MustParseAddrPort("[fd00::1%eth0]:1"))
	f.Add(token.Encode())
	f.Add(Token{}.Encode())
	f.Add(tokenPrefix)
	f.Add(tokenPrefix + "AAAAAHt9")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseToken(text)
		if err != nil {
			if ReasonOf(err) != Garbled {
				t.Errorf("%v", err)
			}
			return
		}
		if got.Encode() != strings.TrimSpace(text) || !got.valid() {
			t.Errorf("%q is taken as %+v", text, got)
		}
	})
}

func TestATokenWithoutMembersIsAskedNowhere(t *testing.T) {
	t.Parallel()
	_, err := Join(t.Context(), Token{}, "", newKey(t), always(start))
	wantReason(t, err, Garbled)
}

func TestATokenNeedsAHostAndMembers(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "shop", start)
	for name, c := range map[string]struct {
		host    string
		members []netip.AddrPort
	}{
		"no member": {"two", nil},
		"no port":   {"two", []netip.AddrPort{netip.AddrPortFrom(member.Addr(), 0)}},
		"no name":   {"", []netip.AddrPort{member}},
		"a bad one": {"Two!", []netip.AddrPort{member}},
	} {
		if _, _, err := Invite(a.Certificate(), c.host, nil, c.members, time.Minute, start, rand.Reader); err == nil {
			t.Errorf("%s: there is a token", name)
		}
	}
	if _, _, err := Invite(newHost(t, a, "one", start).Certificate, "two", nil, []netip.AddrPort{member}, time.Minute, start, rand.Reader); err == nil {
		t.Error("a host's certificate is taken for an authority's")
	}
}
