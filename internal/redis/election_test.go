package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/election"
	"holdfast/internal/redis/redistest"
)

// severed is a cut between a client and some addresses: packets are lost, both ways.
type severed struct {
	mu    sync.Mutex
	addrs map[string]bool
}

func (c *severed) off(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addrs[addr]
}

// set makes the cut one from these addresses alone.
func (c *severed) set(addrs ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs = map[string]bool{}
	for _, a := range addrs {
		c.addrs[a] = true
	}
}

func (c *severed) dial(ctx context.Context, addr string) (net.Conn, error) {
	if c.off(addr) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &severedConn{conn, c, addr}, nil
}

type severedConn struct {
	net.Conn
	cut  *severed
	addr string
}

func (c *severedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for err == nil && c.cut.off(c.addr) {
		n, err = c.Conn.Read(p)
	}
	return n, err
}

func (c *severedConn) Write(p []byte) (int, error) {
	if c.cut.off(c.addr) {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// proxyTo hands on what it gets to an address, and nothing while it is frozen, the end of
// connections neither.
func proxyTo(t *testing.T, to string, frozen *atomic.Bool) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	conns := []io.Closer{listener}
	keep := func(c io.Closer) {
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	pipe := func(dst, src net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			switch {
			case frozen.Load() && err != nil:
				return
			case frozen.Load():
				continue
			}
			if n > 0 {
				_, _ = dst.Write(buf[:n])
			}
			if err != nil {
				if errors.Is(err, io.EOF) {
					_ = dst.Close()
				}
				return
			}
		}
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			keep(c)
			if frozen.Load() {
				continue
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			keep(d)
			go pipe(c, d)
			go pipe(d, c)
		}
	}()
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port
}

// A master hangs until a Sentinel has been elected. Then it goes on, and the leader and
// the replica that it chose are cut off from it and from the web node, which hears a
// majority of Sentinels that find nothing wrong with the master.
func TestAnElectionThatIsWonBehindACutLosesNothing(t *testing.T) {
	for name, ends := range map[string]bool{
		"the master does not hear that the replica has left it": false,
		"the master hears that the replica has left it":         true,
	} {
		t.Run(name, func(t *testing.T) {
			cluster := redistest.Start(t, 2, 3)
			master, other, chosen := cluster.Nodes[0], cluster.Nodes[1], cluster.Nodes[2]
			for _, s := range cluster.Sentinels { // as a stack has it
				s.Do("SENTINEL", "DEBUG", "info-period", "700", "publish-period", "1000", "ping-period", "250")
			}
			other.Do("CONFIG", "SET", "replica-priority", "200")
			var frozen atomic.Bool
			chosen.Do("REPLICAOF", "127.0.0.1", proxyTo(t, master.Addr, &frozen))
			redistest.Eventually(t, 5*time.Second, "the chosen replica is linked by the proxy", func() bool {
				about := master.Do("INFO", "replication")
				return strings.Count(about, "state=online") == 2 && strings.Contains(about, "min_slaves_good_slaves:2")
			})
			time.Sleep(time.Second) // the Sentinels ask for the priority
			var away severed
			client := open(t, cluster, func(cfg *Config) { cfg.Dial, cfg.Hold = away.dial, 3*time.Second })
			redistest.Eventually(t, 5*time.Second, "both replicas are in sync", func() bool {
				return client.Set(t.Context(), "warm", []byte("up"), "") == nil && client.Status().InSync == 2
			})

			master.Signal(syscall.SIGSTOP)
			leader := ""
			redistest.Eventually(t, 3*time.Second, "a Sentinel leads a failover", func() bool {
				for _, s := range cluster.Sentinels {
					if strings.Contains(s.Do("SENTINEL", "MASTER", redistest.MasterName), "failover_in_progress") {
						leader = s.Addr
						return true
					}
				}
				return false
			})
			away.set(chosen.Addr, leader)
			frozen.Store(!ends)
			master.Signal(syscall.SIGCONT)

			began := time.Now()
			var acknowledged []string
			for i := 0; time.Since(began) < 3*time.Second; i++ {
				key := fmt.Sprint("k", i)
				if client.Set(t.Context(), key, []byte("x"), "") == nil {
					acknowledged = append(acknowledged, key)
				}
			}
			away.set()
			frozen.Store(false)

			redistest.Eventually(t, 10*time.Second, "every Sentinel names the chosen replica", func() bool {
				for _, s := range cluster.Sentinels {
					if strings.Replace(s.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.MasterName), " ", ":", 1) != chosen.Addr {
						return false
					}
				}
				return true
			})
			redistest.Eventually(t, 10*time.Second, "writes go on", func() bool {
				return client.Set(t.Context(), "after", []byte("x"), "") == nil
			})
			lost := 0
			for _, key := range acknowledged {
				if chosen.Do("EXISTS", key) != "1" {
					lost++
				}
			}
			if lost > 0 {
				t.Errorf("%d of %d acknowledged writes are lost", lost, len(acknowledged))
			}
		})
	}
}

