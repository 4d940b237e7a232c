package host

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/agree"
	"holdfast/internal/clock"
	"holdfast/internal/identity"
	"holdfast/internal/machine"
)

// lab is a stack of several hosts in this process, each at its own loopback address.
type lab struct {
	t     *testing.T
	net   [2]byte // x and y of 127.x.y.0/24
	hosts map[string]*labHost
}

// labHost is a host of a lab. It records its leaderships.
type labHost struct {
	*Host
	state string

	mu      sync.Mutex
	leading *Leadership
	terms   int
}

func newLab(t *testing.T) *lab {
	return &lab{t: t, net: [2]byte{byte(1 + mrand.IntN(250)), byte(mrand.IntN(250))}, hosts: map[string]*labHost{}}
}

// remove removes a host. If the host leads, it hands over first, and remove asks the next
// leader.
func (l *lab) remove(name string) {
	l.t.Helper()
	l.eventually(name+" is removed", func() bool {
		leader, _ := l.leader()
		err := leader.Remove(l.t.Context(), name)
		if err != nil {
			l.t.Log(err)
		}
		return err == nil
	})
}

// address returns the address of the n-th host.
func (l *lab) address(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, l.net[0], l.net[1], byte(n)}), Port)
}

// initFirst makes the first host and opens it.
func (l *lab) initFirst(name string) *labHost {
	l.t.Helper()
	state := filepath.Join(l.t.TempDir(), name)
	l.must(makeStateDir(state))
	l.must(os.WriteFile(filepath.Join(state, "stack.json"), []byte(`{"booted":true}`), 0o600))
	l.must(InitFirst(state, "shop", name, l.address(1), time.Now()))
	return l.open(name, state)
}

// join makes another host join, opens it, and waits until it has a vote.
func (l *lab) join(at *labHost, name string, n int) *labHost {
	l.t.Helper()
	invited, err := at.Invite(l.t.Context(), name, l.address(n).Addr(), time.Minute)
	l.must(err)
	state := filepath.Join(l.t.TempDir(), name)
	_, err = Join(l.t.Context(), state, invited.Token)
	l.must(err)
	h := l.open(name, state)
	votes := func(of *labHost) bool {
		return slices.ContainsFunc(of.member.Members(), func(p agree.Peer) bool { return p.Name == name && p.Voter })
	}
	l.eventually(name+" has a vote, and knows it", func() bool { return votes(at) && votes(h) })
	return h
}

// open opens the host of a state directory.
func (l *lab) open(name, state string) *labHost {
	l.t.Helper()
	h := &labHost{state: state}
	var err error
	h.Host, err = Open(Config{
		State: state, Version: "test", Lead: h.lead,
		Log: slog.New(slog.NewTextHandler(l.t.Output(), nil)).With("host", name),
	})
	l.must(err)
	var leaving sync.WaitGroup
	leaving.Go(func() { // as the host's process does
		select {
		case <-h.Removed():
			h.Close()
		case <-h.life.Done():
		}
	})
	l.t.Cleanup(leaving.Wait)
	l.t.Cleanup(h.Close) // runs before leaving.Wait
	l.hosts[name] = h
	return h
}

// lead starts like a supervisor: its first write needs a majority.
func (h *labHost) lead(ctx context.Context, l Leadership) error {
	if err := l.Share(ctx, "versions.json", []byte(rand.Text())); err != nil {
		return err
	}
	h.mu.Lock()
	h.leading = &l
	h.terms++
	h.mu.Unlock()
	l.Answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s answers %s", l.Here, r.URL.Path) }))
	<-ctx.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leading = nil
	return nil
}

// now returns the leadership that a host has at the moment, or nil.
func (h *labHost) now() *Leadership {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leading
}

// leader waits until a host leads, and returns it.
func (l *lab) leader() (leader *labHost, with *Leadership) {
	l.t.Helper()
	l.eventually("somebody leads", func() bool {
		for _, h := range l.hosts {
			if with = h.now(); with != nil {
				leader = h
				return true
			}
		}
		return false
	})
	return leader, with
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) eventually(what string, is func() bool) {
	l.t.Helper()
	if !clock.Within(60*time.Second, 10*time.Millisecond, is) {
		l.t.Fatalf("not within 60 s: %s", what)
	}
}

// has reports whether a file in the host's state directory has this content.
func (h *labHost) has(name, content string) bool {
	b, err := os.ReadFile(filepath.Join(h.state, name))
	return err == nil && string(b) == content
}

