package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/redistest"
)

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
	// A proof each ack.ProofEvery takes some hundred bytes.
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
		for _, n := range othersThan(cluster, master) {
			n.Signal(syscall.SIGSTOP)
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
		for _, n := range othersThan(cluster, master) {
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

// One that is slow, or hangs, would hold every reader up.
func TestReadsAskNoSentinel(t *testing.T) {
	client, cluster := inSyncWith(t)
	asked := func(during func()) int {
		count := func() (n int) {
			for line := range strings.Lines(cluster.Sentinels[0].Do("INFO", "stats")) {
				if total, ok := strings.CutPrefix(line, "total_commands_processed:"); ok {
					n, _ = strconv.Atoi(strings.TrimSpace(total))
				}
			}
			return n
		}
		before := count()
		during()
		return count() - before
	}
	idle := asked(func() { time.Sleep(time.Second) }) // the monitor's rounds, and the other Sentinels
	reading := asked(func() { reads(t, client, time.Second) })
	// A round for each proof would be 13 times two questions.
	if idle == 0 || reading > idle+13 {
		t.Errorf("a Sentinel was asked %d times a second, and %d without reads", reading, idle)
	}
}

func othersThan(cluster *redistest.Cluster, master *redistest.Server) []*redistest.Server {
	return slices.DeleteFunc(slices.Clone(cluster.Nodes), func(n *redistest.Server) bool { return n == master })
}

// replace makes one of two replicas the master of the other, both of which then
// have "new" as k.
func replace(t *testing.T, others []*redistest.Server) {
	t.Helper()
	a, b := others[0], others[1]
	a.Do("REPLICAOF", "NO", "ONE")
	host, port, _ := strings.Cut(a.Addr, ":")
	b.Do("REPLICAOF", host, port)
	redistest.Eventually(t, 5*time.Second, "one follows the other", func() bool {
		return strings.Contains(b.Do("INFO", "replication"), "master_link_status:up")
	})
	a.Do("SET", "k", "new")
	for b.Do("GET", "k") != "new" {
		time.Sleep(time.Millisecond)
	}
}

// The master does not notice that it was replaced but by who left it.
func TestAReplacedMasterAnswersNoReadsWithoutConfirmation(t *testing.T) {
	client, cluster := inSyncWith(t)
	master := cluster.Node(client.Master())
	time.Sleep(1200 * time.Millisecond) // for a partial resynchronization, both have to have told of themselves
	if _, n := reads(t, client, 100*time.Millisecond); n == 0 {
		t.Fatal("no read was answered")
	}
	replace(t, othersThan(cluster, master))
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
	defer cancel()
	if got, _, err := client.Get(ctx, "k"); err == nil && string(got) != "new" {
		t.Errorf("a read showed %q after a write on the new master and its replica", got)
	}
}

// The same of a master that stalls for a moment, and may have been replaced in
// it.
func TestAMasterThatStallsAnswersNoReadsWithoutConfirmation(t *testing.T) {
	client, cluster := inSyncWith(t)
	master := cluster.Node(client.Master())
	waits := func() (n int) {
		for line := range strings.Lines(master.Do("INFO", "commandstats")) {
			if calls, ok := strings.CutPrefix(line, "cmdstat_wait:calls="); ok {
				calls, _, _ = strings.Cut(calls, ",")
				n, _ = strconv.Atoi(calls)
			}
		}
		return n
	}
	// stall has the master stall while it is asked, and answers how often it was
	// asked to wait for replicas, just after a proof.
	stall := func(quiet, stall time.Duration) int {
		for {
			reads(t, client, 5*time.Millisecond)
			if p := client.writer.Lease(); p != nil && time.Since(p.Proven) < ack.ProofEvery/3 {
				break
			}
		}
		before := waits()
		reads(t, client, time.Millisecond)
		time.Sleep(quiet)
		if stall > 0 {
			master.Signal(syscall.SIGSTOP)
			time.AfterFunc(stall, func() { master.Signal(syscall.SIGCONT) })
		}
		if _, _, err := client.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		return waits() - before
	}
	redistest.Eventually(t, 10*time.Second, "one that does not stall is not asked to", func() bool { return stall(ack.MaxResponseGap/3, 0) == 0 })
	for range 3 {
		if n := stall(ack.MaxResponseGap*2/3, ack.MaxResponseGap/2); n == 0 {
			t.Errorf("a read was answered without confirmation, and the master had not been heard of for more than %v", ack.MaxResponseGap)
		}
	}
}
