package plan

import "testing"

func TestTheKindOfARedisNodeOrSentinelFollowsFromItsName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Kind{
		"redis-1": Redis, "sentinel-12": Sentinel,
		"web-1": "", "balancer-1": "", "redis": "", "redis-": "", "sentinel-x": "", "redis-shop-1": "", "shop-redis-1": "",
	} {
		if is := KindByName(name); is != want {
			t.Errorf("KindByName(%q) is %q, want %q", name, is, want)
		}
	}
}

func TestTheNumberOfANodeIsAtTheEndOfItsName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"redis-2": 2, "shop-web-13": 13, "logs": 0} {
		if is := NodeNumber(name); is != want {
			t.Errorf("NodeNumber(%q) is %d, want %d", name, is, want)
		}
	}
}
