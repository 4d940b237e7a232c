package supervise

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// hostsToRestore returns a stack of two hosts with old data, of which one has staged data. The
// supervisor's directory is a third one.
func hostsToRestore(t *testing.T) (x restoring, one, two dir) {
	t.Helper()
	x.dir, one, two = dirAt(t.TempDir()), dirAt(t.TempDir()), dirAt(t.TempDir())
	x.hosts = hostsAt(x.root)
	x.hosts.several, x.hosts.begun = true, true
	x.hosts.absent = &absence{hosts: map[string]bool{}}
	x.hosts.named = map[string]home{}
	for name, d := range map[string]dir{"one": one, "two": two} {
		m := machine.NewLocal(d.root)
		t.Cleanup(func() { m.Close() })
		x.hosts.named[name] = home{m, name}
	}
	two.withData(t, "redis-1", "old 1")
	one.withData(t, "redis-2", "old 2")
	if err := errors.Join(
		x.writeJSON(stateFile, persistedState{Booted: true, Redis: redisMemory{Watch: "s", Replication: plan.Replication{Master: "redis-1", ConfigEpoch: 6, CurrentEpoch: 6}}}),
		one.stageText("new"),
	); err != nil {
		t.Fatal(err)
	}
	return x, one, two
}

// data returns what a node has on its host.
func (d dir) data(node string) string {
	for _, name := range []string{aofBase, aofIncr} {
		if b, err := os.ReadFile(d.path("nodes", node, "data", "appendonlydir", name)); err == nil && len(b) > 0 {
			return string(b)
		}
	}
	return ""
}

// requireData fails the test unless a node has this on its host; "": it has none.
func (d dir) requireData(t *testing.T, node, want string) {
	t.Helper()
	if got := d.data(node); got != want {
		t.Errorf("%s has %q, want %q", node, got, want)
	}
}

func TestARestoreOnSeveralHostsIsCarriedThroughOrGivenUpWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		moving bool   // all nodes had ended when the supervisor was lost
		moved  bool   // and the data was in its place
		lost   string // the host that is away then
		want   string // the data of redis-2, whose host has the new data
		other  string // the data of redis-1
	}{
		"decided":                             {false, false, "", "new", ""},
		"all have ended":                      {true, false, "", "new", ""},
		"the data is in its place":            {true, true, "", "new", ""},
		"another host is lost before":         {false, false, "two", "old 2", "old 1"},
		"another host is lost after":          {true, false, "two", "new", "old 1"},
		"the host with the data, before":      {false, false, "one", "old 2", "old 1"},
		"the host with the data, after":       {true, false, "one", "old 2", "old 1"},
		"the host with the data in its place": {true, true, "one", "new", "old 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, one, two := hostsToRestore(t)
			ctx, log := t.Context(), slog.New(slog.DiscardHandler)
			r, err := x.decide(ctx, "one", "redis-2", "")
			if r.ID, r.Moving = "id", c.moving; err == nil {
				err = x.writeJSON(restoreFile, r)
			}
			if err == nil && c.moved {
				// The supervisor was lost just before it removed the decision.
				err = errors.Join(x.place(ctx, r), x.noteMaster(ctx, r.Node, r.ID, true))
			}
			if c.lost != "" {
				x.hosts.absent.add(c.lost)
			}
			through := c.lost == "" || c.lost == "two" && c.moving
			for range 2 { // the next supervisor goes on while no other host has a copy
				copying, failed := x.resume(ctx, log)
				if err = errors.Join(err, failed); err != nil {
					t.Fatal(err)
				}
				if copying != through {
					t.Errorf("the decision stands: %v, want %v", copying, through)
				}
			}
			one.requireData(t, "redis-2", c.want)
			two.requireData(t, "redis-1", c.other)
			k, err := x.readState()
			if (k.Restored == "id") != through {
				t.Errorf("the last restore that was carried through is %q", k.Restored)
			}
			master := k.Redis.Replication
			switch lost := c.lost == "one" && c.moving; {
			case err != nil:
				t.Error(err)
			case c.lost == "one" && !lost || c.lost == "two" && !c.moving:
				if master.Master != "redis-1" || master.ConfigEpoch != 6 {
					t.Errorf("it was given up, and the master is %+v", master)
				}
			case lost && master.Master != "redis-1", !lost && master.Master != "redis-2", master.ConfigEpoch <= 6, !k.Redis.Rewriting:
				t.Errorf("the master is %+v", master)
			}
			if _, err := os.Stat(x.path(restoreFile)); (err == nil) != through {
				t.Errorf("the decision: %v", err)
			}
			if left, _ := filepath.Glob(two.path(beforeRestore + "*")); len(left) > 0 && c.other != "" {
				t.Errorf("host two has %v", left)
			}
		})
	}
}

