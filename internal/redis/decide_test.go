package redis

import (
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	const a, b, c = "a:1", "b:1", "c:1"
	master := func(addr string, since uint64) nodeView {
		return nodeView{addr: addr, answered: true, master: true, since: since}
	}
	replica := func(addr, of string) nodeView {
		return nodeView{addr: addr, answered: true, follows: of, linked: true}
	}
	unlinked := func(addr, of string) nodeView {
		return nodeView{addr: addr, answered: true, follows: of}
	}
	silent := func(addr string) nodeView { return nodeView{addr: addr} }
	silentSince := func(addr string, since uint64) nodeView { return nodeView{addr: addr, since: since} }
	for _, test := range []struct {
		name string
		view view
		want string
	}{
		{"a healthy stack", view{nodes: []nodeView{master(a, 0), replica(b, a), replica(c, a)}, sentinels: []string{a, a, a}}, a},
		{"one Sentinel is silent", view{nodes: []nodeView{master(a, 0), replica(b, a)}, sentinels: []string{a, "", a}}, a},
		{"a single Redis without Sentinels", view{nodes: []nodeView{master(a, 0)}}, a},
		{"a single Redis that is a replica", view{nodes: []nodeView{replica(a, b)}}, ""},
		{"the master died and nobody is promoted yet", view{current: a, nodes: []nodeView{silent(a), unlinked(b, a)}, sentinels: []string{a, a, a}}, ""},
		{"promoted before our eyes, not announced yet", view{nodes: []nodeView{silent(a), master(b, 7), unlinked(c, a)}, sentinels: []string{a, a, a}}, b},
		{"promoted a second time, the first was announced before", view{nodes: []nodeView{silent(a), master(b, 9)}, sentinels: []string{a, a, a}, namedSince: 5}, b},
		{"an old master returns and claims it too", view{current: b, nodes: []nodeView{master(a, 0), master(b, 7)}, sentinels: []string{b, b, b}, namedSince: 8}, b},
		{"the old master wakes before the announcement", view{current: b, nodes: []nodeView{master(a, 0), master(b, 7)}, sentinels: []string{a, a, a}}, ""},
		{"two claim it and the Sentinels are split", view{current: a, nodes: []nodeView{master(a, 0), master(b, 0)}, sentinels: []string{a, b, ""}}, ""},
		{"two claim it and the Sentinels name a third", view{nodes: []nodeView{master(a, 0), master(b, 0)}, sentinels: []string{c, c, c}}, ""},
		{"an isolated old master against newer word", view{current: a, nodes: []nodeView{master(a, 2), silent(b)}, sentinels: []string{b, b, ""}, namedSince: 9}, ""},
		{"a stranger claims it, seen first so", view{nodes: []nodeView{master(a, 0), silent(b)}, sentinels: []string{b, b, b}}, ""},
		{"the Sentinels name one that follows the claimant", view{current: a, nodes: []nodeView{master(a, 0), replica(b, a)}, sentinels: []string{b, b, b}, namedSince: 3}, a},
		{"all Sentinels died, the master stays", view{current: a, nodes: []nodeView{master(a, 0)}, sentinels: []string{"", "", ""}}, a},
		{"all Sentinels died, a new process, replicas agree", view{nodes: []nodeView{master(a, 0), replica(b, a)}, sentinels: []string{"", "", ""}}, a},
		{"no majority is heard, and the last one to be promoted is silent", view{nodes: []nodeView{master(a, 3), silentSince(b, 7), silent(c)}, sentinels: []string{"", "", b}}, ""},
		{"no majority is heard, and a replica of the old master has not heard of the last one to be promoted", view{nodes: []nodeView{master(a, 3), silentSince(b, 7), replica(c, a)}, sentinels: []string{"", "", ""}}, ""},
		{"promoted last, the one before is silent, and no majority is heard", view{nodes: []nodeView{silentSince(a, 3), master(b, 7)}, sentinels: []string{"", "", ""}}, b},
		{"the Sentinels name an old master that came back, and one that was promoted since is silent", view{
			current: b, nodes: []nodeView{master(a, 0), silentSince(b, 7), replica(c, b)}, sentinels: []string{a, a, ""}, namedSince: 3, electing: true,
		}, ""},
		{"the same when that election is over", view{
			current: b, nodes: []nodeView{master(a, 0), silentSince(b, 7), replica(c, b)}, sentinels: []string{a, a, ""}, namedSince: 3,
		}, a},
		{"they vote again, and one that was promoted before they named this one is silent", view{
			current: a, nodes: []nodeView{master(a, 0), silentSince(b, 7)}, sentinels: []string{a, a, ""}, namedSince: 8, electing: true,
		}, a},
		{"no majority is heard and only itself says so", view{nodes: []nodeView{master(a, 0), unlinked(b, a)}, sentinels: []string{a, "", ""}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := decide(test.view)
			if got.master != test.want {
				t.Errorf("master is %q (%s), want %q", got.master, got.why, test.want)
			}
			if got.why == "" {
				t.Error("no reason is given")
			}
		})
	}
}

