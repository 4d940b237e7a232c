package redistest

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/commands"
)

// clusterRights are what the client under test may do besides in a cluster.
const clusterRights = "+cluster|nodes +cluster|slots +cluster|shards +cluster|info +asking +readonly"

// StartCluster runs a Redis Cluster: masters that share the slots, and
// replicas of each. Nodes are the masters and then the replicas, in turn of
// their masters. It waits until every node says that all is well and every
// replica is connected. It ends with the test.
func StartCluster(t testing.TB, masters, replicasEach int) *Cluster {
	t.Helper()
	const slots = 16384
	dir := t.TempDir()
	c := &Cluster{}
	var buses []int
	for range masters * (1 + replicasEach) {
		port, bus := FreePort(t), FreePort(t)
		buses = append(buses, bus)
		c.Nodes = append(c.Nodes, run(t, dir, port, fmt.Sprintf(`bind 127.0.0.1
port %d
dir %s
save ""
repl-diskless-sync-delay 0
cluster-enabled yes
cluster-config-file %[1]d.nodes
cluster-port %[3]d
cluster-node-timeout 1000
cluster-allow-replica-migration no
cluster-require-full-coverage no
user %[4]s on >%[5]s %[6]s %[7]s
user %[8]s on >%[5]s %[9]s
user %[10]s on >%[5]s %[11]s
`, port, dir, bus, Username, Password, nodeRights, clusterRights,
			ScriptUser, commands.ScriptRights(0, nil), ReadScriptUser, commands.ReadScriptRights(0))))
	}
	must := func(n *Server, words ...string) {
		t.Helper()
		if answer := n.Do(words...); answer != "OK" {
			t.Fatalf("%v at %s: %s", words, n.Addr, answer)
		}
	}
	for i, n := range c.Nodes {
		must(n, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i < masters {
			must(n, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/masters), strconv.Itoa((i+1)*slots/masters-1))
		}
	}
	for i, n := range c.Nodes[1:] {
		host, port, _ := net.SplitHostPort(n.Addr)
		must(c.Nodes[0], "CLUSTER", "MEET", host, port, strconv.Itoa(buses[i+1]))
	}
	for _, n := range c.Nodes {
		Eventually(t, 20*time.Second, n.Addr+" knows all nodes", func() bool {
			nodes := n.Do("CLUSTER", "NODES")
			return strings.Count(nodes, "connected") == len(c.Nodes) && !strings.Contains(nodes, "handshake")
		})
	}
	for i, n := range c.Nodes[masters:] {
		master := c.Nodes[i%masters].Do("CLUSTER", "MYID")
		must(n, "CLUSTER", "REPLICATE", master)
	}
	for i, n := range c.Nodes {
		Eventually(t, 20*time.Second, n.Addr+" says that all is well", func() bool {
			return strings.Contains(n.Do("CLUSTER", "INFO"), "cluster_state:ok") &&
				strings.Count(n.Do("CLUSTER", "NODES"), " slave ")+strings.Count(n.Do("CLUSTER", "NODES"), "myself,slave ") == masters*replicasEach &&
				(i < masters || strings.Contains(n.Do("INFO", "replication"), "master_link_status:up"))
		})
	}
	return c
}
