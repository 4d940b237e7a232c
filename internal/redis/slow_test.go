package redis

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/cost"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/redistest"
)

// Whatever is asked of it, a master that works stays the master.
func TestSlowCommandsLeaveTheMasterTimeForOthers(t *testing.T) {
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = 5 * time.Second })
	redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "k", []byte("v"), "") == nil && client.Status().InSync == 2
	})
	do(t, client, &Request{Commands: commands("SETRANGE bits 99999999 x")})
	master := client.Master()

	// One after another in one go they would take 2 s and more.
	long := make([]Command, 200)
	for i := range long {
		long[i] = Command{"BITCOUNT", "bits"}
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			_ = client.Do(t.Context(), &Request{Commands: long}) // slow for its sender: it may end in the midst
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	var worst time.Duration
	for busy := true; busy; {
		began := time.Now()
		if err := client.Set(t.Context(), "other", []byte("w"), ""); err != nil {
			t.Errorf("another client's write meanwhile: %v", err)
		}
		worst = max(worst, time.Since(began))
		select {
		case <-ended:
			busy = false
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Logf("the longest write meanwhile took %v", worst)
	if now := client.Master(); now != master {
		t.Errorf("the master was %s and is %s", master, now)
	}
}

func TestASlicedPipelineIsAnsweredAsOne(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	const n = 3*operation.SlowTogether + 1
	var cmds []Command
	for i := range n {
		cmds = append(cmds, Command{"RPUSH", "list", strconv.Itoa(i)}, Command{"LRANGE", "list", "-1", "100"})
	}
	for _, key := range []string{"", "once", "once"} { // the second time with its key it is a repetition
		r := &Request{Commands: cmds, IdempotencyKey: key}
		got := strings.Join(do(t, client, r), " ")
		count := n
		if key == "" {
			count = 0
		}
		var want []string
		for i := range n {
			want = append(want, fmt.Sprint(count+i+1), fmt.Sprintf("[%d]", i))
		}
		if key == "" || got != "" { // LRANGE of a repetition shows what there is now
			for i, w := range strings.Fields(got) {
				if i%2 == 0 && w != want[i] {
					t.Fatalf("with the key %q: %s", key, got)
				}
			}
		}
	}
	if got := cluster.Nodes[0].Do("LLEN", "list"); got != strconv.Itoa(2*n) {
		t.Errorf("the list has %s elements, want %d", got, 2*n)
	}
}

func TestAScriptThatRunsTooLongIsEnded(t *testing.T) {
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = 5 * time.Second })
	redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "k", []byte("v"), "") == nil && client.Status().InSync == 2
	})
	asInAStack(cluster)
	master := client.Master()
	for _, script := range []string{"EVAL", "EVAL_RO"} {
		r := &Request{Commands: []Command{{script, "while true do end", "0"}}}
		if err := client.Do(t.Context(), r); err != nil || r.Results[0].Err == nil || !strings.Contains(r.Results[0].Err.Error(), "killed") {
			t.Errorf("%s: %v, %v", script, err, r.Results)
		}
	}
	if err := client.Set(t.Context(), "k", []byte("w"), ""); err != nil {
		t.Error(err)
	}
	if now := client.Master(); now != master {
		t.Errorf("the master was %s and is %s", master, now)
	}
}

func TestACountIsCutToWhatASlowCommandMayTake(t *testing.T) {
	for given, want := range map[string]string{
		"COUNT 1000000000":           "COUNT 10000",
		"MATCH a* count 20000":       "MATCH a* count 10000",
		"COUNT 99999 COUNT 99999":    "COUNT 10000 COUNT 10000",
		"MATCH COUNT TYPE COUNT":     "MATCH COUNT TYPE COUNT",
		"MATCH COUNT COUNT 10001":    "MATCH COUNT COUNT 10000",
		"COUNT 10000":                "COUNT 10000",
		"COUNT -1":                   "COUNT -1",
		"COUNT 99999999999999999999": "COUNT 99999999999999999999",
		"NOVALUES COUNT 10001":       "NOVALUES COUNT 10000",
		"COUNT":                      "COUNT",
		"MATCH":                      "MATCH",
	} {
		words := strings.Fields(given)
		if got := strings.Join(cost.WithShortCount(words), " "); got != want {
			t.Errorf("%s: %s", given, got)
		}
		if strings.Join(words, " ") != given {
			t.Errorf("%s: the caller's words became %v", given, words)
		}
	}
}

// Between the scripts of one batch Redis turns to others.
func TestScriptsOfOneBatchLeaveTimeForOthers(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	script := `redis.call('RPUSH', 'order', 's') local n = 0 for i = 1, tonumber(ARGV[1]) do n = n + i end`
	do(t, client, &Request{Commands: []Command{{"EVAL", "return 1", "0"}}})
	conn, err := conn.DialRaw(t.Context(), client.cfg.Options(), cluster.Nodes[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const n = 10
	run := func(turns string) {
		r := &Request{Commands: []Command{{"EVAL", script, "0", turns}}}
		if err := client.Do(t.Context(), r); err != nil || r.Results[0].Err != nil {
			t.Error(err, r.Results)
		}
	}
	for range 3 { // from then on it is known to be short
		run("1")
	}
	cluster.Nodes[0].Do("DEL", "order")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var all sync.WaitGroup
		for range n {
			all.Go(func() { run("1000000") })
		}
		all.Wait()
	}()
	for busy := true; busy; {
		if err := conn.Send([]string{"RPUSH", "order", "o"}); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
			busy = false
		default:
		}
	}
	order := strings.Fields(cluster.Nodes[0].Do("LRANGE", "order", "0", "-1"))
	between := 0
	for i := range order[1:] {
		if order[i] == "s" && order[i+1] == "o" {
			between++
		}
	}
	if between < n/2 {
		t.Errorf("others came between few of the scripts: %s", order)
	}
}

// One sender's queue is no other's.
func TestASlowCommandWaitsForFewOfAnotherSenders(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	do(t, client, &Request{Commands: commands("SETRANGE bits 11999999 x", "HSET h f v")})
	const many = 200
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			if err := client.Do(t.Context(), &Request{Commands: commands("BITCOUNT bits"), Sender: "busy"}); err != nil {
				t.Error(err)
			}
		})
	}
	redistest.Eventually(t, 10*time.Second, "they wait", func() bool { return client.Status().Held > many/2 })
	for _, line := range []string{"HGETALL h", "EVAL return(1) 0", "SORT none"} {
		if err := client.Do(t.Context(), &Request{Commands: commands(line), Sender: "other"}); err != nil {
			t.Error(err)
		}
	}
	if left := client.Status().Held; left == 0 {
		t.Error("none of the other sender's commands is left")
	}
	wg.Wait()
}
