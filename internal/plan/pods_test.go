package plan

import (
	"testing"

	"holdfast/internal/stack"
)

func TestAPodsNameSaysItsNode(t *testing.T) {
	s := stack.Default()
	s.Name = "shop"
	for name, want := range map[string]string{
		"shop-redis-0": "redis-1", "shop-redis-2": "redis-3", "shop-sentinel-1": "sentinel-2",
		"shop-web-676b95fcf-9zkjs": "web-1", "shop-balancer-86b4dc468-mtl8h": "balancer-1",
		"shop-redis-3": "", "shop-other-1": "", "elsewhere-redis-0": "",
	} {
		pod, err := PodOf(s, name)
		if pod.Node != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v; want %q", name, pod.Node, err, want)
		}
		if err == nil && pod.HasData() && PodService(s, pod.Node) != name {
			t.Errorf("the Service of %s is %s", name, PodService(s, pod.Node))
		}
	}
}