// voteOf is a Sentinel's vote about a master, in Redis' words, after it was asked to vote
// for a leader in an epoch; in epoch 0 it is only told.
func voteOf(s *redistest.Server, master, epoch, leader string) string {
	host, port, _ := net.SplitHostPort(master)
	return s.Do("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", host, port, epoch, leader)
}

// round is what the nodes and Sentinels say now.
func round(t *testing.T, client *Client) election.Snapshot {
	t.Helper()
	s, err := client.monitor.Confirm(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWritesWaitForAnElectionThatMayBeUnderWay(t *testing.T) {
	cluster := redistest.Start(t, 2, 3)
	master, replica := cluster.Nodes[0], cluster.Nodes[2]
	for _, s := range cluster.Sentinels {
		s.Do("SENTINEL", "SET", redistest.MasterName, "failover-timeout", "500")
	}
	client := open(t, cluster, nil)
	redistest.Eventually(t, 5*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "warm", []byte("up"), "") == nil && client.Status().InSync == 2
	})

	for range 5 {
		if s := round(t, client); !s.StoodBy() {
			t.Fatalf("the Sentinels do not stand by a master that is well: %+v", s)
		}
	}
	for _, s := range cluster.Sentinels {
		if vote := voteOf(s, master.Addr, "0", "me"); vote != "0 * 0" {
			t.Fatalf("a question made a Sentinel vote: %s", vote)
		}
	}

	// One asks the others for their votes, and is not heard any more.
	leader := cluster.Sentinels[2]
	id := leader.Do("SENTINEL", "MYID")
	leader.Kill()
	for _, s := range cluster.Sentinels[:2] {
		if vote := voteOf(s, master.Addr, "1", id); vote != "0 "+id+" 1" {
			t.Fatalf("it votes %s", vote)
		}
	}
	began := time.Now()
	if s := round(t, client); s.StoodBy() || !s.Certain() {
		t.Errorf("an election is open, and everybody follows: %+v", s)
	}
	for _, s := range cluster.Sentinels[:2] { // they forget for whom they voted, and not when
		s.Restart(t)
		if vote := voteOf(s, master.Addr, "0", "me"); vote != "0 * 1" {
			t.Fatalf("after it started anew it votes %s", vote)
		}
	}
	if err := client.Set(t.Context(), "k", []byte("all have it"), ""); err != nil {
		t.Error(err)
	}

	replica.Signal(syscall.SIGSTOP)
	defer replica.Signal(syscall.SIGCONT)
	err := client.Set(t.Context(), "k", []byte("one has it not"), "")
	if took := time.Since(began); err != nil || took < election.ElectionLimit(500*time.Millisecond) {
		t.Errorf("answered after %v: %v", took, err)
	}
}

// A Sentinel is asked about the master by the address by which it knows it.
func TestVotesAreHeardWhateverTheMasterIsCalled(t *testing.T) {
	leader := strings.Repeat("a", 40)
	for name, start := range map[string]func(*testing.T) (cluster *redistest.Cluster, master string){
		"by another port, which speaks TLS": func(t *testing.T) (*redistest.Cluster, string) {
			cluster := redistest.StartTLS(t, 1, 3)
			return cluster, cluster.Nodes[0].TLSAddr
		},
		"by a name": func(t *testing.T) (*redistest.Cluster, string) {
			cluster := redistest.Start(t, 1, 3)
			_, port, _ := net.SplitHostPort(cluster.Nodes[0].Addr)
			for _, s := range cluster.Sentinels {
				s.Do("SENTINEL", "CONFIG", "SET", "resolve-hostnames", "yes")
				s.Do("SENTINEL", "CONFIG", "SET", "announce-hostnames", "yes")
				s.Do("SENTINEL", "REMOVE", redistest.MasterName)
				if answer := s.Do("SENTINEL", "MONITOR", redistest.MasterName, "localhost", port, "2"); answer != "OK" {
					t.Fatal(answer)
				}
			}
			return cluster, net.JoinHostPort("localhost", port)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, master := start(t)
			client := open(t, cluster, func(c *Config) {
				if cluster.TLS != nil {
					c.TLS = tlsOf(t, cluster)
				}
			})
			redistest.Eventually(t, 5*time.Second, "there is a master", func() bool { return client.Master() == master })
			if s := round(t, client); !s.StoodBy() {
				t.Fatalf("%+v", s)
			}
			if vote := voteOf(cluster.Sentinels[1], master, "1", leader); vote != "0 "+leader+" 1" {
				t.Fatalf("it votes %s", vote)
			}
			if s := round(t, client); s.StoodBy() {
				t.Errorf("the vote is not heard: %+v", s)
			}
		})
	}
}

