package stack

import (
	"slices"
	"testing"
)

const grown = `entry: {listen: "0.0.0.0:80", auth: none, on: [one, two], virtual: {address: 198.18.7.100/24}}
hosts:
  one:   {address: 198.18.7.1, only: [balancer, web, redis]}
  two:   {address: 198.18.7.2}
  three: {address: 198.18.7.3, only: sentinel}
apps: {web: {kv: {}, on: two}}
redis: {on: [one, two], sentinels-on: [two, three]}
`

// Every intermediate stack is also a stack file that can be read.
func TestAStackOnTheWayToOtherHostsIsAStack(t *testing.T) {
	s, _, err := Parse("holdfast.yaml", []byte(grown))
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]Stack{"one": s.OnlyOn(s.Hosts[0]), "one two": s.Without("three"), "one three": s.Without("two").withRoom("three")} {
		again, _, err := Parse("holdfast.yaml", of.Show())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var names []string
		for _, h := range again.Hosts {
			names = append(names, h.Name)
		}
		if want := map[string][]string{"one": {"one"}, "one two": {"one", "two"}, "one three": {"one", "three"}}[name]; !slices.Equal(names, want) {
			t.Errorf("the hosts are %q, want %q", names, want)
		}
	}
	if again, _, _ := Parse("holdfast.yaml", s.Show()); len(again.Hosts) != 3 || len(again.Apps["web"].On) != 1 || !again.Entry.Virtual.Enabled() {
		t.Errorf("the stack itself has changed: %s", s.Show())
	}
}

// withRoom returns the stack with one host that may have all kinds of node.
func (s Stack) withRoom(host string) Stack {
	s.Hosts = slices.Clone(s.Hosts)
	for i := range s.Hosts {
		if s.Hosts[i].Name == host {
			s.Hosts[i].Only = nil
		}
	}
	return s
}