func TestARestoreOnSeveralHostsIsOfWhatWasStagedForIt(t *testing.T) {
	t.Parallel()
	x, one, _ := hostsToRestore(t)
	if _, err := x.decide(t.Context(), "one", "redis-2", "another"); !errors.As(err, new(*RefusedError)) {
		t.Errorf("what another command has staged is decided for: %v", err)
	}
	if _, err := x.decide(t.Context(), "two", "redis-1", ""); !errors.As(err, new(*RefusedError)) {
		t.Errorf("a host that has nothing staged: %v", err)
	}
	one.requireData(t, "redis-2", "old 2")
	if _, err := os.Stat(x.path(restoreFile)); err == nil {
		t.Error("it is decided")
	}
}

// failing is a host whose disk fails when data is to be moved.
type failing struct {
	machine.Machine
	lose func() // is called before the failure
}

var errDisk = errors.New("the disk fails")

func (f failing) Rename(context.Context, string, string) error {
	f.lose()
	return errDisk
}

// A supervisor may be lost while it moves data for a restore that an earlier one decided.
func TestARestoreThatTwoSupervisorsWereLostInLosesNoData(t *testing.T) {
	t.Parallel()
	x, one, two := hostsToRestore(t)
	ctx, log := t.Context(), slog.New(slog.DiscardHandler)
	if _, err := x.decide(ctx, "one", "redis-2", ""); err != nil {
		t.Fatal(err)
	}
	second, lose := context.WithCancel(ctx)
	x.hosts.named["two"] = home{failing{x.hosts.named["two"].Machine, lose}, "two"}
	if _, err := x.resume(second, log); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	x.hosts.absent.add("two")
	if _, err := x.resume(ctx, log); err != nil {
		t.Fatal(err)
	}
	one.requireData(t, "redis-2", "new")
	two.requireData(t, "redis-1", "old 1")
}

// Otherwise the stack would not start as long as the disk fails.
func TestARestoreOfWhichAHostCannotMoveItsDataIsGivenUp(t *testing.T) {
	t.Parallel()
	x, one, two := hostsToRestore(t)
	ctx := t.Context()
	if _, err := x.decide(ctx, "one", "redis-2", ""); err != nil {
		t.Fatal(err)
	}
	x.hosts.named["two"] = home{failing{x.hosts.named["two"].Machine, func() {}}, "two"}
	if _, err := x.resume(ctx, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	one.requireData(t, "redis-2", "old 2")
	two.requireData(t, "redis-1", "old 1")
	for _, left := range []string{x.path(restoreFile), one.path(decidedDir)} {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}

// What a leader writes may be agreed on although no majority reaches the leader, or although
// its own disk refuses it.
func TestADecisionForARestoreThatNobodyIsSureOfIsLeftToTheNextSupervisor(t *testing.T) {
	t.Parallel()
	for name, agreed := range map[string]bool{"agreed on": true, "not agreed on": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, one, two := hostsToRestore(t)
			ctx, next := t.Context(), x.dir
			x.share = func(name string, content []byte) error {
				err := errors.New("no majority is heard of")
				if agreed && name == restoreFile {
					err = errors.Join(err, next.writeFile(name, 0o600, content))
				}
				return err
			}
			if _, err := x.decide(ctx, "one", "redis-2", ""); !errors.As(err, new(*RestoreCutError)) {
				t.Errorf("the decision: %v", err)
			}
			x.share = nil
			if _, err := x.resume(ctx, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			want, other := "old 2", "old 1"
			if agreed {
				want, other = "new", ""
			}
			one.requireData(t, "redis-2", want)
			two.requireData(t, "redis-1", other)
		})
	}
}

// A host may come back with an empty disk.
func TestARestoreOnSeveralHostsWhoseDataIsGoneIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, moving := range map[string]bool{"before data was moved": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, one, two := hostsToRestore(t)
			ctx := t.Context()
			r, err := x.decide(ctx, "one", "redis-2", "")
			if r.Moving = moving; err == nil {
				err = x.writeJSON(restoreFile, r)
			}
			if err == nil && moving {
				err = x.hosts.named["two"].moveAside(ctx, r.Aside, everyNode)
			}
			if err = errors.Join(err, os.RemoveAll(one.path(decidedDir))); err != nil {
				t.Fatal(err)
			}
			if _, err := x.resume(ctx, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			one.requireData(t, "redis-2", "old 2")
			two.requireData(t, "redis-1", "old 1")
			if _, err := os.Stat(x.path(restoreFile)); err == nil {
				t.Error("the decision is left")
			}
		})
	}
}