// A Sentinel whose administrator gave no right to ask for votes is taken at its word.
func TestASentinelThatMustNotTellItsVoteStopsNothing(t *testing.T) {
	cluster := redistest.Start(t, 2, 3)
	for _, s := range cluster.Sentinels {
		if answer := s.Do("ACL", "SETUSER", redistest.Username, "-sentinel|is-master-down-by-addr", "-sentinel|myid"); answer != "OK" {
			t.Fatal(answer)
		}
		voteOf(s, cluster.Nodes[0].Addr, "1", strings.Repeat("a", 40))
	}
	client := open(t, cluster, nil)
	redistest.Eventually(t, 5*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "k", []byte("up"), "") == nil && client.Status().InSync == 2
	})
	cluster.Sentinels[2].Kill()
	cluster.Nodes[2].Kill()
	began := time.Now()
	if err := client.Set(t.Context(), "k", []byte("v"), ""); err != nil {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	if s := round(t, client); !s.StoodBy() {
		t.Errorf("%+v", s)
	}

	// It asks again now and then, and hears of the right.
	for _, s := range cluster.Sentinels[:2] {
		s.Do("ACL", "SETUSER", redistest.Username, "+sentinel|is-master-down-by-addr", "+sentinel|myid")
	}
	redistest.Eventually(t, 8*time.Second, "the votes are heard", func() bool { return !round(t, client).StoodBy() })
}

// One Sentinel has heard that another node was promoted, and the others, a majority, have
// not.
func TestAMajorityThatHasNotHeardOfTheLastElectionIsNotBelieved(t *testing.T) {
	cluster := redistest.Start(t, 2, 3)
	master, promoted := cluster.Nodes[0], cluster.Nodes[2]
	for _, s := range cluster.Sentinels {
		s.Do("SENTINEL", "DEBUG", "publish-period", "60000")
	}
	client := open(t, cluster, nil)
	redistest.Eventually(t, 5*time.Second, "the Sentinels stand by the master", func() bool { return round(t, client).StoodBy() })

	hello := []string{}
	for _, addr := range []string{cluster.Sentinels[1].Addr, promoted.Addr} {
		host, port, _ := net.SplitHostPort(addr)
		hello = append(hello, host, port)
	}
	leader := cluster.Sentinels[1].Do("SENTINEL", "MYID")
	cluster.Sentinels[0].Do("PUBLISH", "__sentinel__:hello",
		strings.Join([]string{hello[0], hello[1], leader, "1", redistest.MasterName, hello[2], hello[3], "1"}, ","))

	promoted.Signal(syscall.SIGSTOP)
	defer promoted.Signal(syscall.SIGCONT)
	s := round(t, client)
	if s.Master != master.Addr || s.Sentinels[0] != promoted.Addr || election.Majority(s.Sentinels) != master.Addr {
		t.Fatalf("this tests nothing: %+v", s)
	}
	if s.StoodBy() || s.Certain() {
		t.Errorf("the Sentinels stand by a master that was replaced: %+v", s)
	}
}

// In the midst of a change there are Sentinels that a client does not know. The votes of those
// may promote another node while all that it knows but one stand by the master.
func TestSentinelsThatOnlyOthersKnowCount(t *testing.T) {
	for many, stands := range map[int]bool{3: true, 4: true, 5: false} {
		cluster := redistest.Start(t, 2, many)
		client := open(t, cluster, func(c *Config) { c.Sentinels = c.Sentinels[:3] })
		redistest.Eventually(t, 10*time.Second, "all Sentinels know each other, and stand by the master", func() bool {
			for _, s := range cluster.Sentinels {
				if !strings.Contains(s.Do("SENTINEL", "CKQUORUM", redistest.MasterName), fmt.Sprintf("OK %d usable", many)) {
					return false
				}
			}
			return round(t, client).StoodBy()
		})
		cluster.Sentinels[0].Kill()
		redistest.Eventually(t, 5*time.Second, "it is heard that one is away", func() bool { return slices.Contains(round(t, client).Sentinels[:3], "") })
		if s := round(t, client); s.StoodBy() != stands {
			t.Errorf("two of three Sentinels answer, and there are %d: %+v", many, s)
		}
	}
}
