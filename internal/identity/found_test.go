package identity

import (
	"crypto/rand"
	"errors"
	"os"
	"testing"
	"time"
)

func TestTheFirstStartMakesTheAuthorityAndLaterOnesFindIt(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	found := func(at time.Time) (*Authority, Credentials) {
		a, c, err := Found(must[*Dir](t)(OpenDir(path)), "shop", "one", loopback, at, rand.Reader)
		ok(t, err)
		return a, c
	}
	a, c := found(start)
	later, again := found(start.Add(time.Hour))
	if !later.Certificate().Equal(a.Certificate()) || !again.Certificate.Equal(c.Certificate) || c.Peer().Name != "one" {
		t.Errorf("the second start made others, of %s", again.Peer())
	}

	for name, who := range map[string]struct {
		stack, host string
		reason      Reason
	}{
		"another stack": {"store", "one", OtherStack},
		"another host":  {"shop", "two", OtherHost},
	} {
		_, _, err := Found(must[*Dir](t)(OpenDir(path)), who.stack, who.host, loopback, start, rand.Reader)
		if ReasonOf(err) != who.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFirstStartThatIsCutOffIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	crash := errors.New("crash")
	for writes := range 4 {
		path := t.TempDir()
		dir := must[*Dir](t)(OpenDir(path))
		left := writes
		dir.write = func(path string, content []byte) error {
			if left == 0 {
				return crash
			}
			left--
			return writeWhole(path, content)
		}
		_, first, err := Found(dir, "shop", "one", loopback, start, rand.Reader)
		if (err != nil) != (writes < 3) {
			t.Errorf("after %d writes: %v", writes, err)
		}
		before, _ := dir.LoadAuthority()

		dir = must[*Dir](t)(OpenDir(path))
		a, c, err := Found(dir, "shop", "one", loopback, start, rand.Reader)
		ok(t, err)
		if before != nil && !a.Certificate().Equal(before.Certificate()) {
			t.Errorf("after %d writes there is a second authority", writes)
		}
		if writes == 3 && !c.Certificate.Equal(first.Certificate) {
			t.Error("a whole start was not one")
		}
		if _, err := os.Stat(dir.TrustFile()); err != nil {
			t.Error(err)
		}
	}
}

// The host's authority is on another host. An authority of its own would split the stack.
func TestAHostThatHasJoinedMakesNoAuthority(t *testing.T) {
	t.Parallel()
	dir := must[*Dir](t)(OpenDir(t.TempDir()))
	must[[]string](t)(dir.Save(newHost(t, newAuthority(t, "shop", start), "two", start)))
	_, _, err := Found(dir, "shop", "two", loopback, start, rand.Reader)
	wantReason(t, err, OtherAuthority, "another host of stack shop has that")

	ok(t, os.WriteFile(dir.HostFile(), []byte("half"), 0o600))
	if _, _, err = Found(dir, "shop", "two", loopback, start, rand.Reader); err == nil || ReasonOf(err) != "" {
		t.Errorf("with a damaged file: %v", err)
	}
	if _, err := dir.LoadAuthority(); err == nil {
		t.Error("there is an authority")
	}
}
