package drill

import (
	"slices"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// The last file declares as many nodes as the first one, and each file is valid.
func TestTheChangesOfRedisNodesLeadBackToWhereTheyBegan(t *testing.T) {
	for _, c := range []struct {
		what, text string
		ports      []int
		// The result of each change that needs no running stack: replicas, Sentinels, ports.
		more, back stack.Redis
	}{
		{"the default", "", []int{20001, 20002, 20003},
			stack.Redis{Replicas: 3, Sentinels: 5}, stack.Redis{Replicas: 2, Sentinels: 3, Ports: []int{20001, 20002, 20003}}},
		{"a port that is fixed", "redis: {replicas: 1, ports: [7001]}\n", []int{7001, 20002},
			stack.Redis{Replicas: 2, Sentinels: 5, Ports: []int{7001}}, stack.Redis{Replicas: 1, Sentinels: 3, Ports: []int{7001, 20002}}},
	} {
		first := parseStack(t, c.text)
		text := string(first.Show())
		r := changingRedis{first: first, file: first, ports: c.ports}
		for done, want := range map[int]stack.Redis{0: c.more, 2: c.back} {
			r.done = done
			next, there, err := r.next(t.Context(), nil)
			if err != nil || !there {
				t.Fatalf("%s, change %d: %v, %v", c.what, done, there, err)
			}
			read, _, err := stack.Parse("changed", next.file.Show())
			if err != nil {
				t.Errorf("%s, %s: %v", c.what, next.what, err)
			}
			if got := read.Redis; got.Replicas != want.Replicas || got.Sentinels != want.Sentinels || !slices.Equal(got.Ports, want.Ports) {
				t.Errorf("%s, %s: %d replicas, %d Sentinels, ports %v; want %+v", c.what, next.what, got.Replicas, got.Sentinels, got.Ports, want)
			}
		}
		if r.done = redisChanges; string(first.Show()) != text {
			t.Errorf("%s: the first file is altered", c.what)
		}
		if _, there, err := r.next(t.Context(), nil); there || err != nil {
			t.Errorf("%s: there is a change more, %v", c.what, err)
		}
	}
}

// A node that has moved is asked at its new address; the connections to the others remain.
func TestANodeThatHasMovedIsAskedWhereItIs(t *testing.T) {
	status := func(first string, more ...supervise.NodeStatus) supervise.Status {
		return supervise.Status{Nodes: append(more, supervise.NodeStatus{Name: "redis-1", Kind: plan.Redis, Address: first},
			supervise.NodeStatus{Name: "web-1", Kind: plan.Web, Address: "127.0.0.1:3"})}
	}
	sentinel := supervise.NodeStatus{Name: "sentinel-1", Kind: plan.Sentinel, Address: "127.0.0.1:9"}
	var r adminConns
	defer r.close()
	r.learn(status("127.0.0.1:1", sentinel), "secret")
	redis, other := r.admin("redis-1"), r.admin("sentinel-1")
	if redis == nil || other == nil || r.admin("web-1") != nil {
		t.Fatalf("redis-1 %v, sentinel-1 %v, web-1 %v", redis, other, r.admin("web-1"))
	}
	r.learn(status("127.0.0.1:1"), "secret") // the Sentinel is gone
	if r.admin("redis-1") != redis || r.admin("sentinel-1") != other {
		t.Error("a node that has not moved has another connection")
	}
	r.learn(status("127.0.0.1:2", sentinel), "secret")
	if r.admin("redis-1") == redis || r.byName["redis-1"].address != "127.0.0.1:2" || r.admin("sentinel-1") != other {
		t.Errorf("after a move redis-1 is asked at %s", r.byName["redis-1"].address)
	}
}
