package redis

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/resp"
)

// How much Redis holds for those who read large values is bounded, also when nobody has
// read them before, whichever way they are read; and everybody gets the answer.
func TestRedisMakesFewLongAnswersAtOnce(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, func(c *Config) { c.Hold = time.Minute }) // how fast Redis writes is the machine's
	do(t, client, &Request{Commands: commands("SET small v")})
	const mega = 1 << 20
	many := func(n int, line string) (cmds []Command) {
		for i := range n {
			cmds = append(cmds, commands(strings.ReplaceAll(line, "#", fmt.Sprint(i)))[0])
		}
		return cmds
	}
	store := func(key string, bytes int) {
		master.Do("SETRANGE", key, fmt.Sprint(bytes-1), "x")
	}
	for _, c := range []struct {
		name    string
		clients int
		key     string
		bytes   int
		cmds    []Command
		atomic  bool
		read    ReadFrom
		refused bool
		most    int64 // that Redis takes beside the data
	}{
		{"a pipeline of GET", 1, "one", mega, many(50, "GET one"), false, ReadMaster, false, 8 * mega},
		{"a long pipeline of GET", 1, "many", mega, many(300, "GET many"), false, ReadMaster, true, 8 * mega},
		{"GET of 1 MB by many", 200, "wide", mega, commands("GET wide"), false, ReadMaster, true, 8 * mega},
		{"MGET", 1, "m", mega, []Command{append(Command{"MGET"}, strings.Fields(strings.Repeat("m ", 100))...)}, false, ReadMaster, true, 8 * mega},
		{"keys that nobody has read", 1, "k0", mega, append(many(30, "GET k#"), many(90, "GET none#")...), false, ReadMaster, true, 16 * mega},
		{"an element of a list", 100, "l", mega, commands("LINDEX l 0"), false, ReadMaster, false, 8 * mega},
		{"a field", 100, "h", mega, commands("HGET h f"), false, ReadMaster, false, 8 * mega},
		{"the same field", 1, "hm", mega, []Command{append(Command{"HMGET", "hm"}, strings.Fields(strings.Repeat("f ", 100))...)}, false, ReadMaster, true, 8 * mega},
		{"from a replica", 20, "rep", 3 * mega, commands("GET rep"), false, ReadReplica, false, 32 * mega},
		{"a transaction", 1, "multi", mega, many(300, "GET multi"), true, ReadMaster, true, 80 * mega},
		{"GET by many", 60, "big", 50 * mega, commands("GET big"), false, ReadMaster, true, 60 * mega},
		{"GET of what was short before", 60, "grown", 50 * mega, commands("GET grown"), false, ReadMaster, true, 60 * mega},
	} {
		if c.key == "grown" {
			master.Do("SET", "grown", "v")
			do(t, client, &Request{Commands: commands("GET grown")})
		}
		switch store(c.key, c.bytes); c.key {
		case "l", "h", "hm":
			master.Do("EVAL", "local v = redis.call('GETDEL', KEYS[1]) if KEYS[1] == 'l' then redis.call('RPUSH', 'l', v) else redis.call('HSET', KEYS[1], 'f', v) end", "1", c.key)
		case "k0":
			for i := range 30 {
				store(fmt.Sprint("k", i), c.bytes)
			}
		}
		for _, n := range cluster.Nodes {
			redistest.Eventually(t, 5*time.Second, "the value is there", func() bool { return n.Do("EXISTS", c.key) == "1" })
		}
		before := make([]int64, len(cluster.Nodes))
		for i, n := range cluster.Nodes {
			before[i] = figure(n, "used_memory")
		}
		var all sync.WaitGroup
		watched, stop := context.WithCancel(t.Context())
		longest, asked := time.Duration(0), 0
		var others sync.WaitGroup
		others.Go(func() {
			for watched.Err() == nil {
				began := time.Now()
				if _, _, err := client.Get(t.Context(), "small"); err != nil {
					t.Error(err)
				}
				longest, asked = max(longest, time.Since(began)), asked+1
			}
		})
		for range c.clients {
			all.Go(func() {
				r := &Request{Commands: c.cmds, Atomic: c.atomic, Read: c.read}
				err := client.Do(t.Context(), r)
				if err == nil {
					for i := range r.Results {
						if err == nil {
							err = r.Results[i].Err
						}
						if text := r.Results[i].Reply; r.Results[i].Err == nil && text.Type() == resp.Text && len(text.Text()) != c.bytes {
							t.Errorf("%s: an answer has %d bytes", c.name, len(text.Text()))
						}
					}
				}
				if kind := KindOf(err); err != nil && !(c.refused && (kind == TooLong || kind == Crowded)) {
					t.Errorf("%s: %v", c.name, err)
				}
				r.Release()
			})
		}
		all.Wait()
		stop()
		others.Wait()
		for i, n := range cluster.Nodes {
			peak := figure(n, "used_memory_peak") - before[i]
			t.Logf("%s: node %d took %d KB at the most; others waited %v at the most, %d times", c.name, i, peak>>10, longest, asked)
			if peak > c.most {
				t.Errorf("%s: node %d took %d KB", c.name, i, peak>>10)
			}
		}
	}
}

// figure is a number that INFO memory tells.
func figure(n *redistest.Server, name string) int64 {
	_, rest, _ := strings.Cut(n.Do("INFO", "memory"), name+":")
	digits, _, _ := strings.Cut(rest, "\r")
	return resp.Int(digits)
}
