package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/hashslot"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/rewrite"
)

// viewsOf asks all nodes that answer.
func viewsOf(t *testing.T, c *redistest.Cluster) [][]clusterNode {
	t.Helper()
	var views [][]clusterNode
	for _, n := range c.Nodes {
		text := n.Do("CLUSTER", "NODES")
		if !strings.Contains(text, "myself") {
			continue // it is dead
		}
		view, err := parseClusterNodes(text, n.Addr)
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, view)
	}
	return views
}

func TestTheOwnersOfAllSlotsAreFoundAlsoAfterAFailover(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	m := mergeViews(viewsOf(t, cluster)...)
	if len(m.shards) != 3 || m.unowned != 0 {
		t.Fatalf("%d shards, %d slots without an owner", len(m.shards), m.unowned)
	}
	for _, s := range m.shards {
		if len(s.replicas) != 1 {
			t.Errorf("the shard of %s has the replicas %v", s.master, s.replicas)
		}
	}
	keys := []string{"", "a", "foo", "{user}.name", "{}whole", "a{}b", "x{y", "x}y{z}", "{{a}}", "\x00\xff", "a{b}{c}"}
	for i := range 50 {
		keys = append(keys, fmt.Sprintf("key-%d", i))
	}
	write := func(m *slotMap) error {
		for _, key := range keys {
			slot := hashslot.Of(key)
			if said := cluster.Nodes[2].Do("CLUSTER", "KEYSLOT", key); said != strconv.Itoa(slot) {
				return fmt.Errorf("%q is in slot %d, Redis says %s", key, slot, said)
			}
			for _, s := range m.shards {
				answer, owns := cluster.Node(s.master).Do("SET", key, "v"), m.at(slot).id == s.id
				if owns && answer != "OK" || !owns && !strings.HasPrefix(answer, "MOVED "+strconv.Itoa(slot)) {
					return fmt.Errorf("SET %q at %s, owner %s: %s", key, s.master, m.at(slot).master, answer)
				}
			}
		}
		return nil
	}
	if err := write(m); err != nil {
		t.Fatal(err)
	}

	old := cluster.Nodes[0].Addr
	before := mergeViews(viewsOf(t, cluster)[0]) // what the one that dies has last said
	stale := viewsOf(t, cluster)[0]
	cluster.Nodes[0].Kill()
	redistest.Eventually(t, 20*time.Second, "its replica is the owner of its slots", func() bool {
		m = mergeViews(append([][]clusterNode{stale}, viewsOf(t, cluster)...)...)
		return len(m.shards) == 3 && m.unowned == 0 && m.at(0).master == before.at(0).replicas[0] && len(m.at(0).replicas) == 0
	})
	if slices.ContainsFunc(m.shards, func(s shard) bool { return s.master == old }) {
		t.Errorf("the dead one is still an owner: %+v", m.shards)
	}
	redistest.Eventually(t, 10*time.Second, "all of them write", func() bool { return write(m) == nil })
}

func TestNewsOfAHigherEpochWins(t *testing.T) {
	const head = "aaaa 10.0.0.1:7001@17001 %s - 0 0 %d connected %s\nbbbb 10.0.0.2:7002@17002,name %s %s 0 0 %d connected %s\n"
	parse := func(text, asked string) []clusterNode {
		t.Helper()
		nodes, err := parseClusterNodes(text, asked)
		if err != nil {
			t.Fatal(err)
		}
		return nodes
	}
	cutOff := parse(fmt.Sprintf(head, "myself,master", 1, "0-100 102", "slave", "aaaa", 1, ""), "10.0.0.1:7001")
	newer := parse(fmt.Sprintf(head, "master,fail", 1, "", "myself,master", "-", 7, "0-100 102 [5->-aaaa]"), "10.0.0.2:7002")
	for _, views := range [][][]clusterNode{{cutOff, newer}, {newer, cutOff}} {
		m := mergeViews(views...)
		if len(m.shards) != 1 || m.at(0).master != "10.0.0.2:7002" || m.at(102) == nil || m.at(101) != nil || m.unowned != hashslot.Count-102 {
			t.Errorf("%+v, %d without an owner", m.shards, m.unowned)
		}
	}
	alone := parse("cccc :7003@17003 myself,master - 0 0 1 connected 5\ndddd 10.0.0.9:1@2 handshake - 0 0 0 connected\neeee ::1:7004@17004 slave cccc 0 0 1 connected", "10.0.0.3:7003")
	if m := mergeViews(alone); len(alone) != 2 || m.at(5).master != "10.0.0.3:7003" || !slices.Equal(m.at(5).replicas, []string{"[::1]:7004"}) {
		t.Errorf("%+v", alone)
	}
	replica := "dddd 10.0.0.4:7004@17004 %s cccc 0 0 1 connected"
	for state, want := range map[[2]string]int{{"slave", "slave"}: 1, {"slave", "slave,fail?"}: 0, {"slave,fail", "slave"}: 0, {"slave,fail", "myself,slave"}: 1, {"myself,slave", "slave,fail"}: 1} {
		m := mergeViews(alone[:1], parse(fmt.Sprintf(replica, state[0]), "x:1"), parse(fmt.Sprintf(replica, state[1]), "x:1"))
		if got := len(m.at(5).replicas); got != want {
			t.Errorf("a replica said to be %v counts %d", state, got)
		}
	}
	for _, text := range []string{"aaaa 10.0.0.1:7001", "a b master - 0 0 1 connected", "a h:1@2 master - 0 0 1 connected 5-1", "a h:1@2 master - 0 0 1 connected 16384", "a h:1@2 master - 0 0 1 connected x"} {
		if nodes, err := parseClusterNodes(text, "h:1"); err == nil {
			t.Errorf("%q: %+v", text, nodes)
		}
	}
}

func TestACursorOfOtherMastersIsNotTakenForOneOfThese(t *testing.T) {
	topo := &topology{shards: make([]*clusterShard, 2), order: []int{0, 1}, firsts: rewrite.OriginOf("these masters")}
	moved := *topo
	moved.firsts = rewrite.OriginOf("other masters")
	scan := func(cursor string) *item { return &item{cmd: command.Command{"SCAN", cursor}} }
	for number, raw := range []string{"123456789012", "4503599627370497"} {
		last := scan("0")
		if number == 1 { // the cursor that begins with the second master
			last.replies = []request.Result{{Reply: rewrite.WithCursor("0", resp.Reply{})}}
			r := scanner{}.merge(topo, last)
			next := r.Reply.At(0)
			last = scan(next.Text())
		}
		last.replies = []request.Result{{Reply: rewrite.WithCursor(raw, resp.Reply{})}}
		r := scanner{}.merge(topo, last)
		cursor := r.Reply.At(0)
		if got := (scanner{}).command(topo, scan(cursor.Text())); got[1] != raw {
			t.Errorf("%s comes back as %s", raw, got[1])
		}
		if got := (scanner{}).command(&moved, scan(cursor.Text())); got[1] == raw || got[1] == "0" {
			t.Errorf("with other masters %s is taken for %s", cursor.Text(), got[1])
		}
	}
}
