package election

import (
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	const a, b, c = "a:1", "b:1", "c:1"
	master := func(addr string, since uint64) Node {
		return Node{Address: addr, Answered: true, Master: true, Since: since}
	}
	replica := func(addr, of string) Node {
		return Node{Address: addr, Answered: true, Follows: of, Linked: true}
	}
	unlinked := func(addr, of string) Node {
		return Node{Address: addr, Answered: true, Follows: of}
	}
	silent := func(addr string) Node { return Node{Address: addr} }
	silentSince := func(addr string, since uint64) Node { return Node{Address: addr, Since: since} }
	for _, test := range []struct {
		name     string
		Evidence Evidence
		want     string
	}{
		{"a healthy stack", Evidence{Nodes: []Node{master(a, 0), replica(b, a), replica(c, a)}, Sentinels: []string{a, a, a}}, a},
		{"one Sentinel is silent", Evidence{Nodes: []Node{master(a, 0), replica(b, a)}, Sentinels: []string{a, "", a}}, a},
		{"a single Redis without Sentinels", Evidence{Nodes: []Node{master(a, 0)}}, a},
		{"a single Redis that is a replica", Evidence{Nodes: []Node{replica(a, b)}}, ""},
		{"the master died and nobody is promoted yet", Evidence{Current: a, Nodes: []Node{silent(a), unlinked(b, a)}, Sentinels: []string{a, a, a}}, ""},
		{"promoted before our eyes, not announced yet", Evidence{Nodes: []Node{silent(a), master(b, 7), unlinked(c, a)}, Sentinels: []string{a, a, a}}, b},
		{"promoted a second time, the first was announced before", Evidence{Nodes: []Node{silent(a), master(b, 9)}, Sentinels: []string{a, a, a}, NamedSince: 5}, b},
		{"an old master returns and claims it too", Evidence{Current: b, Nodes: []Node{master(a, 0), master(b, 7)}, Sentinels: []string{b, b, b}, NamedSince: 8}, b},
		{"the old master wakes before the announcement", Evidence{Current: b, Nodes: []Node{master(a, 0), master(b, 7)}, Sentinels: []string{a, a, a}}, ""},
		{"two claim it and the Sentinels are split", Evidence{Current: a, Nodes: []Node{master(a, 0), master(b, 0)}, Sentinels: []string{a, b, ""}}, ""},
		{"two claim it and the Sentinels name a third", Evidence{Nodes: []Node{master(a, 0), master(b, 0)}, Sentinels: []string{c, c, c}}, ""},
		{"an isolated old master against newer word", Evidence{Current: a, Nodes: []Node{master(a, 2), silent(b)}, Sentinels: []string{b, b, ""}, NamedSince: 9}, ""},
		{"a stranger claims it, seen first so", Evidence{Nodes: []Node{master(a, 0), silent(b)}, Sentinels: []string{b, b, b}}, ""},
		{"the Sentinels name one that follows the claimant", Evidence{Current: a, Nodes: []Node{master(a, 0), replica(b, a)}, Sentinels: []string{b, b, b}, NamedSince: 3}, a},
		{"all Sentinels died, the master stays", Evidence{Current: a, Nodes: []Node{master(a, 0)}, Sentinels: []string{"", "", ""}}, a},
		{"all Sentinels died, a new process, replicas agree", Evidence{Nodes: []Node{master(a, 0), replica(b, a)}, Sentinels: []string{"", "", ""}}, a},
		{"no majority is heard, and the last one to be promoted is silent", Evidence{Nodes: []Node{master(a, 3), silentSince(b, 7), silent(c)}, Sentinels: []string{"", "", b}}, ""},
		{"no majority is heard, and a replica of the old master has not heard of the last one to be promoted", Evidence{Nodes: []Node{master(a, 3), silentSince(b, 7), replica(c, a)}, Sentinels: []string{"", "", ""}}, ""},
		{"promoted last, the one before is silent, and no majority is heard", Evidence{Nodes: []Node{silentSince(a, 3), master(b, 7)}, Sentinels: []string{"", "", ""}}, b},
		{"the Sentinels name an old master that came back, and one that was promoted since is silent", Evidence{
			Current: b, Nodes: []Node{master(a, 0), silentSince(b, 7), replica(c, b)}, Sentinels: []string{a, a, ""}, NamedSince: 3, Electing: true,
		}, ""},
		{"the same when that election is over", Evidence{
			Current: b, Nodes: []Node{master(a, 0), silentSince(b, 7), replica(c, b)}, Sentinels: []string{a, a, ""}, NamedSince: 3,
		}, a},
		{"they vote again, and one that was promoted before they named this one is silent", Evidence{
			Current: a, Nodes: []Node{master(a, 0), silentSince(b, 7)}, Sentinels: []string{a, a, ""}, NamedSince: 8, Electing: true,
		}, a},
		{"no majority is heard and only itself says so", Evidence{Nodes: []Node{master(a, 0), unlinked(b, a)}, Sentinels: []string{a, "", ""}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Decide(test.Evidence)
			if got.Master != test.want {
				t.Errorf("master is %q (%s), want %q", got.Master, got.Why, test.want)
			}
			if got.Why == "" {
				t.Error("no reason is given")
			}
		})
	}
}

