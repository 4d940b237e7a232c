package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

// shaped returns the stack of a file, with an entry for everybody.
func shaped(t *testing.T, text string) stack.Stack {
	t.Helper()
	if !strings.Contains(text, "entry:") {
		text = "entry: {listen: '0.0.0.0:80', auth: none}\n" + text
	}
	s, _, err := stack.Parse("holdfast.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustSpread(t *testing.T, s stack.Stack, kept Placement) Placement {
	t.Helper()
	placed, err := Spread(s, kept)
	if err != nil {
		t.Fatal(err)
	}
	return placed
}

// byHost returns a placement as texts like "one: redis-1 web-1", in the order of the file.
func byHost(s stack.Stack, placed Placement) (all []string) {
	list := nodes(s, Facts{})
	for _, h := range s.Hosts {
		line := h.Name + ":"
		for _, n := range list {
			if placed[n.name] == h.Name {
				line += " " + n.name
			}
		}
		all = append(all, line)
	}
	return all
}

const (
	twoHosts   = "hosts:\n  one: {address: 198.18.7.1}\n  two: {address: 198.18.7.2}\n"
	witness    = "  three: {address: 198.18.7.3, only: sentinel}\n"
	threeHosts = twoHosts + "  three: {address: 198.18.7.3}\n"
	fiveHosts  = threeHosts + "  four: {address: 198.18.7.4}\n  five: {address: 198.18.7.5}\n"
)

func TestNodesAreSpreadOverTheHosts(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"one host", "hosts: {one: {address: 198.18.7.1}}\n", []string{
			"one: sentinel-1 sentinel-2 sentinel-3 redis-1 redis-2 redis-3 web-1 web-2 balancer-1 balancer-2"}},
		{"two hosts", twoHosts, []string{
			"one: sentinel-1 sentinel-3 redis-2 web-1 balancer-1",
			"two: sentinel-2 redis-1 redis-3 web-2 balancer-2"}},
		{"two hosts and a witness", twoHosts + witness, []string{
			"one: sentinel-1 redis-1 redis-3 web-2 balancer-2",
			"two: sentinel-2 redis-2 web-1 balancer-1",
			"three: sentinel-3"}},
		{"the witness first", "hosts:\n" + witness + strings.TrimPrefix(twoHosts, "hosts:\n"), []string{
			"three: sentinel-1",
			"one: sentinel-2 redis-1 redis-3 web-2 balancer-2",
			"two: sentinel-3 redis-2 web-1 balancer-1"}},
		{"three hosts", threeHosts, []string{
			"one: sentinel-1 redis-1 web-1 balancer-2",
			"two: sentinel-2 redis-2 web-2",
			"three: sentinel-3 redis-3 balancer-1"}},
		{"five hosts", fiveHosts, []string{
			"one: sentinel-1 redis-3",
			"two: sentinel-2 web-1",
			"three: sentinel-3 web-2",
			"four: redis-1 balancer-1",
			"five: redis-2 balancer-2"}},
		{"on", threeHosts + "redis: {on: [two, three], sentinels-on: [one, two, three]}\napps: {web: {kv: {}, on: two}}\n", []string{
			"one: sentinel-1 balancer-1",
			"two: sentinel-2 redis-1 redis-3 web-1 web-2",
			"three: sentinel-3 redis-2 balancer-2"}},
		{"only", twoHosts + "  three: {address: 198.18.7.3, only: [balancer, sentinel]}\n", []string{
			"one: sentinel-1 redis-1 redis-3 web-2",
			"two: sentinel-2 redis-2 web-1 balancer-2",
			"three: sentinel-3 balancer-1"}},
		{"applications each by itself", twoHosts + "apps:\n  a: {kv: {}, nodes: 1}\n  b: {kv: {}, nodes: 1}\nroutes: [{path-prefix: /a, app: a}, {app: b}]\nredis: {sentinels: 2, replicas: 1}\n", []string{
			"one: sentinel-1 redis-1 a-1 balancer-1",
			"two: sentinel-2 redis-2 b-1 balancer-2"}},
		{"servers elsewhere need no host", twoHosts + "apps: {web: {servers: [10.0.0.1:80]}}\nredis: {enabled: false}\n", []string{
			"one: balancer-1", "two: balancer-2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shaped(t, c.file)
			if got := byHost(s, mustSpread(t, s, nil)); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// No host has the majority of anything where there are enough hosts.
func TestNoHostHasTheMajorityWhereThatIsPossible(t *testing.T) {
	for hosts := 3; hosts <= 7; hosts++ {
		for _, sentinels := range []int{3, 5, 7} {
			for nodes := 2; nodes <= 5; nodes++ {
				s := stack.Default()
				s.Redis.Sentinels, s.Redis.Replicas, s.Balancers = sentinels, nodes, nodes
				app := s.Apps["web"]
				app.Nodes = nodes
				s.Apps = map[string]stack.App{"a": app, "b": app}
				for i := range hosts {
					s.Hosts = append(s.Hosts, stack.Host{Name: fmt.Sprint("h", i), Address: fmt.Sprint("10.0.0.", i+1)})
				}
				placed := mustSpread(t, s, nil)
				count := map[string]map[string]int{}
				total := map[string]int{}
				for node, host := range placed {
					group := node[:strings.LastIndexByte(node, '-')]
					if count[group] == nil {
						count[group] = map[string]int{}
					}
					count[group][host]++
					total[group]++
				}
				for group, on := range count {
					if most := slices.Max(slices.Collect(maps.Values(on))); 2*most > total[group] {
						t.Errorf("%d hosts: one has %d of %d of %s", hosts, most, total[group], group)
					}
				}
			}
		}
	}
}

func TestWhatIsPlacedStays(t *testing.T) {
	three := shaped(t, threeHosts)
	kept := mustSpread(t, three, nil)
	for _, c := range []struct {
		name, file string
		kept       Placement
		want       map[string]string // what is elsewhere or new; empty: gone
	}{
		{"nothing has changed", threeHosts, kept, nil},
		{"the hosts in another order", "hosts:\n  three: {address: 198.18.7.3}\n  two: {address: 198.18.7.2}\n  one: {address: 198.18.7.1}\n", kept, nil},
		{"a host with another address", strings.Replace(threeHosts, "198.18.7.3", "198.18.8.3", 1), kept, nil},
		{"a host comes", fiveHosts, kept, nil},
		{"from one host to three", threeHosts, mustSpread(t, shaped(t, "hosts: {one: {address: 198.18.7.1}}\n"), nil), nil},
		{"nodes come", threeHosts + "redis: {replicas: 4, sentinels: 5}\nbalancers: 3\n", kept, map[string]string{
			"sentinel-4": "two", "sentinel-5": "three", "redis-4": "one", "redis-5": "two", "balancer-3": "two"}},
		{"nodes come, and a host for them", fiveHosts + "redis: {sentinels: 5}\napps: {web: {kv: {}, nodes: 4}}\n", kept, map[string]string{
			"sentinel-4": "four", "sentinel-5": "five", "web-3": "four", "web-4": "five"}},
		{"nodes go", threeHosts + "redis: {replicas: 1}\nbalancers: 1\n", kept, map[string]string{"redis-3": "", "balancer-2": ""}},
		{"a host goes", twoHosts, kept, map[string]string{"sentinel-3": "two", "redis-3": "one", "balancer-1": "two"}},
		{"a host becomes a witness", twoHosts + witness, kept, map[string]string{"redis-3": "two", "balancer-1": "two"}},
		{"on has changed", threeHosts + "apps: {web: {kv: {}, on: [three, two]}}\n", kept, map[string]string{"web-1": "three"}},
		{"on allows what is", threeHosts + "apps: {web: {kv: {}, on: [one, two]}}\n", kept, nil},
		{"nodes of a host that is nobody's", twoHosts, Placement{"redis-1": "two", "redis-9": "two", "web-1": "gone"}, map[string]string{
			"redis-1": "two", "redis-2": "one", "redis-3": "two", "web-1": "one", "web-2": "two",
			"sentinel-1": "one", "sentinel-2": "two", "sentinel-3": "one", "balancer-1": "one", "balancer-2": "two",
			"redis-9": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shaped(t, c.file)
			got := mustSpread(t, s, c.kept)
			want := maps.Clone(c.kept)
			maps.Copy(want, c.want)
			maps.DeleteFunc(want, func(_, host string) bool { return host == "" })
			if !maps.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
			if again := mustSpread(t, s, got); !maps.Equal(again, got) {
				t.Errorf("the next time it is %v", again)
			}
		})
	}
}

func TestANewNodeGoesToNoHostThatIsAwayWhereOthersMayHaveIt(t *testing.T) {
	s := shaped(t, threeHosts)
	kept := mustSpread(t, s, nil)
	more := shaped(t, threeHosts+"apps: {web: {kv: {}, nodes: 4}}\n")
	placed, err := Spread(more, kept, "three")
	if err != nil || placed["web-3"] == "three" || placed["web-4"] == "three" || placed["redis-3"] != "three" {
		t.Errorf("got %v, %v", placed, err)
	}
	if placed, err := Spread(more, kept, "one", "two", "three"); err != nil || placed["web-3"] != "three" {
		t.Errorf("where all are away: %v, %v", placed, err)
	}
}

func TestAStackWithoutHostsHasNoPlacement(t *testing.T) {
	if placed := mustSpread(t, stack.Default(), Placement{"redis-1": "one"}); placed != nil {
		t.Errorf("got %v", placed)
	}
}

func TestANodeThatNoHostMayHaveIsAnError(t *testing.T) {
	s := stack.Default()
	s.Hosts = []stack.Host{{Name: "one", Address: "10.0.0.1", Only: []string{"sentinel"}}}
	if placed, err := Spread(s, nil); err == nil || !strings.Contains(err.Error(), "no host may have redis-1") {
		t.Errorf("got %v, %v", placed, err)
	}
}

func TestThePlanFollowsThePlacement(t *testing.T) {
	s := shaped(t, twoHosts+witness)
	k := machine(s, "/state", Placeholders(s))
	k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
	p := mustMake(t, s, k)
	var got []string
	for _, h := range p.Hosts {
		line := h.Name + ":"
		for _, process := range h.Processes {
			line += " " + process.Node
			if want := map[string]string{"one": "198.18.7.1", "two": "198.18.7.2", "three": "198.18.7.3"}[h.Name] + ":"; !strings.HasPrefix(process.Address, want) {
				t.Errorf("%s on %s is at %s", process.Node, h.Name, process.Address)
			}
		}
		got = append(got, line)
	}
	if want := byHost(s, k.Placement); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAPlacementThatSaysTooLittleIsRefused(t *testing.T) {
	s := shaped(t, twoHosts)
	for want, change := range map[string]func(Placement){
		"no host was chosen for web-2":                            func(p Placement) { delete(p, "web-2") },
		"web-2 is to run on elsewhere, and there is no such host": func(p Placement) { p["web-2"] = "elsewhere" },
	} {
		k := machine(s, "/state", Placeholders(s))
		k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
		change(k.Placement)
		if _, err := k.make(s); err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestTheStackFileKnowsTheKindsOfNode(t *testing.T) {
	var kinds []string
	for _, k := range Kinds {
		if k != Keepalived { // it is where the balancers are
			kinds = append(kinds, string(k))
		}
	}
	slices.Sort(kinds)
	if want := slices.Sorted(slices.Values(stack.NodeKinds)); !slices.Equal(kinds, want) {
		t.Errorf("the kinds are %q here, and %q in a stack file", kinds, want)
	}
}

// New hosts get their share, and no more nodes move than necessary.
func TestNodesMoveToHostsThatCome(t *testing.T) {
	const oneHost = "hosts: {one: {address: 198.18.7.1}}\n"
	for _, c := range []struct {
		name, from, to string
		want           []string
	}{
		{"from one host to three", oneHost, threeHosts, []string{
			"one: sentinel-1 redis-1 web-1 balancer-1",
			"two: sentinel-3 redis-3 balancer-2",
			"three: sentinel-2 redis-2 web-2"}},
		{"from one host to two and a witness", oneHost, twoHosts + witness, []string{
			"one: sentinel-1 redis-1 redis-2 web-1 balancer-1",
			"two: sentinel-2 redis-3 web-2 balancer-2",
			"three: sentinel-3"}},
		{"from two hosts to three", twoHosts, threeHosts, []string{
			"one: sentinel-1 redis-2 web-1 balancer-1",
			"two: sentinel-2 redis-1 web-2 balancer-2",
			"three: sentinel-3 redis-3"}},
		{"a host that only some nodes may have", oneHost, twoHosts + "redis: {on: one}\n", []string{
			"one: sentinel-1 sentinel-2 redis-1 redis-2 redis-3 web-1 balancer-1",
			"two: sentinel-3 web-2 balancer-2"}},
		{"more nodes with the hosts", oneHost, twoHosts + "redis: {replicas: 3}\n", []string{
			"one: sentinel-1 sentinel-2 redis-1 redis-2 web-1 balancer-1",
			"two: sentinel-3 redis-3 redis-4 web-2 balancer-2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shaped(t, c.to)
			kept := mustSpread(t, shaped(t, c.from), nil)
			placed, err := Balance(s, kept)
			if err != nil {
				t.Fatal(err)
			}
			if got := byHost(s, placed); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if again, _ := Balance(s, placed); !maps.Equal(again, placed) {
				t.Errorf("the next time it is %v", again)
			}
		})
	}
}

// In the middle of a change a node that has not moved yet is where it was, even on a host that the
// stack no longer has, and the other nodes are told so.
func TestANodeThatStaysIsWhereItWas(t *testing.T) {
	s := shaped(t, twoHosts)
	k := machine(s, "/state", Placeholders(s))
	k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
	k.Stay = map[string]Place{"redis-1": {Name: "gone", Address: "198.18.7.9"}, "web-1": {Name: "one", Address: "127.0.0.1"}}
	p := mustMake(t, s, k)
	want := map[string]string{"redis-1": "gone 198.18.7.9:", "web-1": "one 127.0.0.1:", "web-2": "two 198.18.7.2:"}
	found := map[string]bool{}
	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			if is := h.Name + " " + process.Address; want[process.Node] != "" {
				found[process.Node] = strings.HasPrefix(is, want[process.Node])
			}
			for _, f := range h.Files {
				if strings.HasPrefix(f.Path, "nodes/sentinel-2/sentinel.conf") && !strings.Contains(f.Content, "198.18.7.9") {
					t.Errorf("sentinel-2 is not told where redis-1 is: %s", f.Content)
				}
			}
		}
	}
	if len(found) != 3 || !found["redis-1"] || !found["web-1"] || !found["web-2"] {
		t.Errorf("where they were, or are: %v", found)
	}
}
