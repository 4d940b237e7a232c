package redis

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

func TestWhatEveryOtherNodeHas(t *testing.T) {
	replica := func(addr string, offset int64) nodeView {
		return nodeView{addr: addr, answered: true, follows: "m", linked: true, offset: offset}
	}
	stranger, unlinked, silent, promoted := replica("b", 9), replica("b", 9), replica("b", 9), replica("b", 9)
	stranger.follows, unlinked.linked, silent.answered, promoted.master = "x", false, false, true
	master := nodeView{addr: "m", answered: true, master: true, offset: 9, replicas: []replicaView{{"a", 8}, {"b", 7}}}
	for name, c := range map[string]struct {
		nodes []nodeView
		want  int64
	}{
		"the least counts":                     {[]nodeView{master, replica("a", 8), replica("b", 7)}, 7},
		"one follows another":                  {[]nodeView{master, replica("a", 8), stranger}, 0},
		"one has no connection":                {[]nodeView{master, replica("a", 8), unlinked}, 0},
		"one is silent":                        {[]nodeView{master, replica("a", 8), silent}, 0},
		"one is a master":                      {[]nodeView{master, replica("a", 8), promoted}, 0},
		"one that only the master knows":       {[]nodeView{master, replica("a", 8)}, 0},
		"a node that the master does not know": {[]nodeView{master, replica("a", 8), replica("b", 7), replica("c", 3)}, 3},
		"nobody else":                          {[]nodeView{{addr: "m", answered: true, master: true}}, 0},
	} {
		if got := (snapshot{verdict: verdict{master: "m"}, nodes: c.nodes}).shared(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// inSyncWith is a client of a master with two replicas, both in sync.
func inSyncWith(t *testing.T) (*Client, *redistest.Cluster) {
	t.Helper()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, nil)
	redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "k", []byte("old"), "") == nil && client.Status().InSync == 2
	})
	return client, cluster
}

// reads has a client read k again and again until it answers no more or the
// time is over, and answers what was seen last and how often it was answered.
func reads(t *testing.T, client *Client, during time.Duration) (last string, n int) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); n++ {
		got, _, err := client.Get(t.Context(), "k")
		if err != nil {
			t.Logf("after %d reads: %v", n, err)
			return last, n
		}
		last = string(got)
	}
	return last, n
}

func TestReadsOfOldDataTakeNoTripToTheReplicas(t *testing.T) {
	client, cluster := inSyncWith(t)
	master := cluster.Node(client.Master())
	// Each trip is a REPLCONF GETACK in the replication stream.
	offset := func() int {
		for line := range strings.Lines(master.Do("INFO", "replication")) {
			if value, ok := strings.CutPrefix(line, "master_repl_offset:"); ok {
				n, _ := strconv.Atoi(strings.TrimSpace(value))
				return n
			}
		}
		return 0
	}
	const getack = len("*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n")
	before := offset()
	_, n := reads(t, client, time.Second)
	// A proof each proofEvery takes some hundred bytes.
	moved := offset() - before
	if n < 100 || moved > n*getack/4 {
		t.Errorf("%d reads one after the other, and %d bytes of replication", n, moved)
	}
}

func TestReadsSeeAnothersWriteOnlyWhenTheReplicasHaveIt(t *testing.T) {
	client, cluster := inSyncWith(t)
	master := cluster.Node(client.Master())
	for round := range 20 {
		value := "new " + strconv.Itoa(round)
		if _, n := reads(t, client, 20*time.Millisecond); n == 0 {
			t.Fatal("no read was answered")
		}
		var held []*redistest.Server
		for _, n := range cluster.Nodes {
			if n != master {
				n.Signal(syscall.SIGSTOP)
				held = append(held, n)
			}
		}
		if answer := master.Do("SET", "k", value); answer != "OK" {
			t.Fatal(answer)
		}
		// Less than what gives a silent replica up.
		seen := make(chan string, 1)
		go func() {
			got, _, _ := client.Get(t.Context(), "k")
			seen <- string(got)
		}()
		early := ""
		select {
		case early = <-seen:
		case <-time.After(20 * time.Millisecond):
		}
		for _, n := range held {
			n.Signal(syscall.SIGCONT)
		}
		if early == value {
			t.Fatalf("round %d: a read showed a value that no replica had", round)
		}
		redistest.Eventually(t, 5*time.Second, "the value is seen", func() bool {
			got, _, err := client.Get(t.Context(), "k")
			return err == nil && string(got) == value
		})
	}
}
