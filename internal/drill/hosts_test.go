package drill

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

func TestANetworkIsChosenThatNobodyHas(t *testing.T) {
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	for _, c := range []struct {
		what  string
		taken []netip.Prefix
		from  int
		want  string
	}{
		{"a machine that knows none of them", prefixes("10.0.0.0/8", "127.0.0.0/8"), 7, "198.18.7.0/24"},
		{"another drill's is passed by", prefixes("198.18.7.0/24", "198.18.8.0/24"), 7, "198.18.9.0/24"},
		{"so is a tunnel's", prefixes("198.18.0.0/16"), 7, "198.19.0.0/24"},
		{"at the end it begins again", prefixes("198.19.255.0/24"), 511, "198.18.0.0/24"},
		{"a route to everywhere takes nothing", prefixes("0.0.0.0/0"), 300, "198.19.44.0/24"},
		{"there may be none", prefixes("198.18.0.0/15"), 7, ""},
	} {
		got, err := chooseNetwork(c.taken, c.from)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: %v was chosen", c.what, got)
		case c.want != "" && (err != nil || got.String() != c.want):
			t.Errorf("%s: %v (%v), want %s", c.what, got, err, c.want)
		}
	}
}

// threeHosts returns the description of three hosts that do not exist.
func threeHosts() *hosts {
	h := newHosts([]stack.Host{{Name: "host-1"}, {Name: "host-2"}, {Name: "host-3", Only: []string{"sentinel"}}})
	h.assignAddresses(netip.MustParsePrefix("198.18.7.0/24"))
	return h
}

func TestHostsSayWhereAStackIs(t *testing.T) {
	h := threeHosts()
	if len(h.tag) > 15 {
		t.Errorf("%q is too long a name for a link", h.tag)
	}
	declared := []stack.Host{{}, {}, {Only: []string{"sentinel", "web"}}}
	for i := range declared {
		declared[i].Name = h.all[i].name
	}
	want := "hosts:\n  host-1: {address: 198.18.7.1}\n  host-2: {address: 198.18.7.2}\n  host-3: {address: 198.18.7.3, only: [sentinel, web]}\n"
	if got := h.text(declared); got != want {
		t.Errorf("the file says %q, want %q", got, want)
	}
	virtual := stack.Virtual{Addresses: []string{"10.0.0.1/8", "10.0.0.2/8"}, Advertise: time.Second, Router: 7}
	if got, want := h.virtualText(virtual), "\n  virtual: {address: [198.18.7.240/24, 198.18.7.241/24], advertise: 1s, router: 7}"; got != want || h.virtualText(stack.Virtual{}) != "" {
		t.Errorf("the file says %q, want %q", got, want)
	}
	p := plan.Plan{Hosts: []plan.Host{
		{Name: "host-1", Processes: []plan.Process{{Kind: plan.Redis}}}, {Name: "host-3", Processes: []plan.Process{{Kind: plan.Web}, {Kind: plan.Balancer}}},
	}}
	if got := h.entries(nil, p); !slices.Equal(got, []string{"http://198.18.7.3:6301"}) {
		t.Errorf("the entries are %q", got)
	}
	if got := h.entries([]string{"198.18.7.240"}, p); !slices.Equal(got, []string{"http://198.18.7.240:6301"}) {
		t.Errorf("the entries are %q", got)
	}
	if got := h.hostOf(supervise.NodeStatus{Host: "host-2"}); got != h.all[1] {
		t.Errorf("a node of host-2 is on %v", got)
	}
	if got := h.except(h.all[0], h.all[2]); !slices.Equal(got, h.all[1:2]) {
		t.Errorf("all but host-1 and host-3 are %v", got)
	}
	// One equal tag in 65,536 is chance, three in a row are not.
	same := 0
	for range 3 {
		if newHosts(declared).tag == h.tag {
			same++
		}
	}
	if same == 3 {
		t.Errorf("every drill of a process has the tag %s", h.tag)
	}
}

func TestACutIsARuleForEachDirection(t *testing.T) {
	rules := threeHosts().cutRules(append(both([]string{"host-1"}, []string{"host-2", clients}), oneWay([]string{"host-3"}, []string{"host-1"})...))
	var got []string
	arp := 0
	for line := range strings.Lines(rules) {
		if strings.HasPrefix(line, "add rule") && strings.Contains(line, " arp ") {
			if !strings.HasSuffix(line, " arp saddr ip 198.18.7.240/28 drop\n") {
				t.Errorf("more is dropped than who has a virtual address: %s", line)
			}
			arp++
		} else if strings.HasPrefix(line, "add rule") {
			f := strings.Fields(line)
			got = append(got, strings.ReplaceAll(f[6]+">"+f[8], `"`, ""))
			if !strings.Contains(line, " ether type ip counter drop ") {
				t.Errorf("the rule does not count, or drops more than IP: %s", line)
			}
		}
	}
	want := []string{"e1>e2", "e1>machine", "e2>e1", "machine>e1", "e3>e1"}
	if !slices.Equal(got, want) || arp != len(want) {
		t.Errorf("what is dropped goes %q, want %q; ARP in %d directions", got, want, arp)
	}
}

func TestABalancerMissesWhatTheClientsReachByItsOwnChecks(t *testing.T) {
	s := stack.Default()
	reaches := loadTarget{apps: []string{s.Routes[0].App}}
	want := detectionDelay(s, reaches)
	s.Apps = maps.Clone(s.Apps)
	s.Apps["slow"] = stack.App{Servers: []string{"127.0.0.1:1"}, Health: stack.Health{Fall: 4, Interval: time.Minute}}
	kv := s.Apps[s.Routes[0].App]
	kv.Health.Interval = time.Minute
	s.Apps["aside"] = kv
	s.Routes = append([]stack.Route{{PathPrefix: []string{"/slow"}, App: "slow"}}, s.Routes...)
	if got := detectionDelay(s, reaches); got != want || got == 0 {
		t.Errorf("it takes %v, and without the other applications %v", got, want)
	}
}
