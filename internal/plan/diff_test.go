package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

// changes returns what happens when one stack file replaces another, without the nodes that stay
// untouched.
func changes(t *testing.T, old, now string) (all []NodeChange, steps []Step, refused []string) {
	t.Helper()
	all, steps, refused = allChanges(t, old, now, "")
	return slices.DeleteFunc(all, func(c NodeChange) bool { return c.Action == Untouched }), steps, refused
}

// allChanges returns the changes of all nodes while master is the Redis master.
func allChanges(t *testing.T, old, now, master string) (all []NodeChange, steps []Step, refused []string) {
	t.Helper()
	plans := make([]Plan, 2)
	for i, text := range []string{old, now} {
		s, _, err := stack.Parse("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ports := map[string]int{}
		for n, need := range Needs(s) {
			// A node has the same port in both plans, wherever it stands in the list.
			ports[need.Node] = need.Fixed
			if need.Fixed == 0 {
				ports[need.Node] = 20000 + int(need.Node[0])*100 + int(need.Node[len(need.Node)-1]) + 31*len(need.Node)
			}
			_ = n
		}
		secrets := Placeholders(s)
		m := known{Facts{Ports: ports, Secrets: secrets}, HostFacts{StateDir: "/s", BaseDir: "/b", Cores: 4}}
		if plans[i], err = m.make(s); err != nil {
			t.Fatal(err)
		}
	}
	was, is := plans[0], plans[1]
	differences := stack.Differences(was.Stack, is.Stack)
	diff := Diff(was.Hosts[0], is.Hosts[0], differences)
	return diff, Steps(diff, is.Stack, nil, master), Refusals(was.Stack, is.Stack, diff)
}

func TestWhatAChangeOfTheStackFileDoesToItsNodes(t *testing.T) {
	const base = "apps: {web: {kv: {}}, shop: {command: [run]}}\nroutes: [{path-prefix: /shop, app: shop}, {app: web}]\n"
	app := func(web, shop string) string {
		return "apps: {web: {" + web + "}, shop: {" + shop + "}}\nroutes: [{path-prefix: /shop, app: shop}, {app: web}]\n"
	}
	const web, shop = "kv: {}", "command: [run]"
	for _, c := range []struct {
		what, text string
		want       []string // "node action causes"
	}{
		{"nothing", base, nil},
		{"a variable", app(web, shop+", env: {A: b}"), []string{"shop-1 restart apps.shop.env.A", "shop-2 restart apps.shop.env.A"}},
		{"a node more", app(web+", nodes: 3", shop), []string{
			"web-3 start apps.web.nodes", "balancer-1 reload apps.web.nodes", "balancer-2 reload apps.web.nodes",
		}},
		{"a port", app(web, shop+", ports: [9001]"), []string{
			"balancer-1 reload apps.shop.ports", "balancer-2 reload apps.shop.ports", "shop-1 restart apps.shop.ports",
		}},
		{"a time-out", base + "timeouts: {client: 9s}\n", []string{"balancer-1 reload timeouts.client", "balancer-2 reload timeouts.client"}},
		{"settings of Redis", base + "redis: {memory: 64mb, fsync: always}\n", []string{
			"redis-1 set redis.fsync, redis.memory", "redis-2 set redis.fsync, redis.memory", "redis-3 set redis.fsync, redis.memory",
		}},
		{"how Sentinels watch", base + "redis: {failover-timeout: 3s}\n", []string{
			"sentinel-1 set redis.failover-timeout", "sentinel-2 set redis.failover-timeout", "sentinel-3 set redis.failover-timeout",
		}},
		{"a replica more", base + "redis: {replicas: 3}\n", []string{
			"sentinel-1 set redis.replicas", "sentinel-2 set redis.replicas", "sentinel-3 set redis.replicas", "redis-4 start redis.replicas",
			"balancer-1 reload redis.replicas", "balancer-2 reload redis.replicas",
		}},
		{"a Sentinel less", base + "redis: {sentinels: 2}\n", []string{
			"web-1 restart redis.sentinels", "web-2 restart redis.sentinels", "shop-1 restart redis.sentinels", "shop-2 restart redis.sentinels",
			"sentinel-3 stop redis.sentinels",
		}},
		{"a redis node elsewhere", base + "redis: {ports: [9001]}\n", []string{
			"redis-1 restart redis.ports", "balancer-1 reload redis.ports", "balancer-2 reload redis.ports",
		}},
		{"what the supervisor alone goes by", base + "rollout: {settle: 9s, parallel: 2}\n", nil},
		{"how long a node may take", app(web, shop+", grace: 9s, health: {start: 50s}"), nil},
		{"tokens", app("kv: {tokens: [{name: a, hash: "+strings.Repeat("ab", 32)+"}]}", shop), []string{
			"web-1 restart apps.web.kv.tokens", "web-2 restart apps.web.kv.tokens",
		}},
	} {
		all, _, refused := changes(t, base, c.text)
		var got []string
		for _, n := range all {
			got = append(got, fmt.Sprintf("%s %s %s", n.Node, n.Action, strings.Join(n.Causes, ", ")))
		}
		if !slices.Equal(got, c.want) || len(refused) > 0 {
			t.Errorf("%s:\ngot  %q\nwant %q\nrefused %q", c.what, got, c.want, refused)
		}
	}
}

func TestWhatCannotBeDoneWithoutAnOutageIsRefused(t *testing.T) {
	for now, want := range map[string]string{
		"name: other\n":                                        "name: ",
		"entry: {listen: 127.0.0.1:99}\n":                      "entry.listen: ",
		"redis: {replicas: 0}\n":                               "redis.replicas: the last replica",
		"redis: {sentinels: 0}\n":                              "redis.sentinels: from 3 to 0",
		"redis: {sentinels: 1}\n":                              "redis.sentinels: the last but one",
		"redis: {replicas: 1, sentinels: 2}\n":                 "",
		"redis: {replicas: 3, sentinels: 5}\n":                 "",
		"redis: {ports: [9001], sentinel-ports: [9002]}\n":     "",
		"redis: {enabled: false}\napps: {pages: {files: .}}\n": "redis.enabled: ",
		"redis: {memory: 1gb}\n":                               "",
	} {
		_, _, refused := changes(t, "", now)
		if all := strings.Join(refused, "\n"); want == "" && all != "" || !strings.Contains(all, want) {
			t.Errorf("%s: %q", now, all)
		}
	}
}

// New nodes come first, and leaving nodes last.
func TestTheStepsOfAChangeAreInOrder(t *testing.T) {
	old := "apps: {web: {kv: {}, nodes: 3}, shop: {command: [run], nodes: 4}, old: {command: [old], nodes: 1}}\nroutes: [{path-prefix: /shop, app: shop}, {path-prefix: /old, app: old}, {app: web}]\n"
	now := "apps: {web: {kv: {}}, shop: {command: [run, on], nodes: 4}, new: {command: [new]}}\nroutes: [{path-prefix: /shop, app: shop}, {path-prefix: /new, app: new}, {app: web}]\nrollout: {parallel: 2}\n"
	_, steps, _ := changes(t, old, now)
	groups := inGroups(steps)
	want := []string{
		"set sentinel-1", "set sentinel-2", "set sentinel-3", "set redis-1", "set redis-2", "set redis-3",
		"start new-1", "start new-2", "stop web-3", "reload balancer-1", "reload balancer-2",
		"restart shop-1", "restart shop-2 & restart shop-3", "restart shop-4", "stop old-1",
		"set sentinel-1 late", "set sentinel-2 late", "set sentinel-3 late", "set redis-1 late", "set redis-2 late", "set redis-3 late",
	}
	if !slices.Equal(groups, want) {
		t.Errorf("got  %q\nwant %q", groups, want)
	}
}

// A host that loses the address gives it away while the others still listen to it, and a new host
// speaks when the others listen.
func TestTheVirtualAddressMovesBetweenTheBalancersSteps(t *testing.T) {
	steps := Steps([]NodeChange{
		{Node: "balancer-1", Kind: Balancer, Action: Reload},
		{Node: "balancer-2", Kind: Balancer, Action: Stop},
		{Node: "balancer-3", Kind: Balancer, Action: Start},
		{Node: "keepalived-1", Kind: Keepalived, Action: Restart},
		{Node: "keepalived-2", Kind: Keepalived, Action: Stop},
		{Node: "keepalived-3", Kind: Keepalived, Action: Start},
	}, stack.Default(), nil, "")
	want := []string{
		"reload balancer-1", "start balancer-3", "stop keepalived-2", "restart keepalived-1", "start keepalived-3", "stop balancer-2",
	}
	if got := inGroups(steps); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// inGroups returns the steps as words, one text for each group.
func inGroups(steps []Step) (groups []string) {
	group := -1
	for _, s := range steps {
		word := fmt.Sprintf("%s %s", s.Action, s.Node)
		if s.Late {
			word += " late"
		}
		if len(s.Gone) > 0 {
			word += ": " + strings.Join(s.Gone, ", ")
		}
		if s.Group != group {
			group = s.Group
			groups = append(groups, word)
			continue
		}
		groups[len(groups)-1] += " & " + word
	}
	return groups
}

// Clients know a redis node while it exists, and it is forgotten when it is gone. Each Sentinel is
// forgotten before the next one goes.
func TestRedisNodesAndSentinelsComeAndGoInOrder(t *testing.T) {
	const apps = "apps: {shop: {command: [run]}}\nroutes: [{app: shop}]\nbalancers: 1\n"
	for _, c := range []struct{ what, old, now, master, want string }{
		{"more", "", "replicas: 4, sentinels: 5", "redis-1",
			"set sentinel-1, set sentinel-2, set sentinel-3, start redis-4, start redis-5, start sentinel-4, start sentinel-5, reload balancer-1, restart shop-1, restart shop-2"},
		{"the first replica", "replicas: 0", "replicas: 1", "redis-1",
			"start redis-2, set redis-1, reload balancer-1"},
		{"replicas fewer", "replicas: 3", "replicas: 1", "redis-3",
			"hand over redis-3, set sentinel-1, set sentinel-2, set sentinel-3, reload balancer-1, stop redis-4, stop redis-3, " +
				"forget sentinel-1: redis-3, redis-4, forget sentinel-2: redis-3, redis-4, forget sentinel-3: redis-3, redis-4"},
		{"Sentinels fewer", "sentinels: 5", "sentinels: 3", "redis-1",
			"restart shop-1, restart shop-2, stop sentinel-5, forget sentinel-1: sentinel-5, forget sentinel-2: sentinel-5, forget sentinel-3: sentinel-5, " +
				"stop sentinel-4, forget sentinel-1: sentinel-4, forget sentinel-2: sentinel-4, forget sentinel-3: sentinel-4"},
		{"the master elsewhere", "ports: [9001]", "ports: [9002]", "redis-1",
			"hand over redis-1, reload balancer-1, restart redis-1, forget sentinel-1: redis-1, forget sentinel-2: redis-1, forget sentinel-3: redis-1"},
		{"a replica elsewhere", "ports: [9001]", "ports: [9002]", "redis-2",
			"reload balancer-1, restart redis-1, forget sentinel-1: redis-1, forget sentinel-2: redis-1, forget sentinel-3: redis-1"},
		{"a Sentinel elsewhere", "sentinel-ports: [9001]", "sentinel-ports: [9002]", "redis-1",
			"restart shop-1, restart shop-2, restart sentinel-1"},
	} {
		_, steps, refused := allChanges(t, apps+"redis: {"+c.old+"}\n", apps+"redis: {"+c.now+"}\n", c.master)
		if got := strings.Join(inGroups(steps), ", "); got != c.want || len(refused) > 0 {
			t.Errorf("%s:\ngot  %s\nwant %s\n%q", c.what, got, c.want, refused)
		}
	}
	_, _, refused := changes(t, "redis: {ports: [9001, 9002]}\n", "redis: {ports: [9002, 9001]}\n")
	if all := strings.Join(refused, "\n"); !strings.Contains(all, "redis-1 would move from 127.0.0.1:9001 to 127.0.0.1:9002, where redis-2 listens") {
		t.Errorf("exchanged ports: %q", all)
	}
}

func TestSettingsAreTakenFromTheFilesAsRedisTakesThem(t *testing.T) {
	old := map[string]string{"base.conf": "# x\nmaxmemory 0\nsave 900 1\nsave 300 10\nbind 1\n", "users.acl": "user a reset on +get\nuser b reset on\n"}
	now := map[string]string{"base.conf": "maxmemory 5\nsave \"\"\nbind 1\n", "users.acl": "user a reset on +get +set\nuser c reset off\n"}
	s, all := settings(Redis, old, now)
	if got := fmt.Sprint(s.Config, s.Users, s.Gone, all); got != "[{maxmemory 5} {save }] [{a [reset on +get +set]} {c [reset off]}] [b] true" {
		t.Error(got)
	}
	now["base.conf"] = "maxmemory 5\nsave \"\"\nbind 2\n"
	if _, all := settings(Redis, old, now); all {
		t.Error("another address is taken without a restart")
	}
}

func TestWhatAChangeOfTheHostsDoesToTheNodesOfOne(t *testing.T) {
	plan := func(text string, kept Placement) (Plan, Placement) {
		s := shaped(t, text)
		k := machine(s, "/state", Placeholders(s))
		for node := range k.Ports {
			k.Ports[node] = 7000 + int(node[0]) + int(node[len(node)-1]) + 31*len(node)
		}
		k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, kept)
		return mustMake(t, s, k), k.Placement
	}
	virtual := "entry: {listen: '0.0.0.0:80', auth: none, virtual: {address: 198.18.7.100/24}}\n"
	before, kept := plan(threeHosts, nil)
	for _, c := range []struct {
		what, text string
		host       int
		want       []string
	}{
		{"a host comes", fiveHosts, 0, nil},
		{"a host goes", twoHosts, 1, []string{
			// A web node gets the address of every Sentinel.
			"sentinel-3 start [hosts.three.address]", "web-2 restart [hosts.three.address]", "balancer-1 start [hosts.three.address]"}},
		{"an application moves, here it goes", threeHosts + "apps: {web: {kv: {}, on: [two, three]}}\n", 0, []string{
			"balancer-2 reload [apps.web.on]", "web-1 stop [apps.web.on]"}},
		{"the address becomes a virtual one", virtual + threeHosts, 0, []string{"keepalived-2 start [entry.virtual.address entry.virtual.advertise entry.virtual.router]"}},
		{"an application moves, there it comes", threeHosts + "apps: {web: {kv: {}, on: [two, three]}}\n", 2, []string{
			"web-1 start [apps.web.on]", "balancer-1 reload [apps.web.on]"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			after, _ := plan(c.text, kept)
			var got []string
			for _, n := range Diff(before.Hosts[c.host], after.Hosts[c.host], stack.Differences(before.Stack, after.Stack)) {
				if n.Action != Untouched {
					got = append(got, fmt.Sprint(n.Node, " ", n.Action, " ", n.Causes))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
