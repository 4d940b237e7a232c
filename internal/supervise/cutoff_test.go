package supervise

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
)

func TestABalancerServesWhenEachApplicationHasAServer(t *testing.T) {
	row := func(backend, server, status, check string) haproxy.Stat {
		return haproxy.Stat{Backend: backend, Server: server, Status: status, CheckStatus: check}
	}
	for _, c := range []struct {
		what string
		rows []haproxy.Stat
		want bool
	}{
		{"nothing to serve", nil, true},
		{"one of two", []haproxy.Stat{row("web", "web-1", "DOWN", "L7STS"), row("web", "web-2", "UP", "L7OK")}, true},
		{"none of one application", []haproxy.Stat{row("web", "web-1", "DOWN", "L7STS"), row("shop", "shop-1", "UP", "L7OK")}, false},
		{"not checked yet", []haproxy.Stat{row("web", "web-1", "UP", "INI")}, false},
		{"no master", []haproxy.Stat{row("web", "web-1", "UP", "L7OK"), row("redis.master", "redis-1", "DOWN", "L7TOUT"), row("redis.master", "redis-2", "DOWN", "L7RSP")}, false},
		{"a master", []haproxy.Stat{row("web", "web-1", "UP", "L7OK"), row("redis.master", "redis-1", "DOWN", "L7TOUT"), row("redis.master", "redis-2", "UP", "L7OK")}, true},
		{"no master alone", []haproxy.Stat{row("redis.master", "redis-1", "UP", "L7OK"), row("redis.master-alone", "redis-1", "DOWN", "L7TOUT")}, true},
		{"a whole proxy is no server", []haproxy.Stat{row("web", "web-1", "UP", "L7OK"), row("web", "BACKEND", "DOWN", "")}, true},
	} {
		if got := servesAll(c.rows); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	if !serving(t.Context(), t.TempDir(), true) {
		t.Error("a host without a balancer that answers gives the address away by this file, and not by the other one")
	}
}

func TestAMasterThatNobodyElsewhereHears(t *testing.T) {
	row := func(host, server, status, check string) haproxy.Stat {
		return haproxy.Stat{Backend: "redis.master", Server: server, Status: status, CheckStatus: check, Address: host + ":6379"}
	}
	const here, there = "127.0.0.1", "198.18.7.2"
	for _, c := range []struct {
		what string
		rows []haproxy.Stat
		want bool
	}{
		{"no Redis", []haproxy.Stat{{Backend: "web", Server: "web-1", Status: "UP", CheckStatus: "L7OK"}}, false},
		{"Redis on this host alone", []haproxy.Stat{row(here, "redis-1", "UP", "L7OK"), row(here, "redis-2", "DOWN", "L7RSP")}, false},
		{"its replicas answer", []haproxy.Stat{row(here, "redis-1", "UP", "L7OK"), row(there, "redis-2", "DOWN", "L7RSP")}, false},
		{"one of its replicas answers", []haproxy.Stat{row(here, "redis-1", "UP", "L7OK"), row(there, "redis-2", "DOWN", "L4CON"), row(there, "redis-3", "DOWN", "* L7RSP")}, false},
		{"the master is elsewhere", []haproxy.Stat{row(here, "redis-1", "DOWN", "L7RSP"), row(there, "redis-2", "UP", "L7OK")}, false},
		{"nobody elsewhere answers", []haproxy.Stat{
			row(here, "redis-1", "UP", "L7OK"), row(here, "redis-4", "DOWN", "L7RSP"), row("[::1]", "redis-6", "DOWN", "L7RSP"),
			row(there, "redis-2", "DOWN", "L4TOUT"), row(there, "redis-3", "DOWN", "* L7TOUT"), row(there, "redis-5", "DOWN", "L4CON"),
			row(there, "BACKEND", "UP", ""),
		}, true},
	} {
		if got := masterAlone(c.rows, ownAddress); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestKeepalivedIsToldOfACut(t *testing.T) {
	state := t.TempDir()
	dir := filepath.Join(state, "nodes", "keepalived-2")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, plan.CutFile)
	log := slog.New(slog.DiscardHandler)
	if writeCutFiles(state, true, log); exists(path) {
		t.Error("a file is made where keepalived has none")
	}
	if err := os.WriteFile(path, []byte(plan.Well), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []bool{true, true, false} {
		writeCutFiles(state, cut, log)
		text, err := os.ReadFile(path)
		if want := map[bool]string{true: plan.Unwell, false: plan.Well}[cut]; err != nil || string(text) != want {
			t.Errorf("cut off: %v, and the file says %q (%v)", cut, text, err)
		}
	}
}

func TestAHostThatIsCutOffDoesNotHaveTheVirtualAddress(t *testing.T) {
	// moment is what a host finds out at a time, in milliseconds since it lost contact to a
	// leader.
	type moment struct {
		at                     int
		heard                  bool
		alone, cutOff, serving bool
		want                   bool // it must not have the address
	}
	for _, c := range []struct {
		what    string
		had     bool
		moments []moment
	}{
		{"another host leads from now on", false, []moment{{at: 0}, {at: 100}, {at: 700, heard: true}}},
		{"it is cut off, and did not have the address", false, []moment{
			{at: 0, alone: true, want: true}, {at: 5900, alone: true, cutOff: true, want: true}, {at: 6000, heard: true},
		}},
		{"the others are lost, and it serves", false, []moment{
			{at: 0, alone: true, want: true}, {at: 6000, alone: true, cutOff: true, serving: true, want: true},
			{at: 6500, alone: true, cutOff: true, serving: true, want: true}, {at: 7000, alone: true, cutOff: true, serving: true},
		}},
		{"the others are lost, and it serves nobody", false, []moment{
			{at: 0, alone: true, want: true}, {at: 6000, alone: true, cutOff: true, want: true}, {at: 7000, alone: true, cutOff: true, want: true},
		}},
		{"the others' processes are dead, and not their machines", false, []moment{
			{at: 0, cutOff: true, serving: true}, {at: 6000, cutOff: true, serving: true}, {at: 7000, cutOff: true, serving: true},
		}},
		{"it had the address and serves", true, []moment{
			{at: 0, alone: true, cutOff: true, serving: true}, {at: 1000, alone: true, cutOff: true, serving: true},
		}},
		{"it had the address and serves nobody", true, []moment{
			{at: 0, alone: true, cutOff: true}, {at: 900, alone: true, cutOff: true}, {at: 1400, alone: true, cutOff: true, want: true},
			{at: 1900, alone: true},
		}},
		{"it had the address, and a majority is back for a moment", true, []moment{
			{at: 0, cutOff: true}, {at: 500}, {at: 1000, cutOff: true}, {at: 1500, cutOff: true}, {at: 2000, cutOff: true, want: true},
		}},
	} {
		var w cutWatch
		began := time.Now()
		for _, m := range c.moments {
			is := func(yes bool) func() bool { return func() bool { return yes } }
			w.step(began.Add(time.Duration(m.at)*time.Millisecond), !m.heard, cutLook{is(c.had), is(m.alone), is(m.cutOff), func(alone bool) bool {
				if alone != m.alone {
					t.Errorf("%s: after %d ms no majority of the machines replies: %v, want %v", c.what, m.at, alone, m.alone)
				}
				return m.serving
			}})
			if w.unfit != m.want {
				t.Errorf("%s: after %d ms it is to be without: %v, want %v", c.what, m.at, w.unfit, m.want)
			}
		}
	}
}

func TestClientsOfAnAddressThatIsGoneAreParted(t *testing.T) {
	for _, c := range []struct{ cut, was, had, holds, want bool }{
		{cut: true, holds: true, want: true},
		{cut: true, had: true, want: true}, // keepalived has given the address away meanwhile
		{cut: true, had: true, holds: true, want: true},
		{cut: true},
		{cut: true, was: true, had: true, holds: true},
		{had: true, holds: true},
		{was: true, had: true, holds: true},
	} {
		w := cutWatch{unfit: c.cut, hadAddress: c.had}
		if got := w.mustEndClients(c.was, func() bool { return c.holds }); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// gaveUp is the contact of a process that ends while it asks the other hosts.
type gaveUp struct{ end context.CancelFunc }

func (gaveUp) Quiet() bool                   { return true }
func (c gaveUp) Alone(context.Context) bool  { c.end(); return true }
func (c gaveUp) CutOff(context.Context) bool { c.end(); return true }

func TestAProcessThatEndsDoesNotThinkItsHostCutOff(t *testing.T) {
	state := t.TempDir()
	path := filepath.Join(state, "nodes", "keepalived-1", plan.CutFile)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(plan.Unwell), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	WatchCut(ctx, state, gaveUp{end}, slog.New(slog.DiscardHandler))
	if text, err := os.ReadFile(path); err != nil || string(text) != plan.Well {
		t.Errorf("keepalived is told %q, %v", text, err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
