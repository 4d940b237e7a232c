package drill

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// A later round must not get a fault that needs hosts or disks if the stack was stood up without
// them.
func TestWhatAScheduleNeedsDoesNotDependOnWhatIsDrawnFirst(t *testing.T) {
	for seed := range int64(20) {
		c := Config{Stack: stack.Default(), Random: true, Repeat: 4, Seed: seed, Faults: []string{"kill-web", "full-disk", "cut-host"}}
		if needs, want := c.requirements(), (requirements{hosts: true, disks: true}); needs != want {
			t.Fatalf("seed %d: needs %+v, want %+v", seed, needs, want)
		}
	}
	if needs := (Config{Stack: stack.Default(), Random: true}).requirements(); needs.any() {
		t.Errorf("a schedule of all needs %+v", needs)
	}
	upgrades := Config{Stack: stack.Default(), Faults: []string{"upgrade-host", "clock-ahead"}}
	if needs, want := upgrades.requirements(), (requirements{hosts: true, programs: true, clocks: true}); needs != want {
		t.Errorf("upgrades and clocks need %+v, want %+v", needs, want)
	}
}

// The drill's own stack has a certificate of its own: those of the stack file are for other names.
func TestTheDrillsOwnStackSpeaksHTTPSWhereTheStackDoes(t *testing.T) {
	for _, secure := range []bool{false, true} {
		c := Config{Stack: stack.Default()}
		if secure {
			c.Stack.Entry.TLS.Certificates = []stack.KeyPair{{Certificate: "www.pem"}}
		}
		s := &supervisedStack{file: filepath.Join(t.TempDir(), "holdfast.yaml")}
		if err := s.declare("own", "  listen: 127.0.0.1:1", c.ownStackSpec(requirements{})); err != nil {
			t.Fatal(err)
		}
		if got := s.spec.Entry.TLS; got.Enabled() != secure || got.SelfSigned != secure {
			t.Errorf("HTTPS %v: it has %+v", secure, got)
		}
	}
}

func TestNobodyElsesDiskIsFilled(t *testing.T) {
	fc := faultContext{stack: &supervisedStack{}}
	if err := fc.fillDisk(t.Context(), supervise.NodeStatus{Name: "redis-1"}); !errors.Is(err, errNoDisks) {
		t.Errorf("it says %v", err)
	}
}

func TestAStackThatWasStartedFromAnotherFileIsSeen(t *testing.T) {
	running := supervise.Status{Stack: "holdfast", Entry: "http://127.0.0.1:6301", Nodes: []supervise.NodeStatus{
		{Name: "balancer-1", Kind: plan.Balancer, Address: "127.0.0.1:6301"},
		{Name: "web-1", Kind: plan.Web, Address: "127.0.0.1:7001"}, {Name: "web-2", Kind: plan.Web, Address: "127.0.0.1:7002"},
	}}
	planned := func(entry string, nodes ...string) plan.Plan {
		p := plan.Plan{Name: "holdfast", EntryURL: entry, Hosts: []plan.Host{{}}}
		for _, n := range nodes {
			name, address, _ := strings.Cut(n, "@")
			p.Hosts[0].Processes = append(p.Hosts[0].Processes, plan.Process{Node: name, Address: address})
		}
		return p
	}
	for _, c := range []struct {
		what string
		p    plan.Plan
		want []string
	}{
		{"the same", planned("http://127.0.0.1:6301", "balancer-1@127.0.0.1:6301", "web-1@127.0.0.1:7001", "web-2@127.0.0.1:7002"), nil},
		{"a node less, and one more", planned("http://127.0.0.1:6301", "balancer-1@127.0.0.1:6301", "web-1@127.0.0.1:7001", "app-1@127.0.0.1:7003"),
			[]string{"web-2 runs and is not declared", "app-1 is declared and does not run"}},
		{"another entry", planned("http://127.0.0.1:80", "balancer-1@127.0.0.1:80", "web-1@127.0.0.1:7001", "web-2@127.0.0.1:7002"),
			[]string{"its entry is http://127.0.0.1:6301, not http://127.0.0.1:80"}},
		{"another place", planned("http://127.0.0.1:6301", "balancer-1@127.0.0.1:6301", "web-1@127.0.0.1:7009", "web-2@127.0.0.1:7002"),
			[]string{"web-1 is at 127.0.0.1:7001, not 127.0.0.1:7009"}},
	} {
		if got := differ(running, c.p); strings.Join(got, ", ") != strings.Join(c.want, ", ") {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestTheCommandThatRepeatsADrillIsOneForAShell(t *testing.T) {
	c := Config{Own: true, TokenFile: "/home/a b/token", Args: []string{"--state", "/x/it's", "--file", "/x/holdfast.yaml"}, Mix: Mix{}.withDefaults(false)}
	want := `holdfast drill kill-web --seed 3 --rate 400 --clients 40 --keys 12 --own --token-file '/home/a b/token' --state '/x/it'\''s' --file /x/holdfast.yaml`
	if got := c.repeatCommand([]fault{killWeb}, 3); got != want {
		t.Errorf("it is\n%s, want\n%s", got, want)
	}
}
