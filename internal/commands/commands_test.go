package commands

import "testing"

func TestARuleFollowsFromTheNameAndFromWhatRedisSays(t *testing.T) {
	dangerous := func(name string) Command { return Command{Name: name, Dangerous: true} }
	for _, c := range []struct {
		command           Command
		inStack, byItself Rule
	}{
		{Command{Name: "get"}, Free, Free},
		{Command{Name: "tomorrows"}, Free, Free},
		{dangerous("tomorrows"), Never, Asks},
		{dangerous("keys"), Asks, Asks},
		{dangerous("lastsave"), Free, Free},
		{Command{Name: "blpop", Blocking: true}, Asks, Asks},
		{Command{Name: "tomorrows", Blocking: true}, Never, Asks},
		{Command{Name: "wait", Blocking: true}, Asks, Asks},
		{Command{Name: "tomorrows", Stateful: true}, Never, Never},
		{Command{Name: "client|id"}, Never, Never},
		{dangerous("replicaof"), Never, Never},
		{Command{Name: "monitor", Dangerous: true, Stateful: true}, Never, Never},
		{dangerous("config|set"), Never, Asks},
		{dangerous("config|get"), Asks, Asks},
		{Command{Name: "config", Container: true}, Free, Free},
		{Command{Name: "acl", Container: true}, Never, Free},
		{Command{Name: "acl|whoami"}, Never, Free},
		{Command{Name: "cluster|info"}, Never, Free},
		{Command{Name: "memory|purge"}, Never, Free},
		{Command{Name: "memory|usage"}, Free, Free},
	} {
		for inStack, want := range map[bool]Rule{true: c.inStack, false: c.byItself} {
			rule, why := Judge(c.command, inStack)
			if rule != want || (rule == Free) != (why == "") {
				t.Errorf("%+v, in a stack: %v: %d %q, want %d", c.command, inStack, rule, why, want)
			}
		}
	}
}
