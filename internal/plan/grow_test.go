package plan

import (
	"strings"
	"testing"
)

// A stack that becomes one of several hosts still listens where it did. Otherwise its clients would
// be refused for a moment.
func TestAnEntryMayBecomeOneForAllMachines(t *testing.T) {
	before := shaped(t, "entry: {listen: '127.0.0.1:6301'}\n")
	for _, c := range []struct {
		listen, hosts string
		refused       bool
	}{
		{"0.0.0.0:6301", twoHosts, false},
		{"0.0.0.0:6302", twoHosts, true},
		{"198.18.7.1:6301", twoHosts, true},
		{"[::]:6301", twoHosts, true},
		{"0.0.0.0:6301", "", true},
		{"0.0.0.0:6301", "hosts: {one: {address: 127.0.0.1}, two: {address: 127.0.0.2}}\n", true},
	} {
		after := shaped(t, "entry: {listen: '"+c.listen+"', auth: none}\n"+c.hosts)
		got := strings.Join(Refusals(before, after, nil), "; ")
		if (got != "") != c.refused {
			t.Errorf("%s with %q is refused: %q", c.listen, c.hosts, got)
		}
	}
}

func TestABalancerOfAHostListensOnTheLoopbackAddressToo(t *testing.T) {
	s := shaped(t, "network: trusted\n"+twoHosts)
	k := machine(s, "/state", Placeholders(s))
	k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
	for _, h := range mustMake(t, s, k).Hosts {
		for _, f := range h.Files {
			if !strings.HasSuffix(f.Path, "haproxy.cfg") {
				continue
			}
			for _, want := range []string{"0.0.0.0:80,127.0.0.1:80", h.Address + ":", ",127.0.0.1:"} {
				if !strings.Contains(f.Content, want) {
					t.Errorf("%s of host %s lacks %q", f.Path, h.Name, want)
				}
			}
		}
	}
}