func TestCertain(t *testing.T) {
	const a, b, c = "a:1", "b:1", "c:1"
	master := Node{Address: a, Answered: true, Master: true}
	follower := func(addr string) Node { return Node{Address: addr, Answered: true, Follows: a} }
	for _, test := range []struct {
		name      string
		nodes     []Node
		sentinels []string
		want      bool
	}{
		{"no Sentinels", []Node{master}, nil, true},
		{"a majority speaks, a replica is silent", []Node{master, follower(b), {Address: c}}, []string{a, a, ""}, true},
		{"a majority still names the old one", []Node{{Address: b}, master}, []string{b, b, b}, true},
		{"no majority, everybody follows", []Node{master, follower(b), follower(c)}, []string{a, "", ""}, true},
		{"no majority, a replica is silent", []Node{master, follower(b), {Address: c, Follows: a}}, []string{a, "", ""}, false},
		{"no majority, one follows another", []Node{master, {Address: b, Answered: true, Follows: c}}, []string{"", "", ""}, false},
		{"a majority speaks, and one doubts it", []Node{master, follower(b), {Address: c}}, []string{a, a, a}, false},
		{"they voted, and a replica is silent", []Node{master, follower(b), {Address: c}}, []string{a, a, a}, false},
		{"they voted, and everybody follows", []Node{master, follower(b), follower(c)}, []string{a, a, a}, true},
		{"one doubts it, and everybody follows", []Node{master, follower(b), follower(c)}, []string{a, a, a}, true},
		{"no majority, and a replica that only the master knows", []Node{
			{Address: a, Answered: true, Master: true, Replicas: []Replica{{b, 1}, {c, 1}}}, follower(b),
		}, []string{a, "", ""}, false},
		{"no majority, two masters", []Node{master, {Address: b, Answered: true, Master: true}}, []string{a, b, ""}, false},
	} {
		s := Snapshot{Verdict: Verdict{Master: a}, Nodes: test.nodes, Sentinels: test.sentinels, Doubted: strings.Contains(test.name, "doubts"), Electing: strings.Contains(test.name, "voted")}
		if got := s.Certain(); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Any majority that may promote has a Sentinel in common with any that stands by the master, and
// no more of them is asked for than that takes.
func TestAMajorityThatSpeaksHasAVoterOfAnyElection(t *testing.T) {
	for n := 1; n <= 9; n++ {
		for k := 0; k <= 12; k++ {
			words := make([]SentinelReply, n)
			words[0].Knows = k
			counted := CountedSentinels(words)
			needed, votes := counted/2+1, k/2+1
			if k >= n && needed+votes <= k {
				t.Errorf("%d of %d Sentinels stand by a master, and %d others of %d elect another one", needed, n, votes, k)
			}
			if counted > n && needed-1+votes > k {
				t.Errorf("with %d Sentinels of %d, %d would do, and %d are needed", n, k, needed-1, needed)
			}
		}
	}
	if n := CountedSentinels(nil); n != 0 {
		t.Errorf("without Sentinels: %d", n)
	}
}
