package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func newPasses(t *testing.T) []Pass {
	t.Helper()
	seats := []Seat{
		{"one", netip.MustParseAddrPort("198.18.7.1:6300")}, {"two", netip.MustParseAddrPort("198.18.7.2:6300")}, {"three", netip.MustParseAddrPort("198.18.7.3:6300")},
	}
	return must[[]Pass](t)(NewPasses("shop", seats, start, rand.Reader))
}

func TestAPassIsReadAsItWasWritten(t *testing.T) {
	for i, p := range newPasses(t) {
		text := must[[]byte](t)(p.Encode())
		q := must[Pass](t)(ReadPass(bytes.NewReader(text)))
		if again := must[[]byte](t)(q.Encode()); !bytes.Equal(again, text) {
			t.Errorf("it reads as another one:\n%s\n%s", text, again)
		}
		seat, is := q.Seat()
		if !is || seat != p.Seats[i] || len(q.Token.Members) != 2 {
			t.Errorf("pass %d is for %v and names %v", i, seat, q.Token.Members)
		}
		for _, wrong := range []string{"", "{}", string(text[:len(text)/2]), strings.Replace(string(text), `"host": "`+seat.Name, `"host": "four`, 1), strings.Replace(string(text), `"version": 1`, `"version": 2`, 1)} {
			if _, err := ReadPass(strings.NewReader(wrong)); !errors.As(err, new(*DamagedError)) {
				t.Errorf("%.40q: %v", wrong, err)
			}
		}
	}
}

func TestAPassLetsItsHostInAgainAndAgainAsAnotherMember(t *testing.T) {
	p := newPasses(t)[1]
	all, token := p.Invitations, p.Token
	later := start.Add(3 * 365 * 24 * time.Hour)
	members := map[string]string{}
	for _, key := range []string{"a", "a", "b", "c", "b"} {
		i := must[Invitation](t)(all.Redeem(claim(token, "two", key, later)))
		if i.Host != "two" || i.Addresses[0].String() != "198.18.7.2" {
			t.Errorf("it lets in %s at %v", i.Host, i.Addresses)
		}
		if was, before := members[key]; before && was != i.Member {
			t.Errorf("key %s is member %s, and was %s", key, i.Member, was)
		}
		members[key] = i.Member
	}
	if members["a"] == members["b"] || members["b"] == members["c"] {
		t.Errorf("other keys are the same member: %v", members)
	}

	all.Withdraw("two")
	must[Invitation](t)(all.Redeem(claim(token, "two", "d", later))) // the invitation stands
	for reason, c := range map[Reason]Claim{
		OtherHost:    claim(token, "three", "d", later),
		TokenExpired: claim(token, "two", "d", start.Add(PassLife+time.Hour)),
		TokenUnknown: func() Claim { token.Secret[0]++; return claim(token, "two", "d", later) }(),
	} {
		if _, err := all.Redeem(c); ReasonOf(err) != reason {
			t.Errorf("%s: %v", reason, err)
		}
	}
	token.Secret[0]--
	all.Revoke("two")
	if _, err := all.Redeem(claim(token, "two", "d", later)); ReasonOf(err) != TokenUnknown {
		t.Errorf("after the host was removed: %v", err)
	}
}

func TestAHostThatWaitsSaysSoToItsOwnStackAlone(t *testing.T) {
	passes := newPasses(t)
	waiting := must[*tls.Config](t)(passes[1].Waiting(start, rand.Reader))
	shake := func(server, client *tls.Config) (tls.ConnectionState, error) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		go func() { _ = tls.Server(a, server).Handshake() }()
		conn := tls.Client(b, client)
		err := conn.Handshake()
		return conn.ConnectionState(), err
	}
	if state, err := shake(waiting, passes[0].Asking("two", always(start))); err != nil || !IsWaiting(state) {
		t.Errorf("the host that was asked: %v, waiting %v", err, IsWaiting(state))
	}
	if _, err := shake(waiting, passes[0].Asking("three", always(start))); ReasonOf(err) != OtherHost {
		t.Errorf("another host was expected: %v", err)
	}
	if _, err := shake(waiting, newPasses(t)[0].Asking("two", always(start))); !errors.As(err, new(x509.UnknownAuthorityError)) && ReasonOf(err) != OtherAuthority {
		t.Errorf("of another stack: %v", err)
	}
}