func TestCertain(t *testing.T) {
	const a, b, c = "a:1", "b:1", "c:1"
	master := nodeView{addr: a, answered: true, master: true}
	follower := func(addr string) nodeView { return nodeView{addr: addr, answered: true, follows: a} }
	for _, test := range []struct {
		name      string
		nodes     []nodeView
		sentinels []string
		want      bool
	}{
		{"no Sentinels", []nodeView{master}, nil, true},
		{"a majority speaks, a replica is silent", []nodeView{master, follower(b), {addr: c}}, []string{a, a, ""}, true},
		{"a majority still names the old one", []nodeView{{addr: b}, master}, []string{b, b, b}, true},
		{"no majority, everybody follows", []nodeView{master, follower(b), follower(c)}, []string{a, "", ""}, true},
		{"no majority, a replica is silent", []nodeView{master, follower(b), {addr: c, follows: a}}, []string{a, "", ""}, false},
		{"no majority, one follows another", []nodeView{master, {addr: b, answered: true, follows: c}}, []string{"", "", ""}, false},
		{"a majority speaks, and one doubts it", []nodeView{master, follower(b), {addr: c}}, []string{a, a, a}, false},
		{"they voted, and a replica is silent", []nodeView{master, follower(b), {addr: c}}, []string{a, a, a}, false},
		{"they voted, and everybody follows", []nodeView{master, follower(b), follower(c)}, []string{a, a, a}, true},
		{"one doubts it, and everybody follows", []nodeView{master, follower(b), follower(c)}, []string{a, a, a}, true},
		{"no majority, and a replica that only the master knows", []nodeView{
			{addr: a, answered: true, master: true, replicas: []replicaView{{b, 1}, {c, 1}}}, follower(b),
		}, []string{a, "", ""}, false},
		{"no majority, two masters", []nodeView{master, {addr: b, answered: true, master: true}}, []string{a, b, ""}, false},
	} {
		s := snapshot{verdict: verdict{master: a}, nodes: test.nodes, sentinels: test.sentinels, doubted: strings.Contains(test.name, "doubts"), electing: strings.Contains(test.name, "voted")}
		if got := s.certain(); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestASentinelDoubtsAMasterByItsFlags(t *testing.T) {
	for flags, want := range map[string]bool{
		"master": false, "": false, "master,disconnected": false,
		"master,s_down": true, "s_down,master,o_down": true, "master,failover_in_progress": true,
	} {
		if doubts(flags) != want {
			t.Errorf("%q: %v", flags, !want)
		}
	}
}

// Any majority that may promote has a Sentinel in common with any that stands by the master, and
// no more of them is asked for than that takes.
func TestAMajorityThatSpeaksHasAVoterOfAnyElection(t *testing.T) {
	for n := 1; n <= 9; n++ {
		for k := 0; k <= 12; k++ {
			words := make([]sentinelWord, n)
			words[0].knows = k
			counted := countedSentinels(words)
			needed, votes := counted/2+1, k/2+1
			if k >= n && needed+votes <= k {
				t.Errorf("%d of %d Sentinels stand by a master, and %d others of %d elect another one", needed, n, votes, k)
			}
			if counted > n && needed-1+votes > k {
				t.Errorf("with %d Sentinels of %d, %d would do, and %d are needed", n, k, needed-1, needed)
			}
		}
	}
	if n := countedSentinels(nil); n != 0 {
		t.Errorf("without Sentinels: %d", n)
	}
}
