package control

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/isolate"
	"holdfast/internal/plan"
)

func TestACutBeginsAfterItsAnswerAndOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began, ended atomic.Int32
		var fails atomic.Bool
		no := errors.New("no")
		c := cuts{
			ready: isolateCheck,
			beginCut: func(context.Context, isolate.Cut) error {
				began.Add(1)
				if fails.Load() {
					return no
				}
				return nil
			},
			endCut:  func(context.Context) error { ended.Add(1); return nil },
			dropped: func(context.Context) (map[string]int, error) { return map[string]int{"to the others": 3}, nil },
		}
		ctx := t.Context()
		cut := isolate.Cut{Ports: []uint16{80}, Lasts: 6 * time.Second}
		want := func(what string, wantBegan, wantEnded int32) {
			t.Helper()
			if synctest.Wait(); began.Load() != wantBegan || ended.Load() != wantEnded {
				t.Errorf("%s: began %d times, ended %d times, want %d and %d", what, began.Load(), ended.Load(), wantBegan, wantEnded)
			}
		}

		if err := c.schedule(ctx, isolate.Cut{Lasts: time.Second}); err == nil {
			t.Error("a cut of nothing is taken")
		}
		if err := c.end(ctx); err != nil {
			t.Error(err)
		}
		want("none", 0, 1) // an earlier process may have begun one

		if err := c.schedule(ctx, cut); err != nil {
			t.Fatal(err)
		}
		want("answered", 0, 1)
		time.Sleep(CutDelay)
		want("a moment later", 1, 1)
		if err := c.schedule(ctx, cut); err == nil || !strings.Contains(err.Error(), "cut off already, for 6s more") {
			t.Errorf("a second one: %v", err)
		}
		time.Sleep(cut.Lasts)
		if n, err := c.counts(ctx); err != nil || n["to the others"] != 3 {
			t.Error(n, err)
		}
		if err := c.end(ctx); err != nil {
			t.Error(err)
		}
		want("ended", 1, 2)

		// A cut that is ended before it begins.
		if err := errors.Join(c.schedule(ctx, cut), c.end(ctx)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("called off", 1, 3)

		// A cut that cannot begin reports that. A cut that nobody ends is forgotten.
		fails.Store(true)
		if err := c.schedule(ctx, cut); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("failed", 2, 3)
		if _, err := c.counts(ctx); !errors.Is(err, no) {
			t.Error(err)
		}
		time.Sleep(cut.Lasts + forgetCut)
		want("forgotten", 2, 4)
	})
}

func isolateCheck(_ context.Context, c isolate.Cut) error { return c.Check() }

func TestACutIsOfTheStackAlone(t *testing.T) {
	p := plan.Plan{EntryURL: "http://127.0.0.1:8080", Hosts: []plan.Host{
		{Name: "one", Address: "198.18.7.1", Processes: []plan.Process{{Kind: plan.Redis, Address: "198.18.7.1:6379"}}},
		{Name: "two", Address: "2001:db8::2"},
	}}
	addr := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	for _, c := range []struct {
		cut  isolate.Cut
		want string // a part of the error; empty: no error
	}{
		{isolate.Cut{From: addr("198.18.7.1"), To: addr("2001:db8::2"), Spared: 8080}, ""},
		{isolate.Cut{Ports: []uint16{6379, 8080}, Virtual: addr("198.18.7.100")}, ""},
		{isolate.Cut{From: addr("198.18.7.9")}, "198.18.7.9 is no host of the stack"},
		{isolate.Cut{To: addr("198.18.7.100")}, "198.18.7.100 is no host of the stack"},
		{isolate.Cut{Ports: []uint16{22}}, "no node of the stack has port 22"},
		{isolate.Cut{From: addr("198.18.7.1"), Spared: 22}, "no node of the stack has port 22"},
		{isolate.Cut{Ports: []uint16{8080}, Virtual: addr("198.18.7.1")}, "198.18.7.1 is no virtual address"},
	} {
		err := checkCut(p, []string{"198.18.7.100"}, c.cut)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cut, err, c.want)
		}
	}
}
