package redis

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/redistest"
)

// What a silent master had is the next one's only where it cannot be what
// silenced it: a command of a short time, once.
func TestWhatMayHaveSilencedAMasterIsNotSentToTheNext(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = 10 * time.Second })
	redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "k", []byte("v"), "") == nil && client.Status().InSync == 2
	})
	another := open(t, cluster, func(c *Config) { c.Hold = 10 * time.Second }) // so that it is in no batch with others
	requests := []struct {
		what   string
		client *Client
		r      *Request
		want   Kind // 0: answered
	}{
		{"a brief read", client, &Request{Commands: commands("GET k")}, 0},
		{"a brief write with a key", client, &Request{Commands: commands("SET k v"), IdempotencyKey: "brief"}, 0},
		{"a read whose time grows with the data", client, &Request{Commands: commands("SCAN 0")}, GivenUp},
		{"one whose keys' sizes were asked for, and no more", another, &Request{Commands: commands("BITCOUNT k")}, 0},
	}
	do(t, another, &Request{Commands: commands("GET k")}) // it is connected
	master := cluster.Node(client.Master())
	master.Signal(syscall.SIGSTOP)
	defer master.Signal(syscall.SIGCONT)
	errs := make([]error, len(requests))
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() { errs[i] = requests[i].client.Do(t.Context(), requests[i].r) })
	}
	wg.Wait()
	for i, tt := range requests {
		if got := KindOf(errs[i]); got != tt.want || got == 0 && errs[i] != nil {
			t.Errorf("%s: %v", tt.what, errs[i])
		}
	}
}

// A master that dies is another case: whatever only reads is repeated.
func TestWhatADeadMasterHadIsReadFromTheNext(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = 10 * time.Second })
	redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "k", []byte("v"), "") == nil && client.Status().InSync == 2
	})
	master := cluster.Node(client.Master())
	master.Signal(syscall.SIGSTOP) // so that it is sure to have the read
	var err error
	r := &Request{Commands: commands("SCAN 0")}
	var wg sync.WaitGroup
	wg.Go(func() { err = client.Do(t.Context(), r) })
	redistest.Eventually(t, 5*time.Second, "the read is under way", func() bool {
		s := client.writer.Present()
		return s != nil && client.Status().Held == 0
	})
	master.Kill()
	wg.Wait()
	if err != nil || r.Results[0].Err != nil {
		t.Errorf("%v, %v", err, r.Results)
	}
}

func TestAFewElementsAtAnEndAreBrief(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, nil)
	for line, want := range map[string]bool{
		"LRANGE l 0 9": true, "LRANGE l -10 -1": true, "ZRANGE z 0 99": true, "ZREVRANGE z 0 0": true, "LINDEX l -1": true, "GET k": true,
		"LRANGE l 0 -1": false, "LRANGE l -10 5": false, "LRANGE l 0 100": false, "LRANGE l -101 -1": false, "LRANGE l 0 x": false,
		"LRANGE l 0 99999999999999999999": false, "ZRANGE z 0 9 BYSCORE": false, "LRANGE l 0": false, "LINDEX l 100": false, "HGETALL h": false,
	} {
		cmd := commands(line)[0]
		spec, err := client.Spec(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if got := spec.BriefFor(cmd); got != want {
			t.Errorf("%s is brief: %t", line, got)
		}
	}
}

func TestBriefIsWhatDoesNotGrowWithTheData(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, nil)
	for _, tt := range []struct {
		brief    bool
		commands string
	}{
		{true, "get set mget mset del unlink incr hset hget sadd zadd lpush expire ttl exists type append setex rename ping"},
		{false, "bitcount bitop bitpos keys scan sscan hgetall smembers lrange sort sinter zunionstore eval evalsha fcall eval_ro lcs flushall dump copy blpop randomly"},
	} {
		for name := range strings.FieldsSeq(tt.commands) {
			spec, err := client.Spec(t.Context(), Command{name})
			if err != nil {
				t.Fatal(err)
			}
			if got := spec != nil && spec.Brief(); got != tt.brief {
				t.Errorf("%s is brief: %t", name, got)
			}
		}
	}
}

// In a switchover the old master keeps what is under way. It calls itself a master for
// some seconds after the Sentinels name the new one, or it is turned into a replica at
// once, and refuses what waits there before anybody has asked for its role.
func TestAReadThatIsUnderWayInASwitchoverIsAnswered(t *testing.T) {
	for what, turn := range map[string]bool{"the old master stays one for a while": false, "the old master is turned at once": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.Start(t, 2, 3)
			client := open(t, cluster, func(c *Config) { c.Hold = 20 * time.Second })
			redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
				return client.Do(t.Context(), &Request{Commands: commands("SADD set member")}) == nil && client.Status().InSync == 2
			})
			master := cluster.Node(client.Master())
			master.Do("CLIENT", "PAUSE", "60000", "WRITE")
			defer master.Do("CLIENT", "UNPAUSE")
			time.Sleep(2 * ack.ProofAge) // the read needs a proof, which is a write
			read := &Request{Commands: commands("SMEMBERS set")}
			answered := make(chan error, 1)
			go func() { answered <- client.Do(t.Context(), read) }()
			time.Sleep(200 * time.Millisecond)
			redistest.Eventually(t, 10*time.Second, "the Sentinels begin a switchover", func() bool {
				return cluster.Sentinels[0].Do("SENTINEL", "FAILOVER", redistest.MasterName) == "OK"
			})
			if turn {
				turnAtOnce(t, cluster, master)
			}
			if err := <-answered; err != nil || read.Results[0].Err != nil {
				t.Errorf("%v, %v", err, read.Results)
			}
		})
	}
}

// turnAtOnce makes the old master a replica as soon as another node is the master, and
// lets it go on with what was kept there.
func turnAtOnce(t *testing.T, cluster *redistest.Cluster, old *redistest.Server) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, "another node is the master", func() bool {
		for _, n := range cluster.Nodes {
			if n != old && strings.HasPrefix(n.Do("ROLE"), "master") {
				host, port, _ := strings.Cut(n.Addr, ":")
				old.Do("REPLICAOF", host, port)
				old.Do("CLIENT", "UNPAUSE")
				return true
			}
		}
		return false
	})
}
