package redis

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/once"
	"holdfast/internal/redis/redistest"
)

// promote makes the replica the master, and returns a client of it.
func promote(t *testing.T, cluster *redistest.Cluster) *Client {
	t.Helper()
	replica := cluster.Nodes[1]
	redistest.Eventually(t, 5*time.Second, "the replica has all", func() bool {
		return strings.Contains(replica.Do("INFO", "replication"), "master_link_status:up")
	})
	cluster.Sentinels[0].Kill()
	cluster.Nodes[0].Kill()
	replica.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	replica.Do("REPLICAOF", "NO", "ONE")
	return open(t, &redistest.Cluster{Nodes: cluster.Nodes[1:]}, func(c *Config) { c.MinAcks = 0 })
}

// skewed is a master with a replica whose clocks can be set, and a client that knows both.
func skewed(t *testing.T, change func(*Config)) (*redistest.Cluster, *Client) {
	t.Helper()
	cluster := redistest.StartClocked(t, 1, 1)
	client := open(t, cluster, change)
	do(t, client, &Request{Commands: commands("SET warm up")})
	return cluster, client
}

// noticed waits until a client knows that the clocks differ: a record that it makes lives longer
// than an hour then. lifeOf returns the rest of the life of a request's record.
func noticed(t *testing.T, client *Client, lifeOf func(*Request) string) {
	t.Helper()
	n := 0
	redistest.Eventually(t, 10*time.Second, "the client notices", func() bool {
		n++
		r := &Request{Commands: commands("INCR noticed"), IdempotencyKey: "noticed " + strconv.Itoa(n)}
		do(t, client, r)
		left, _ := strconv.Atoi(lifeOf(r))
		return left > int(time.Hour.Milliseconds())
	})
}

func TestARepetitionCountsOnceAtANextMasterWhoseClockIsAhead(t *testing.T) {
	for _, c := range []struct {
		what string
		node int // whose clock is set
		by   time.Duration
	}{
		{"the replica's clock is ahead", 1, time.Hour},
		{"the master's clock is behind", 0, -time.Hour},
		{"the master's clock is ahead", 0, time.Hour},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			cluster, client := skewed(t, nil)
			requests := map[string]*Request{
				"before": {Commands: commands("INCR before"), IdempotencyKey: "before"},
				"after":  {Commands: commands("INCR after"), IdempotencyKey: "after"},
				"atomic": {Commands: commands("INCR atomic", "GET atomic"), Atomic: true, IdempotencyKey: "atomic"},
				"script": {Commands: []Command{{"EVAL", "return redis.call('INCR', KEYS[1])", "1", "script"}}, IdempotencyKey: "script"},
				"piped":  {Commands: commands("INCR piped", "GET piped"), IdempotencyKey: "piped"},
			}
			first := map[string][]string{"before": do(t, client, requests["before"])}
			cluster.Nodes[c.node].SetClock(t, c.by)
			if ahead := c.node == 1 || c.by < 0; ahead {
				noticed(t, client, func(r *Request) string { return lifeOf(cluster.Nodes[0], r) })
				redistest.Eventually(t, 10*time.Second, "the record from before lives longer", func() bool {
					left, _ := strconv.Atoi(lifeOf(cluster.Nodes[0], requests["before"]))
					return left > int(time.Hour.Milliseconds())
				})
			}
			for name, r := range requests {
				if name != "before" {
					first[name] = do(t, client, r)
				}
			}
			if c.node == 0 && c.by > 0 {
				// A clock that is set ahead ends what the master itself remembers at once
				// (docs/hosts.md, "Clocks").
				delete(requests, "before")
			}
			promoted := promote(t, cluster)
			for name, r := range requests {
				r.Results = nil
				if got := do(t, promoted, r); !slices.Equal(got, first[name]) {
					t.Errorf("%s: the first answer was %q, and that of the repetition is %q", name, first[name], got)
				}
				if got := cluster.Nodes[1].Do("GET", name); got != "1" {
					t.Errorf("%s counted to %s", name, got)
				}
			}
		})
	}
}

func TestARecordThatLivesLongerForTheClocksIsRemovedInTime(t *testing.T) {
	t.Parallel()
	cluster, client := skewed(t, func(c *Config) { c.IdempotencyTTL, c.RecordDB = 4*time.Second, -1 })
	cluster.Nodes[1].SetClock(t, time.Hour)
	noticed(t, client, func(r *Request) string { return cluster.Nodes[0].Do("PTTL", once.Record("", r)) })
	first := &Request{Commands: commands("INCR n"), IdempotencyKey: "once"}
	renewed := &Request{Commands: commands("INCR m"), IdempotencyKey: "renewed"}
	do(t, client, first)
	do(t, client, renewed)
	made := time.Now()
	exists := func(r *Request) bool { return cluster.Nodes[0].Do("EXISTS", once.Record("", r)) == "1" }
	var gone time.Duration
	for repeated := false; gone == 0 || exists(renewed); time.Sleep(50 * time.Millisecond) {
		if since := time.Since(made); since > 30*time.Second {
			t.Fatal("a record stays")
		} else if !repeated && since > 2*time.Second {
			repeated = true
			do(t, client, renewed)
		} else if gone == 0 && !exists(first) {
			gone = since
		}
	}
	if gone < 3900*time.Millisecond {
		t.Errorf("a record that was to be kept for 4 s was removed after %v", gone)
	}
	if since := time.Since(made); since < 5900*time.Millisecond {
		t.Errorf("a record that was renewed after 2 s and was to be kept for 4 s more was removed after %v", since)
	}
}
