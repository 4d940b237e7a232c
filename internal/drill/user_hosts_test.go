package drill

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/history"
	"holdfast/internal/isolate"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

func TestAStackOfSeveralHostsThatRunsIsStruckWhereItCanBeMended(t *testing.T) {
	c := Config{Stack: stack.Default(), Several: true}
	c.Stack.Entry.Virtual.Addresses = []string{"198.18.7.100/24"}
	for _, name := range userHostFaults {
		f, known := findFault(name, false)
		if !known || f.disk || f.programs || f.clocks {
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
		if !slices.Contains(userHostFaults, f.name) {
			t.Errorf("%s is in the course", f.name)
		}
	}
	if left := c.leftOut(); !slices.Contains(left, "kill-supervisor") {
		t.Errorf("left out are %v", left)
	}
	for _, own := range []Config{
		{Stack: c.Stack, Several: true, Faults: []string{"cut-host"}, Own: true},
		{Stack: c.Stack, Several: true, Faults: []string{"cut-host"}, Hosts: 3},
		{Stack: c.Stack, Several: true, Faults: []string{"lose-host"}},
		{Stack: c.Stack, Several: true, Faults: []string{"cut-host", "full-disk"}},
		{Stack: c.Stack, Faults: []string{"cut-host"}},
	} {
		if !own.OnItsOwn() || own.onUserHosts() {
			t.Errorf("%v: a host of the user's is struck", own.Faults)
		}
	}
	c.Faults = []string{"cut-host", "kill-web"}
	if c.OnItsOwn() || !c.onUserHosts() {
		t.Error("no host of the user's is cut off")
	}
}

func TestWhoCutsWhatOffOfAUsersHosts(t *testing.T) {
	s := stack.Default()
	s.Entry.Virtual.Addresses = []string{"198.18.7.100/24"}
	h := threeHosts()
	h.entryPort = 8080
	one, two, three := h.all[0], h.all[1], h.all[2]
	addr := func(all ...host) (addresses []netip.Addr) {
		for _, one := range all {
			addresses = append(addresses, one.address)
		}
		return addresses
	}
	target := &supervisedStack{spec: s, userHosts: h, onUserHosts: true}
	virtual := []netip.Addr{netip.MustParseAddr("198.18.7.100")}
	for _, c := range []struct {
		name    string
		targets []host
		drops   []drop
		want    map[string]isolate.Cut
	}{
		{"from all and the clients", []host{one}, both(hostNames(one), append(hostNames(two, three), clients)), map[string]isolate.Cut{
			one.name: {From: addr(two, three), To: addr(two, three), Ports: []uint16{8080}, Virtual: virtual, Lasts: cutLasts},
		}},
		{"from the others alone", []host{two}, both(hostNames(two), hostNames(one, three)), map[string]isolate.Cut{
			two.name: {From: addr(one, three), To: addr(one, three), Spared: 8080, Lasts: cutLasts},
		}},
		{"in one direction", []host{one}, oneWay(hostNames(one), hostNames(two, three)), map[string]isolate.Cut{
			one.name: {To: addr(two, three), Spared: 8080, Lasts: cutLasts},
		}},
		{"in the other", []host{one}, oneWay(hostNames(two, three), hostNames(one)), map[string]isolate.Cut{
			one.name: {From: addr(two, three), Spared: 8080, Lasts: cutLasts},
		}},
		{"halves", []host{two, three}, both(hostNames(one), hostNames(two, three)), map[string]isolate.Cut{
			two.name:   {From: addr(one), To: addr(one), Spared: 8080, Lasts: cutLasts},
			three.name: {From: addr(one), To: addr(one), Spared: 8080, Lasts: cutLasts},
		}},
	} {
		if got := target.cutsAt(c.targets, c.drops, cutLasts); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}

	// A drill refuses to cut off its own host.
	target.thisHost = one.name
	s1 := faultContext{stack: target, record: &history.Fault{}}
	if err := s1.cut(t.Context(), cutLasts, "", []host{one}, nil); !errors.Is(err, errHere) {
		t.Errorf("this host is cut off: %v", err)
	}
	if got := target.withoutThisHost(h.all); len(got) != 2 || got[0] != two {
		t.Errorf("elsewhere are %v", got)
	}
}

func TestTheEntriesOfHostsThatRun(t *testing.T) {
	p := plan.Plan{Hosts: []plan.Host{
		{Name: "one", Address: "198.18.7.1", Processes: []plan.Process{{Kind: plan.Balancer}}},
		{Name: "two", Address: "fd00::2", Processes: []plan.Process{{Kind: plan.Balancer}}},
		{Name: "three", Address: "198.18.7.3", Processes: []plan.Process{{Kind: plan.Sentinel}}},
	}}
	found, err := hostsOf("http://127.0.0.1:8080", p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := found.entries(nil, p), []string{"http://198.18.7.1:8080", "http://[fd00::2]:8080"}; !slices.Equal(got, want) || found.entryPort != 8080 {
		t.Errorf("%v at %d, want %v", got, found.entryPort, want)
	}
	if names := hostNames(found.all...); !slices.Equal(names, []string{"one", "two", "three"}) {
		t.Errorf("the hosts are %v", names)
	}
	if found, err = hostsOf("https://127.0.0.1:443", p); err != nil {
		t.Fatal(err)
	}
	if got := found.entries([]string{"198.18.7.100"}, p); !slices.Equal(got, []string{"https://198.18.7.100:443"}) {
		t.Errorf("%v", got)
	}
	if _, err := hostsOf("http://127.0.0.1", p); err == nil {
		t.Error("an entry without a port is taken")
	}
}
