package supervise

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
)

// supervisorOfHealthyCluster returns a supervisor of a real cluster. Its Sentinels know every
// replica and each other, and count no master as down for as long as a test takes.
func supervisorOfHealthyCluster(t *testing.T, c *redistest.Cluster) *Supervisor {
	t.Helper()
	s := supervisorOfCluster(t, c)
	for name, n := range s.nodes {
		if n.spec().Kind == plan.Sentinel {
			if err := s.setPeriods(t.Context(), name, infoPeriod); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, sentinel := range c.Sentinels {
		if got := sentinel.Do("SENTINEL", "SET", redistest.MasterName, "down-after-milliseconds", "600000"); !strings.Contains(got, "OK") {
			t.Fatal(got)
		}
	}
	redistest.Eventually(t, soon, "the Sentinels know all", func() bool {
		f := s.gather(t.Context(), time.Second)
		return len(f.Views) == len(c.Sentinels) && !slices.ContainsFunc(f.Views, func(v redis.View) bool {
			return v.Replicas != len(c.Nodes)-1 || v.Others != len(c.Sentinels)-1
		})
	})
	return s
}

// votesOf returns the last votes of all Sentinels about the first master.
func votesOf(t *testing.T, s *Supervisor, master string) (votes []redis.Vote) {
	t.Helper()
	for _, name := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
		vote, err := s.admins[name].AskVote(t.Context(), master, 0, "nobody")
		if err != nil {
			t.Fatal(err)
		}
		votes = append(votes, vote)
	}
	return votes
}

func awaitNamed(t *testing.T, s *Supervisor, node string, epoch int64) {
	t.Helper()
	redistest.Eventually(t, soon, "every Sentinel names "+node, func() bool {
		f := s.gather(t.Context(), time.Second)
		return len(f.Views) == f.Sentinels && !f.failing() && !slices.ContainsFunc(f.Views, func(v redis.View) bool {
			return v.Address != f.Nodes[node] || v.Epoch != epoch
		})
	})
}

// A replica that has less data than the other one is not promoted, whatever the Sentinels last
// heard of it. They vote once, and there is no second failover.
func TestADeadMasterIsReplacedByTheReplicaThatHasEveryWrite(t *testing.T) {
	t.Parallel()
	c := redistest.Start(t, 2, 3)
	s := supervisorOfHealthyCluster(t, c)
	c.Nodes[2].Signal(syscall.SIGSTOP)
	c.Nodes[0].Do("CLIENT", "KILL", "TYPE", "replica")
	redistest.Eventually(t, soon, "one replica is back, and the other one is not", func() bool {
		return strings.Contains(c.Nodes[0].Do("INFO", "replication"), "connected_slaves:1")
	})
	c.Nodes[0].Do("SET", "k", strings.Repeat("v", 1000))
	if got := c.Nodes[0].Do("WAIT", "1", "0"); !strings.Contains(got, "1") {
		t.Fatalf("WAIT: %q", got)
	}
	c.Nodes[0].Kill()
	c.Nodes[2].Signal(syscall.SIGCONT)

	var err error
	redistest.Eventually(t, soon, "a failover begins", func() bool {
		err = s.failOver(t.Context(), "redis-1")
		return err == nil
	})
	if got := c.Nodes[1].Do("ROLE"); !strings.Contains(got, "master") {
		t.Errorf("redis-2 is %q", got)
	}
	awaitNamed(t, s, "redis-2", 1)
	if got := c.Nodes[2].Do("GET", "k"); len(got) < 1000 {
		t.Errorf("redis-3 has %q", got)
	}
	for i, node := range c.Nodes[1:] {
		if got := node.Do("CONFIG", "GET", "replica-priority"); !strings.Contains(got, "100") {
			t.Errorf("replica-priority of redis-%d: %q", i+2, got)
		}
	}
	if err := s.failOver(t.Context(), "redis-1"); !errors.Is(err, errNotMaster) {
		t.Errorf("once more: %v", err)
	}

	// A replica that is told to connect at once stays a replica.
	if err := s.admins["redis-3"].Connect(t.Context(), c.Nodes[1].Addr); err != nil {
		t.Error(err)
	}
	redistest.Eventually(t, soon, "redis-3 is in step", func() bool {
		st, err := s.admins["redis-3"].Standing(t.Context())
		return err == nil && !st.Master && st.Linked && st.MasterAddress == c.Nodes[1].Addr
	})
}

func TestNoFailoverBeginsWhereTheSentinelsKnowBetter(t *testing.T) {
	t.Parallel()
	c := redistest.Start(t, 2, 3)
	s := supervisorOfHealthyCluster(t, c)
	before := votesOf(t, s, c.Nodes[0].Addr)
	refuses := func(node, why string) {
		t.Helper()
		if err := s.failOver(t.Context(), node); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("failover of %s: %v, want %q", node, err, why)
		}
	}

	refuses("redis-2", "not the master")
	refuses("redis-1", "seen its end") // it is alive
	s.switching.Lock()
	refuses("redis-1", "switchover")
	s.switching.Unlock()
	// It is not known what data a hanging replica has.
	c.Nodes[2].Signal(syscall.SIGSTOP)
	c.Nodes[0].Kill()
	refuses("redis-1", "redis-3 does not answer")
	c.Nodes[2].Signal(syscall.SIGCONT)
	// A replica that had another master may have a higher offset without having the writes.
	c.Nodes[2].Do("REPLICAOF", "NO", "ONE")
	_, port, _ := net.SplitHostPort(c.Nodes[0].Addr)
	c.Nodes[2].Do("REPLICAOF", "127.0.0.1", port)
	refuses("redis-1", "in step with the same master")
	if after := votesOf(t, s, c.Nodes[0].Addr); !slices.Equal(before, after) {
		t.Errorf("the votes are %v, before %v", after, before)
	}
}

