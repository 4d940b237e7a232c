package supervise

import (
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/internal/certificate"
)

// pairFor returns a certificate that was issued so many hours after now.
func pairFor(t *testing.T, later int, names ...string) certificate.Pair {
	t.Helper()
	p, err := certificate.SelfSigned(names, nil, time.Now().Add(time.Duration(later)*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// hostShowing returns a host with a good file, or with an error.
func hostShowing(pair certificate.Pair, wrong error) *hostCertificates {
	on := newHostCertificates()
	on.has = map[string]certificate.Pair{}
	on.setSources([]certificateSource{{id: "a", file: "a.pem", pair: pair, wrong: wrong}})
	return on
}

func TestTheLatestCertificateOfAnyHostIsShown(t *testing.T) {
	old, later := pairFor(t, 0, "www.example.com"), pairFor(t, 5, "www.example.com", "shop.example.com")
	other := pairFor(t, 9, "other.example.com")
	broken := errors.New("broken")
	for what, c := range map[string]struct {
		one, two  *hostCertificates
		has       *certificate.Pair
		away      bool
		want      *certificate.Pair
		wrong     error
		elsewhere bool
	}{
		"its own":                            {one: hostShowing(old, nil), two: hostShowing(old, nil), want: &old, elsewhere: true},
		"a later one of another host":        {one: hostShowing(old, nil), two: hostShowing(later, nil), want: &later, elsewhere: true},
		"its own, which is later":            {one: hostShowing(later, nil), two: hostShowing(old, nil), want: &later, elsewhere: true},
		"its own, the later has other names": {one: hostShowing(old, nil), two: hostShowing(other, nil), want: &old, elsewhere: true},
		"another's, its own is missing":      {one: hostShowing(certificate.Pair{}, fs.ErrNotExist), two: hostShowing(old, nil), want: &old, wrong: fs.ErrNotExist, elsewhere: true},
		"another's, its own is broken":       {one: hostShowing(certificate.Pair{}, broken), two: hostShowing(old, nil), want: &old, wrong: broken, elsewhere: true},
		"what it has, all are broken":        {one: hostShowing(certificate.Pair{}, broken), two: hostShowing(certificate.Pair{}, broken), has: &old, want: &old, wrong: broken},
		"nothing":                            {one: hostShowing(certificate.Pair{}, broken), two: hostShowing(certificate.Pair{}, broken), wrong: broken},
		"its own, which was put back":        {one: hostShowing(old, nil), two: hostShowing(old, nil), has: &later, want: &old, elsewhere: true},
		"what came from a host that is away": {one: hostShowing(old, nil), has: &later, away: true, want: &later},
	} {
		all := map[string]*hostCertificates{"one": c.one}
		if c.two != nil {
			all["two"] = c.two
		}
		if c.has != nil {
			c.one.has["a"] = *c.has
		}
		got := c.one.choose("a", all, c.away)
		if (got.best == nil) != (c.want == nil) || got.best != nil && !got.best.Leaf.Equal(c.want.Leaf) || !errors.Is(got.wrong, c.wrong) || got.elsewhere != c.elsewhere {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// While somebody writes one file after the other, an error that lasts only a moment is not
// reported.
func TestWhatIsWrongWithACertificateIsSaidWhenItWasSeenTwice(t *testing.T) {
	old := pairFor(t, 0, "www.example.com")
	var log strings.Builder
	s := &Supervisor{log: slog.New(slog.NewTextHandler(&log, nil))}
	on := hostShowing(certificate.Pair{}, errors.New("half written"))
	on.has["a"] = old
	decide := func() *certificate.Pair {
		return s.decideCertificate(t.Context(), home{}, on, on.choose("a", map[string]*hostCertificates{"": on}, false), "a", nil)
	}
	for i, want := range []string{"", "half written", "half written"} {
		if best := decide(); best == nil || !best.Leaf.Equal(old.Leaf) || on.refused["a"] != want {
			t.Errorf("look %d: shown %v, refused %q", i+1, best, on.refused["a"])
		}
	}
	if n := strings.Count(log.String(), "half written"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
	on.sources[0].wrong, on.sources[0].pair = nil, old
	if best := decide(); best == nil || on.refused["a"] != "" {
		t.Errorf("it is good again, and refused: %q", on.refused["a"])
	}
}

func TestWhatAllHostsShowIsToldOnce(t *testing.T) {
	a := CertificateStatus{File: "a.pem", Host: "one", Fingerprint: "1"}
	b := CertificateStatus{File: "b.pem", Host: "one", Fingerprint: "2"}
	a2, b2 := a, b
	a2.Host, b2.Host, b2.Refused = "two", "two", "broken"
	got := mergeAlike([]CertificateStatus{a, b, a2, b2}, 2)
	if len(got) != 3 || got[0].Host != "" || got[1].Host != "one" || got[2].Host != "two" {
		t.Errorf("%+v", got)
	}
}
