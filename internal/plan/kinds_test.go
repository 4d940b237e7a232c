package plan

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

func TestEveryKindHasARow(t *testing.T) {
	if len(traits) != len(Kinds) {
		t.Errorf("%d rows for %d kinds", len(traits), len(Kinds))
	}
	signals := []string{"SIGTERM", "SIGINT", "SIGUSR1"}
	for _, k := range Kinds {
		row, there := traits[k]
		if !there {
			t.Errorf("%s has no row", k)
			continue
		}
		if row.Stage == 0 || !slices.Contains(signals, row.StopSignal) {
			t.Errorf("%s starts at stage %d and stops by %q", k, row.Stage, row.StopSignal)
		}
		if row.CutSignal != "" && !slices.Contains(signals, row.CutSignal) {
			t.Errorf("%s is cut by %q", k, row.CutSignal)
		}
		// Only for an application's node these are decided elsewhere.
		if own := k == Web; (row.Program == "") != own || (row.Probe == "") != own || (row.Keys == nil) != own || (row.On == "") != own {
			t.Errorf("%s runs %q, is probed by %q and counted by %q", k, row.Program, row.Probe, row.Keys)
		}
		if row.Data && !row.KnownByAddress {
			t.Errorf("%s has data, and nobody remembers where it is", k)
		}
	}
}

func TestTheKeysOfAKindAreKeysOfTheStackFile(t *testing.T) {
	text := string(stack.Schema())
	for _, k := range Kinds {
		for _, key := range append(slices.Clone(k.Traits().Keys), k.Traits().On) {
			parts := strings.Split(key, ".")
			if name := parts[len(parts)-1]; key != "" && !strings.Contains(text, `"`+name+`"`) {
				t.Errorf("%s: the stack file has no key %s", k, key)
			}
		}
	}
}

func TestEveryProcessFollowsTheRowOfItsKind(t *testing.T) {
	for name, s := range stacks(t) {
		p := mustMake(t, s, machine(s, "/state", Placeholders(s)))
		ports := map[Kind]map[string]int{}
		for _, process := range p.Hosts[0].Processes {
			row := process.Kind.Traits()
			if row.Program != "" && process.Program != row.Program {
				t.Errorf("%s: %s runs %s", name, process.Node, process.Program)
			}
			if row.Probe != "" && process.Probe.Kind != row.Probe {
				t.Errorf("%s: %s is probed by %s", name, process.Node, process.Probe.Kind)
			}
			// A program may have to wait for the balancers, and may have a signal of its own.
			if program := process.App != "" && s.Apps[process.App].Kind() == stack.Command; !program && (process.Stage != row.Stage || process.StopSignal != row.StopSignal) {
				t.Errorf("%s: %s starts at stage %d and stops by %s", name, process.Node, process.Stage, process.StopSignal)
			}
			if process.Grace <= 0 || row.Grace > 0 && process.Grace != row.Grace {
				t.Errorf("%s: %s may take %v to end", name, process.Node, process.Grace)
			}
			if ports[process.Kind] == nil {
				ports[process.Kind] = map[string]int{}
			}
			ports[process.Kind][process.Address]++
		}
		for kind, addresses := range ports {
			for address, n := range addresses {
				if n > 1 && !kind.Traits().SharesAddress {
					t.Errorf("%s: %d nodes of kind %s are at %s", name, n, kind, address)
				}
			}
		}
	}
}

// All nodes of a lower rank have ended before a node of a higher rank is asked to end.
func TestAShutdownGoesFromTheEntryToTheData(t *testing.T) {
	var order []string
	for rank := range StopRanks {
		for _, k := range Kinds {
			for _, master := range []bool{true, false} {
				if name := map[bool]string{true: "master"}[master && k == Redis] + string(k); k.StopRank(master) == rank && !slices.Contains(order, name) {
					order = append(order, name)
				}
			}
		}
	}
	if want := []string{"keepalived", "balancer", "web", "sentinel", "masterredis", "redis"}; !slices.Equal(order, want) {
		t.Errorf("the order is %q, want %q", order, want)
	}
}