// The leading Sentinel dies at the worst moment: once before it has promoted a replica, and once
// before it has told the others of it. The next leader continues with the same replica.
func TestAFailoverOutlivesTheSentinelThatLeadsIt(t *testing.T) {
	t.Parallel()
	for name, promoted := range map[string]bool{"before the promotion": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := redistest.Start(t, 2, 3)
			s := supervisorOfHealthyCluster(t, c)
			c.Nodes[0].Kill()
			w := &failover{succession: succession{sup: s, from: "redis-1", log: s.log}}
			if err := w.checkDeadMaster(t.Context()); err != nil {
				t.Fatal(err)
			}
			redistest.Eventually(t, soon, "a failover begins", func() bool { return w.begin(t.Context()) == nil })
			leads, err := s.admins[w.leader].SentinelID(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			voted := 0
			for _, vote := range votesOf(t, s, c.Nodes[0].Addr) {
				if vote.Leader == leads {
					voted++
				}
			}
			if voted < 2 {
				t.Errorf("%d Sentinels have voted for %s", voted, w.leader)
			}
			// A Sentinel that has voted votes for no other one in the same epoch.
			for i, vote := range votesOf(t, s, c.Nodes[0].Addr) {
				again, err := s.admins[fmt.Sprintf("sentinel-%d", i+1)].AskVote(t.Context(), c.Nodes[0].Addr, vote.Epoch, strings.Repeat("b", 40))
				if err != nil || vote.Epoch > 0 && again != vote {
					t.Errorf("the vote was %v, and is %v, %v", vote, again, err)
				}
			}

			if promoted && !w.becomesMaster(t.Context(), soon) {
				t.Fatal("nobody is promoted")
			}
			first := w.to
			number := strings.TrimPrefix(w.leader, "sentinel-")
			c.Sentinels[number[0]-'1'].Kill()
			s.statusBoard.update(w.leader, func(n *NodeStatus) { n.PID = 0 })
			if promoted {
				w.redirectReplicas(t.Context())
				w.verify(t.Context())
			} else if !w.awaitPromotion(t.Context()) {
				t.Fatal("nobody is promoted")
			}
			w.putBack()
			if promoted && w.to != first {
				t.Errorf("%s was promoted, and then %s", first, w.to)
			}
			redistest.Eventually(t, soon, "the others name it", func() bool {
				f := s.gather(t.Context(), time.Second)
				return f.majorityNames(f.Nodes[w.to]) && f.Standings[w.to].Master && f.otherMaster(w.to) == ""
			})
		})
	}
}