// ask sends a GET to a host's control API.
func (h *labHost) ask(path string) (int, string) {
	w := httptest.NewRecorder()
	h.Control().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestHostsJoinAndAgree(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	two, three := l.join(one, "two", 2), l.join(one, "three", 3)

	// All hosts have the files that the first host had before.
	for _, h := range l.hosts {
		l.eventually("a host has the files of the stack", func() bool { return h.has("stack.json", `{"booted":true}`) })
	}

	l.eventually("the leader knows of all hosts, and where their files are", func() bool {
		_, with := l.leader()
		known := 0
		for _, m := range with.Hosts {
			if m.State == l.hosts[m.Name].state {
				known++
			}
		}
		return known == 3
	})

	leader, with := l.leader()
	l.must(with.Share(t.Context(), "running.json", []byte(`{"generation":2}`)))

	for name, h := range l.hosts {
		if h != leader { // on the leader the supervisor writes the file itself
			l.eventually(name+" has what was shared", func() bool { return h.has("running.json", `{"generation":2}`) })
		}
		if code, text := h.ask("/v1/status"); code != 200 || text != with.Here+" answers /v1/status" {
			t.Errorf("at %s: %d %q", name, code, text)
		}
	}

	// The leader writes files on the other hosts.
	for _, m := range with.Hosts {
		at := with.Machine(m.Name)
		t.Cleanup(func() { at.Close() })
		l.must(at.MakeDir(t.Context(), "nodes/web-1"))
		l.must(at.Write(t.Context(), machine.File{Name: "nodes/web-1/x", Mode: 0o600, Content: []byte(m.Name)}))
		if !l.hosts[m.Name].has("nodes/web-1/x", m.Name) {
			t.Errorf("the file of %s is not there", m.Name)
		}
	}

	// The leader ends. The next one has everything that was agreed on.
	leader.Close()
	delete(l.hosts, with.Here)

	next, nextWith := l.leader()
	if !next.has("running.json", `{"generation":2}`) {
		t.Error("the next leader does not have what was agreed on")
	}
	if err := with.Share(t.Context(), "running.json", []byte("late")); err == nil {
		t.Error("a leader that has ended can still write")
	}

	l.must(nextWith.Share(t.Context(), "running.json", nil))
	for name, h := range l.hosts {
		if code, text := h.ask("/v1/status"); code != 200 || text != nextWith.Here+" answers /v1/status" {
			t.Errorf("at %s: %d %q", name, code, text)
		}
	}
	_, _ = two, three
}

// Without a majority no host leads, and requests are refused with the reason.
func TestWithoutAMajorityNobodyLeads(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	two := l.join(one, "two", 2)
	l.leader()
	one.Close()
	l.eventually("what is asked is refused for want of a majority", func() bool {
		code, text := two.ask("/v1/status")
		var p errorBody
		return json.Unmarshal([]byte(text), &p) == nil && code == http.StatusServiceUnavailable && strings.Contains(p.Error, "majority")
	})
	if two.now() != nil {
		t.Error("two leads alone")
	}
	// The closed host comes back with its disk.
	l.hosts["one"] = l.open("one", one.state)
	l.leader()
}

// A token is valid for one host and once. A removed host is refused, and can join again with a
// new token.
func TestAHostIsRemovedAndJoinsAnew(t *testing.T) {
	l := newLab(t)
	one := l.initFirst("one")
	l.leader()
	invited, err := one.Invite(t.Context(), "two", l.address(2).Addr(), time.Minute)
	l.must(err)
	state := filepath.Join(t.TempDir(), "two")
	_, err = Join(t.Context(), state, invited.Token)
	l.must(err)

	if _, err := Join(t.Context(), filepath.Join(t.TempDir(), "other"), invited.Token); identity.ReasonOf(err) != identity.TokenUsed {
		t.Errorf("a token used twice: %v", err)
	}
	if _, err := Join(t.Context(), state, invited.Token); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a host that joins twice: %v", err)
	}

	two := l.open("two", state)
	l.eventually("two has a vote", func() bool {
		_, err := one.Invite(t.Context(), "two", l.address(2).Addr(), time.Minute)
		return err != nil && strings.Contains(err.Error(), "already")
	})

	l.remove("two")
	l.eventually("two is refused", func() bool {
		_, err := two.connect(t.Context(), "one", webProtocol)
		if err == nil { // in TLS 1.3 the client sees the refusal only in the first answer
			err = refusedLater(two, "one")
		}
		return identity.ReasonOf(err) == identity.Removed || identity.ReasonOf(err) == identity.Refused
	})

	two.Close()
	delete(l.hosts, "two")
	l.must(Leave(state))
	if _, err := Open(Config{State: state, Log: slog.Default()}); !errors.Is(err, ErrNotJoined) {
		t.Errorf("a host that has left: %v", err)
	}

	l.join(one, "two", 2)
}

// refusedLater sends a request to a host, and returns why it was refused.
func refusedLater(h *labHost, name string) error {
	client := http.Client{Transport: h.transport(name)}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + name + "/v1/status")
	if err != nil {
		return h.trust.Explain(err, name)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var p errorBody
	if json.Unmarshal(text, &p) == nil && p.Reason != "" {
		return identity.Told(p.Reason, p.Error)
	}
	return nil
}
