package drill

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

func TestAStackOfSeveralHostsThatRunsIsStruckWhereItCanBeMended(t *testing.T) {
	c := Config{Stack: stack.Default(), Several: true}
	for _, name := range afarFaults {
		f, known := find(name)
		if !known || f.hosts || f.disk {
			t.Errorf("%s is no fault for it", name)
		}
		c.Faults = []string{name}
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, why := range map[string]string{"kill-supervisor": "nobody could start again", "switchover-kill-supervisor": "nobody could start again", "slow-link": "runs on several"} {
		c.Faults = []string{"kill-web", name}
		if err := c.Check(); !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", name, err)
		}
		c.Several = false
		if err := c.Check(); err != nil {
			t.Errorf("%s on one machine: %v", name, err)
		}
		c.Several = true
	}

	c.Faults = nil
	chosen, err := c.pool()
	if err != nil || len(chosen) < 10 {
		t.Fatalf("the course has %d faults, %v", len(chosen), err)
	}
	for _, f := range chosen {
		if !slices.Contains(afarFaults, f.name) {
			t.Errorf("%s is in the course", f.name)
		}
	}
	if left := c.leftOut(); !slices.Contains(left, "kill-supervisor") {
		t.Errorf("left out are %v", left)
	}
	c.Faults = []string{"cut-host"}
	if !c.OnItsOwn() || c.afar() {
		t.Error("a host of the user's is cut off")
	}
}

func TestTheEntriesOfHostsThatRun(t *testing.T) {
	p := plan.Plan{Hosts: []plan.Host{
		{Name: "one", Address: "198.18.7.1", Processes: []plan.Process{{Kind: plan.Balancer}}},
		{Name: "two", Address: "fd00::2", Processes: []plan.Process{{Kind: plan.Balancer}}},
		{Name: "three", Address: "198.18.7.3", Processes: []plan.Process{{Kind: plan.Sentinel}}},
	}}
	got, err := entriesAfar("http://127.0.0.1:8080", nil, p)
	if want := []string{"http://198.18.7.1:8080", "http://[fd00::2]:8080"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := entriesAfar("https://127.0.0.1:443", []string{"198.18.7.100"}, p); err != nil || !slices.Equal(got, []string{"https://198.18.7.100:443"}) {
		t.Errorf("%v, %v", got, err)
	}
}
