package redis

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/redis/redistest"
)

// asInAStack gives servers what the stack's have: how soon a script can be ended, and
// how often Sentinels ping.
func asInAStack(cluster *redistest.Cluster) {
	for _, n := range cluster.Nodes {
		n.Do("CONFIG", "SET", "busy-reply-threshold", "125")
	}
	for _, s := range cluster.Sentinels {
		s.Do("SENTINEL", "DEBUG", "ping-period", "250")
	}
}

// Endless scripts through several nodes at once leave the Sentinels' pings their
// turn, and other requests theirs.
func TestEndlessScriptsThroughTwoNodesCostNoMaster(t *testing.T) {
	cluster := redistest.Start(t, 2, 3)
	asInAStack(cluster)
	hold := func(c *Config) { c.Hold = 6 * time.Second }
	nodes := []*Client{open(t, cluster, hold), open(t, cluster, hold)}
	for _, node := range nodes {
		redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
			return node.Set(t.Context(), "k", []byte("v"), "") == nil && node.Status().InSync == 2
		})
	}
	master := nodes[0].Master()
	end := time.Now().Add(5 * time.Second)
	var attackers, others sync.WaitGroup
	var killed atomic.Int64
	// One script is known to be short, and its argument decides.
	const loop = "for i = 1, tonumber(ARGV[1]) do end return 'done'"
	for _, node := range nodes {
		for range 20 {
			do(t, node, &Request{Commands: []Command{{"EVAL", loop, "0", "1"}}})
		}
	}
	for i := range 10 {
		attackers.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				cmd := Command{"EVAL", loop, "0", "1e15"}
				if i < 4 { // another text each time: nothing is known of it
					cmd = Command{"EVAL", fmt.Sprintf("while true do end -- %d.%d", i, n), "0"}
				}
				r := &Request{Commands: []Command{cmd}, Sender: "hostile"}
				if nodes[i%2].Do(t.Context(), r) == nil && r.Results[0].Err != nil && strings.Contains(r.Results[0].Err.Error(), "killed") {
					killed.Add(1)
				}
			}
		})
	}
	for i := range 2 {
		others.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				r := &Request{Commands: commands(fmt.Sprintf("SET other:%d %d", i, n)), Sender: "other"}
				if n%20 == 10 {
					r.Commands = commands("EVAL return(1) 0")
				}
				if err := nodes[i].Do(t.Context(), r); err != nil || r.Results[0].Err != nil {
					t.Errorf("another's request: %v, %v", err, r.Results)
				}
				clock.Sleep(t.Context(), 10*time.Millisecond)
			}
		})
	}
	others.Wait()
	attackers.Wait()
	// A round of questions may have met a script: then there is no master until the next.
	redistest.Eventually(t, 5*time.Second, "a master", func() bool { return nodes[0].Master() != "" })
	if now := nodes[0].Master(); now != master {
		t.Errorf("the master was %s and is %s", master, now)
	}
	if killed.Load() < 2 {
		t.Errorf("%d scripts were ended", killed.Load())
	}
}

// A script that is known to be short on many nodes, and turns long on all of them at
// once, leaves the Sentinels' pings their turn, too.
func TestAScriptThatTurnsLongOnManyNodesAtOnceCostsNoMaster(t *testing.T) {
	cluster := redistest.Start(t, 1, 3)
	asInAStack(cluster)
	const loop = "for i = 1, tonumber(ARGV[1]) do end return 'done'"
	run := func(node *Client, turns string) string {
		r := &Request{Commands: []Command{{"EVAL", loop, "0", turns}}, Sender: "one of " + turns}
		switch err := node.Do(t.Context(), r); {
		case err != nil:
			return err.Error()
		case r.Results[0].Err != nil:
			return r.Results[0].Err.Error()
		}
		return ""
	}
	var nodes []*Client
	for range 6 {
		nodes = append(nodes, open(t, cluster, func(c *Config) { c.Hold = 20 * time.Second }))
	}
	for _, node := range nodes {
		redistest.Eventually(t, 10*time.Second, "the replica is in sync", func() bool {
			return node.Set(t.Context(), "k", []byte("v"), "") == nil && node.Status().InSync == 1
		})
		redistest.Eventually(t, 10*time.Second, "the script is known to be short", func() bool {
			began := time.Now()
			words := run(node, "1")
			took := time.Since(began)
			if again := run(node, "1"); words+again != "" { // what the first one took is known by then
				t.Error(words, again)
			}
			return took < 10*time.Millisecond
		})
	}
	master := nodes[0].Master()

	var killed atomic.Int64
	var all sync.WaitGroup
	for _, node := range nodes {
		all.Go(func() {
			if words := run(node, "1e15"); strings.Contains(words, "killed") {
				killed.Add(1)
			} else {
				t.Errorf("the long script: %q", words)
			}
		})
	}
	all.Wait()
	redistest.Eventually(t, 5*time.Second, "a master", func() bool { return nodes[0].Master() != "" })
	if now := nodes[0].Master(); now != master {
		t.Errorf("the master was %s and is %s", master, now)
	}
	if words := run(nodes[0], "1"); words != "" {
		t.Errorf("a short script after it: %s", words)
	}
}
