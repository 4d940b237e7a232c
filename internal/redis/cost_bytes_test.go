package redis

import (
	"strings"
	"sync"
	"testing"

	"holdfast/internal/redis/redistest"
)

// A few very long elements among many short ones are found before the key is read, and
// what has some goes one at a time. What is longer than an answer may be is refused.
func TestLongElementsAmongManyShortOnesAreFound(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(cfg *Config) { cfg.MinAcks, cfg.MaxAnswer = 0, 64*mega })
	master := cluster.Nodes[0]
	for _, key := range []string{"few", "many"} {
		long := map[string]string{"few": "2", "many": "5"}[key]
		got := master.Do("EVAL", `
for i = 1, 10000 do
  redis.call('RPUSH', 'list:' .. KEYS[1], i) redis.call('SADD', 'set:' .. KEYS[1], i) redis.call('HSET', 'hash:' .. KEYS[1], i, i) redis.call('ZADD', 'zset:' .. KEYS[1], i, i)
end
local long = string.rep('x', 20 * 1024 * 1024)
for i = 1, ARGV[1] do
  redis.call('RPUSH', 'list:' .. KEYS[1], long .. i)
  redis.call('SADD', 'set:' .. KEYS[1], long .. i)
  redis.call('ZADD', 'zset:' .. KEYS[1], i, long .. i)
  redis.call('HSET', 'hash:' .. KEYS[1], 'long' .. i, long)
end
return 'done'`, "1", key, long)
		if got != "done" {
			t.Fatal(got)
		}
	}

	before := figure(master, "used_memory")
	for _, line := range []string{"LRANGE list: 0 -1", "SMEMBERS set:", "HGETALL hash:", "ZRANGE zset: 0 -1"} {
		for key, kind := range map[string]Kind{"few": 0, "many": TooLong} {
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					r := &Request{Commands: commands(strings.Replace(line, ":", ":"+key, 1))}
					err := client.Do(t.Context(), r)
					if err == nil {
						err = r.Results[0].Err
					}
					if got := KindOf(err); got != kind && got != Crowded {
						t.Errorf("%s of %s: %v", line, key, err)
					}
					r.Release()
				})
			}
			all.Wait()
			t.Logf("%s of %s: %d MB at the most", line, key, (figure(master, "used_memory_peak")-before)/mega)
		}
	}
	if peak := figure(master, "used_memory_peak") - before; peak > 130*mega {
		t.Errorf("Redis took %d MB for answers at once", peak/mega)
	}
}
