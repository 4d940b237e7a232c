package supervise

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/machine"
)

// lostMachine is the machine of a host that cannot be reached.
type lostMachine struct{ machine.Machine }

func (lostMachine) Glob(context.Context, string) ([]string, error) {
	return nil, machine.ErrUnreachable
}
func (lostMachine) Present(context.Context) bool { return false }

func TestAPurgeRemovesTheDataOfAllHostsOrSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	x, one, two := hostsToRestore(t)
	s := &Supervisor{hosts: x.hosts, log: slog.New(slog.DiscardHandler)}
	for _, d := range []dir{one, two} {
		if err := errors.Join(os.MkdirAll(d.path(beforeRestore+"1", "redis-1"), 0o700), os.MkdirAll(d.path("releases", "web"), 0o700), os.MkdirAll(d.path("logs"), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	there := x.hosts.named["two"]
	x.hosts.named["two"] = home{lostMachine{there.Machine}, "two"}
	if got := s.Away(t.Context()); !slices.Equal(got, []string{"two"}) {
		t.Errorf("away are %v", got)
	}
	err := s.PurgeHosts(t.Context())
	if failed := new(PurgeError); !errors.As(err, &failed) || failed.Left["two"] != two.root || !slices.Equal(failed.Done, []string{"one"}) {
		t.Errorf("host two is lost: %v", err)
	}
	if err == nil || !strings.Contains(err.Error(), "on host two in "+two.root) || !strings.Contains(err.Error(), "That of one is removed") {
		t.Errorf("it says %v", err)
	}
	if two.data("redis-1") != "old 1" {
		t.Error("the data of a host that is lost is gone")
	}

	x.hosts.named["two"] = there
	if err := s.PurgeHosts(t.Context()); err != nil {
		t.Error(err)
	}
	for _, d := range []dir{one, two} {
		left, _ := filepath.Glob(d.path("*"))
		if len(left) != 1 || filepath.Base(left[0]) != "logs" { // the process of the host removes that
			t.Errorf("left is %v", left)
		}
	}
}
