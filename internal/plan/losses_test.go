package plan

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

func TestWhatEachLossEnds(t *testing.T) {
	const oneOfEach = "routes: [{path-prefix: /a, app: a}, {app: b}]\n"
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"no hosts", "balancers: 2\n", nil},
		// It ends with its machine. Shape warns of that.
		{"one host", "hosts: {one: {address: 198.18.7.1}}\n", nil},
		{"three hosts", threeHosts, nil},
		{"five hosts", fiveHosts, nil},
		{"two hosts", twoHosts, []string{
			"losing one ends writes: 2 of 3 Sentinels are there, and the master may be; add a host with only: [sentinel]",
			"losing two ends writes: 2 of 3 redis nodes are there, and a master without a replica takes no writes; set redis.replicas: 3",
		}},
		{"two hosts and a witness", twoHosts + witness, []string{
			"losing one ends writes: 2 of 3 redis nodes are there, and a master without a replica takes no writes; set redis.replicas: 3",
		}},
		{"two hosts and a witness, two copies on each", twoHosts + witness + "redis: {replicas: 3}\n", nil},
		{"one copy on each", twoHosts + witness + "redis: {replicas: 1}\n", []string{
			"losing one ends writes: 1 of 2 redis nodes is there, and a master without a replica takes no writes; set redis.replicas: 3",
			"losing two ends writes: 1 of 2 redis nodes is there, and a master without a replica takes no writes; set redis.replicas: 3",
		}},
		{"two copies on three hosts", threeHosts + "redis: {replicas: 1}\n", []string{
			"losing one ends writes: 1 of 2 redis nodes is there, and a master without a replica takes no writes; set redis.replicas: 2",
			"losing two ends writes: 1 of 2 redis nodes is there, and a master without a replica takes no writes; set redis.replicas: 2",
		}},
		{"an even number of Sentinels", twoHosts + "redis: {replicas: 3, sentinels: 4}\n", []string{
			"losing one ends writes: 2 of 4 Sentinels are there, and the master may be; add a host with only: [sentinel]",
			"losing two ends writes: 2 of 4 Sentinels are there, and the master may be; add a host with only: [sentinel]",
		}},
		{"a single Sentinel", threeHosts + "redis: {sentinels: 1}\n", []string{
			"losing one ends writes: the only Sentinel is there, and the master may be; set redis.sentinels: 3",
		}},
		{"two Sentinels", threeHosts + "redis: {sentinels: 2}\n", []string{
			"losing one ends writes: 1 of 2 Sentinels is there, and the master may be; set redis.sentinels: 3",
			"losing two ends writes: 1 of 2 Sentinels is there, and the master may be; set redis.sentinels: 3",
		}},
		{"no Sentinels", threeHosts + "redis: {sentinels: 0}\n", []string{
			"losing one ends writes: redis-1 is the master, and without Sentinels no other node takes its place; set redis.sentinels: 3",
		}},
		{"the Sentinels beside the data", threeHosts + "redis: {sentinels-on: [three], on: [one, two], replicas: 3}\n", []string{
			"losing three ends failover: all 3 Sentinels are there; name a third host in redis.sentinels-on",
		}},
		{"all data on one host", threeHosts + "redis: {on: [two]}\n", []string{
			"losing two ends data: all 3 redis nodes are there; name another host in redis.on",
		}},
		{"a host for the data", twoHosts + "  three: {address: 198.18.7.3, only: [sentinel, web, balancer]}\n" + "  four: {address: 198.18.7.4, only: [sentinel]}\nredis: {on: [one]}\n", []string{
			"losing one ends data: all 3 redis nodes are there; name another host in redis.on",
		}},
		{"one host takes data", "hosts:\n  one: {address: 198.18.7.1}\n" + witness + "  two: {address: 198.18.7.2, only: [sentinel, web, balancer]}\n", []string{
			"losing one ends data: all 3 redis nodes are there; add a host that takes redis",
		}},
		{"no replica", threeHosts + "redis: {replicas: 0}\n", []string{
			"losing one ends data: the only redis node is there; set redis.replicas: 2",
		}},
		{"one balancer", threeHosts + "balancers: 1\n", []string{
			"losing three ends the entry: the only balancer is there; write balancers: 2",
		}},
		{"all balancers on one host", "entry: {listen: '0.0.0.0:80', auth: none, on: [two]}\n" + threeHosts, []string{
			"losing two ends the entry: all 2 balancers are there; name another host in entry.on",
		}},
		{"applications on one host", threeHosts + "apps:\n  a: {kv: {}, nodes: 1, on: [three]}\n  b: {kv: {}, nodes: 3, on: [one]}\n" + oneOfEach, []string{
			"losing one ends the application b: all 3 of its nodes are there; name another host in apps.b.on",
			"losing three ends the application a: its only node is there; set apps.a.nodes: 2",
		}},
		{"no Redis", threeHosts + "apps: {a: {servers: [10.0.0.1:80]}, b: {files: ., nodes: 2}}\n" + oneOfEach, nil},
		{"programs without a balancer of their own", "entry: {listen: '0.0.0.0:80', auth: none, on: [one, two]}\n" + fiveHosts + "apps: {shop: {command: [./shop], on: [four, five]}}\n", []string{
			"losing two ends the application shop: its nodes elsewhere reach Redis (REDIS_URL) through the balancers there; have balancers where its nodes are",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shaped(t, c.file)
			var got []string
			for _, l := range Losses(s, mustSpread(t, s, nil)) {
				got = append(got, l.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// A stack that grows does not move its nodes, so its placement may be weaker than a new one.
func TestLossesAreThoseOfThePlacement(t *testing.T) {
	kept := mustSpread(t, shaped(t, twoHosts), nil)
	s := shaped(t, threeHosts)
	var got []string
	for _, l := range Losses(s, mustSpread(t, s, kept)) {
		got = append(got, l.String())
	}
	want := []string{
		"losing one ends writes: 2 of 3 Sentinels are there, and the master may be; have some of them on other hosts",
		"losing two ends writes: 2 of 3 redis nodes are there, and a master without a replica takes no writes; have some of them on other hosts",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheShapeAsAWhole(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"no hosts", "balancers: 2\n", nil},
		{"one host", "hosts: {one: {address: 198.18.7.1}}\n", []string{
			"hosts: the stack ends with its only host: add two more, one of which may be a witness (only: [sentinel])",
		}},
		{"two hosts", twoHosts, []string{
			"hosts: two hosts without a witness: one has the majority of the Sentinels, and nobody fails over when it is lost; add a third host with only: [sentinel]",
		}},
		{"two hosts that share an even number of Sentinels", twoHosts + "redis: {sentinels: 4}\n", []string{
			"hosts: 4 Sentinels on two hosts: each has half of them, and nobody fails over when either is lost; add a third host with only: [sentinel], and set redis.sentinels: 5",
		}},
		{"two hosts without Redis", twoHosts + "apps: {web: {files: .}}\n", nil},
		{"two hosts and a witness", twoHosts + witness, nil},
		{"two copies on each", twoHosts + witness + "redis: {replicas: 3}\n", nil},
		{"more copies than help", twoHosts + witness + "redis: {replicas: 4}\n", []string{
			"redis.replicas: 5 redis nodes on 2 hosts: 3 replicas bear the loss of any host, too, with less memory",
		}},
		{"three hosts", threeHosts, nil},
		{"more copies than hosts", threeHosts + "redis: {replicas: 3}\n", []string{
			"redis.replicas: 4 redis nodes on 3 hosts: 2 replicas bear the loss of any host, too, with less memory",
		}},
		{"a copy on each of five", fiveHosts + "redis: {replicas: 4}\n", nil},
		{"a witness too many", threeHosts + "  four: {address: 198.18.7.4, only: sentinel}\n", []string{
			"hosts.four: no node runs there: have more nodes of a kind that it takes, or remove the host",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shaped(t, c.file)
			var got []string
			for _, a := range Shape(s, mustSpread(t, s, nil)) {
				got = append(got, a.Key+": "+a.What)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestTheAdviceMendsWhatItSays(t *testing.T) {
	// When the stack follows the advice of every warning, no loss is left.
	s := shaped(t, twoHosts)
	for range 5 {
		losses := Losses(s, mustSpread(t, s, nil))
		if len(losses) == 0 {
			return
		}
		for _, l := range losses {
			switch l.Do {
			case "add a host with only: [sentinel]":
				if len(s.Hosts) == 2 {
					s.Hosts = append(slices.Clone(s.Hosts), stack.Host{Name: "three", Address: "198.18.7.3", Only: []string{"sentinel"}})
				}
			case "set redis.replicas: 3":
				s.Redis.Replicas = 3
			default:
				t.Fatalf("nobody can tell what to do from %q", l)
			}
		}
	}
	t.Errorf("it does not help: %v", Losses(s, mustSpread(t, s, nil)))
}
