package host

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A host that has just joined asks the other hosts in turn, so that each is asked soon.
func TestEveryOtherHostIsAskedInTurn(t *testing.T) {
	h := &Host{self: Self{Name: "four"}, roster: roster{Hosts: map[string]Member{}}}
	if name, is := h.anyOther(); is {
		t.Errorf("of none there is %s", name)
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		h.roster.Hosts[name] = Member{Name: name}
	}
	for range 5 {
		asked := map[string]bool{}
		for range 3 {
			name, _ := h.anyOther()
			asked[name] = true
		}
		if len(asked) != 3 || asked["four"] {
			t.Fatalf("of three others, three questions went to %v", asked)
		}
	}
}

// askedLater sends a request to a handler. It reports whether the answer is a laterError:
// nothing was carried out, and the request can be sent again.
func askedLater(t *testing.T, h http.Handler, method, path string, header http.Header) (later bool, text string) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for name := range header {
		r.Header.Set(name, header.Get(name))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var p errorBody
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusServiceUnavailable {
		t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return p.Later, p.Error
}

// The error tells a request that was not carried out from one that may have been.
func TestWhatWasNotBegunCanBeAskedForAgain(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	two := l.join(one, "two", 2)
	leader, _ := l.leader()
	other := map[*labHost]*labHost{one: two, two: one}[leader]

	if later, text := askedLater(t, other.Control(), "POST", "/v1/change", http.Header{forwarded: {"x"}}); !later {
		t.Errorf("passed on to a host that does not lead: %s", text)
	}

	leader.mu.Lock()
	api := leader.api
	leader.api = nil
	leader.mu.Unlock()
	for _, h := range l.hosts {
		if later, text := askedLater(t, h.Control(), "POST", "/v1/change", nil); !later {
			t.Errorf("while the supervisor begins: %s", text)
		}
	}

	leader.mu.Lock()
	leader.api = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	leader.mu.Unlock()
	if later, text := askedLater(t, other.Control(), "POST", "/v1/change", nil); later {
		t.Errorf("a change whose answer was lost: %s", text)
	}
	if later, text := askedLater(t, other.Control(), "GET", "/v1/status", nil); !later {
		t.Errorf("a status whose answer was lost: %s", text)
	}

	leader.mu.Lock()
	leader.api = api
	leader.mu.Unlock()

	leader.Close()
	delete(l.hosts, map[*labHost]string{one: "one", two: "two"}[leader])
	if later, text := askedLater(t, other.Control(), "POST", "/v1/change", nil); !later {
		t.Errorf("while no host leads: %s", text)
	}
}

func TestARequestThatWasNotSentIsKnownAsOne(t *testing.T) {
	post := httptest.NewRequest(http.MethodPost, "/", nil)
	for err, want := range map[error]bool{
		&unsentError{io.EOF}:     true,
		io.EOF:                   false,
		context.DeadlineExceeded: false,
	} {
		if got := errors.As(unanswered(post, "host two is silent", err), new(*laterError)); got != want {
			t.Errorf("%T %v: %v", err, err, got)
		}
	}
}
