package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// start is when the stacks of the tests are made. The clocks of the tests stand still there
// unless a test moves them.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// testClock is a clock that a test sets.
type testClock struct{ at atomic.Pointer[time.Time] }

func newClock(at time.Time) *testClock {
	c := &testClock{}
	c.set(at)
	return c
}

func (c *testClock) set(at time.Time)      { c.at.Store(&at) }
func (c *testClock) now() time.Time        { return *c.at.Load() }
func (c *testClock) add(d time.Duration)   { c.set(c.now().Add(d)) }
func always(at time.Time) func() time.Time { return func() time.Time { return at } }

// must returns a function that returns v, or ends the test if err is not nil.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

func newAuthority(t testing.TB, stack string, at time.Time) *Authority {
	t.Helper()
	return must[*Authority](t)(NewAuthority(stack, at, rand.Reader))
}

func request(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	return must[[]byte](t)(NewRequest(key))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(NewKey())
}

// grant returns a Grant for a new member of a stack.
func grant(t testing.TB, stack string, role Role, name string) Grant {
	t.Helper()
	id := must[string](t)(NewID(rand.Reader))
	return Grant{Peer{Stack: stack, Role: role, Name: name, ID: id}, loopback, DefaultLife}
}

// issue returns the credentials of a member with a new key.
func issue(t testing.TB, a *Authority, g Grant, at time.Time) Credentials {
	t.Helper()
	return must[Credentials](t)(a.Credentials(g, at, rand.Reader))
}

func newHost(t testing.TB, a *Authority, name string, at time.Time) Credentials {
	t.Helper()
	return issue(t, a, grant(t, a.Stack(), Host, name), at)
}

// keeperOf returns a keeper of credentials in a directory of the test.
func keeperOf(t testing.TB, c Credentials, renew Renew, now func() time.Time) *Keeper {
	t.Helper()
	dir := must[*Dir](t)(OpenDir(t.TempDir()))
	must[[]string](t)(dir.Save(c))
	return must[*Keeper](t)(NewKeeper(dir, renew, now))
}

// wantReason checks that an error has this reason, and that its text has all words.
func wantReason(t testing.TB, err error, reason Reason, words ...string) {
	t.Helper()
	if err == nil || ReasonOf(err) != reason {
		t.Errorf("got %q (%v), want the reason %q", ReasonOf(err), err, reason)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q has more than one line", err)
	}
}