// A host that was away when data was moved aside may have a copy of the new data by the time that
// the restore is given up.
func TestARestoreThatIsGivenUpGoesOnWithTheDataThatWasMovedAside(t *testing.T) {
	t.Parallel()
	x, one, two := hostsToRestore(t)
	three := dirAt(t.TempDir())
	m := machine.NewLocal(three.root)
	t.Cleanup(func() { m.Close() })
	x.hosts.named["three"] = home{m, "three"}
	three.withData(t, "redis-3", "old 3")
	ctx, log := t.Context(), slog.New(slog.DiscardHandler)

	if _, err := x.decide(ctx, "one", "redis-2", ""); err != nil {
		t.Fatal(err)
	}
	var r decidedRestore
	if err := x.readJSON(restoreFile, &r); err != nil {
		t.Fatal(err)
	}
	r.Moving = true
	x.hosts.absent.add("three")
	if err := errors.Join(x.writeJSON(restoreFile, r), x.place(ctx, r)); err != nil {
		t.Fatal(err)
	}
	x.hosts.absent = &absence{hosts: map[string]bool{"one": true}}
	three.withData(t, "redis-3", "copy of the new")

	if copying, err := x.resume(ctx, log); copying || err != nil {
		t.Fatal(copying, err)
	}
	two.requireData(t, "redis-1", "old 1")
	k, err := x.readState()
	if master := k.Redis.Replication.Master; err != nil || master != "redis-1" {
		t.Errorf("the master is %s, %v", master, err)
	}
	if got := three.data("redis-3"); got != "" { // or it could be promoted
		t.Errorf("redis-3 has %q", got)
	}
	one.requireData(t, "redis-2", "new")
}

// Where data was not moved yet, no redis node has run since, and the newest data may be that of a
// node that could not be moved.
func TestARestoreThatIsGivenUpBeforeAllWasMovedGoesOnWithTheNewestData(t *testing.T) {
	t.Parallel()
	x, _, two := hostsToRestore(t)
	three := dirAt(t.TempDir())
	m := machine.NewLocal(three.root)
	t.Cleanup(func() { m.Close() })
	x.hosts.named["three"] = home{m, "three"}
	ctx, log := t.Context(), slog.New(slog.DiscardHandler)

	r, err := x.decide(ctx, "one", "redis-2", "")
	r.Moving = true
	if err := errors.Join(err, x.writeJSON(restoreFile, r), x.hosts.named["two"].moveAside(ctx, r.Aside, everyNode)); err != nil {
		t.Fatal(err)
	}
	three.withData(t, "redis-3", "newer 3")
	x.hosts.absent.add("one")
	if copying, err := x.resume(ctx, log); copying || err != nil {
		t.Fatal(copying, err)
	}
	k, err := x.readState()
	if master := k.Redis.Replication.Master; err != nil || master != "redis-3" {
		t.Errorf("the master is %s, %v", master, err)
	}
	two.requireData(t, "redis-1", "old 1")
	three.requireData(t, "redis-3", "newer 3")
}

// The host with the restored data may come back with an empty disk before another host has a copy.
func TestARestoreWhoseDataIsLostAfterItWasPlacedIsGivenUp(t *testing.T) {
	t.Parallel()
	x, one, two := hostsToRestore(t)
	ctx, log := t.Context(), slog.New(slog.DiscardHandler)
	if _, err := x.decide(ctx, "one", "redis-2", ""); err != nil {
		t.Fatal(err)
	}
	if copying, err := x.resume(ctx, log); !copying || err != nil {
		t.Fatal(copying, err)
	}
	if err := os.RemoveAll(one.path("nodes", "redis-2", "data")); err != nil {
		t.Fatal(err)
	}
	if copying, err := x.resume(ctx, log); copying || err != nil {
		t.Fatal(copying, err)
	}
	two.requireData(t, "redis-1", "old 1")
}
