package redis

import (
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/ack"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/readpipe"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/request"
)

// express is one, and its connection.
type express struct {
	*readpipe.Express
	net.Conn
	client *Client
}

// ride makes an Express of a client that reads now and then, as others do.
func ride(t *testing.T, client *Client) *express {
	t.Helper()
	x := &express{client: client}
	redistest.Eventually(t, 10*time.Second, "reading goes without confirmation", func() bool {
		reads(t, client, 10*time.Millisecond)
		var err error
		x.Express, x.Conn, err = client.Express(t.Context())
		return err == nil
	})
	t.Cleanup(func() { x.Close() })
	return x
}

// takes adds a request that is one for an Express.
func (x *express) takes(t *testing.T, r *Request) bool {
	t.Helper()
	spec, err := x.client.Spec(t.Context(), r.Commands[0])
	if err != nil {
		t.Fatal(err)
	}
	return readpipe.ForExpress(r, spec) && x.Add(r, time.Now())
}

// depart sends requests as one batch. Meanwhile the others read, without which
// there is no read lease.
func (x *express) depart(t *testing.T, all ...*Request) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, "there is a read lease", func() bool {
		reads(t, x.client, 5*time.Millisecond)
		return x.takes(t, all[0])
	})
	for _, r := range all[1:] {
		if !x.takes(t, r) {
			t.Fatalf("%v: not taken", r.Commands)
		}
	}
	x.send(t)
}

func (x *express) send(t *testing.T) {
	t.Helper()
	if _, err := x.Write(x.Depart()); err != nil {
		t.Fatal(err)
	}
}

// arrive reads the answers, so many bytes at a time.
func (x *express) arrive(t *testing.T, most int) (good bool) {
	t.Helper()
	x.Done(true) // the answers before these, which tests still look at
	_ = x.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		room := x.Room()
		n, err := x.Read(room[:min(most, len(room))])
		if err != nil {
			t.Fatal(err)
		}
		whole, err := x.Got(n)
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			return x.Land(time.Now())
		}
	}
}

func reading(words ...string) *Request { return &Request{Commands: []Command{words}} }

// read reads k again and again, until an answer counts.
func (x *express) read(t *testing.T) (value string) {
	t.Helper()
	r := reading("GET", "k")
	redistest.Eventually(t, 10*time.Second, "an answer counts", func() bool {
		x.depart(t, r)
		return x.arrive(t, 1<<20) && x.Answer(0, r)
	})
	return r.Results[0].Reply.Text()
}

func TestAnExpressAnswersWhatRedisDoes(t *testing.T) {
	for name, start := range map[string]func(*testing.T) (*Client, *redistest.Cluster){
		"with replicas": inSyncWith,
		"alone": func(t *testing.T) (*Client, *redistest.Cluster) {
			cluster := redistest.Start(t, 0, 0)
			return open(t, cluster, func(cfg *Config) { cfg.MinAcks, cfg.DB, cfg.Name = 0, 3, "rider" }), cluster
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := start(t)
			long := strings.Repeat("long\r\n", 10_000)
			for _, cmd := range []Command{{"SET", "k", "v"}, {"SET", "long", long}, {"SADD", "s", "a"}, {"HSET", "h", "f", "1", "g", "2"}} {
				if err := client.Do(t.Context(), &Request{Commands: []Command{cmd}}); err != nil {
					t.Fatal(err)
				}
			}
			x := ride(t, client)
			// Else an empty answer is asked for again.
			client.cfg.Answers.Lengths.LearnMissing(command.ByKey.Key(Command{"GET", "nothing"}))
			requests := func() []*Request {
				token := reading("get", "k")
				token.WantToken = true
				return []*Request{
					reading("GET", "k"), reading("GET", "nothing"), reading("STRLEN", "k"), reading("TYPE", "k"), reading("HMGET", "h", "f", "x", "g"),
					reading("GET", "s"), reading("GET", "long"), token,
				}
			}
			for _, most := range []int{1 << 20, 1000} {
				all := requests()
				redistest.Eventually(t, 20*time.Second, "the answers count", func() bool {
					x.depart(t, all...)
					return x.arrive(t, most)
				})
				for i, r := range all {
					if i == 5 {
						if x.Answer(i, r) {
							t.Error("what Redis refused was answered")
						}
						continue
					}
					if !x.Answer(i, r) || r.Node != client.Master() || r.From != ReadMaster {
						t.Fatalf("%v was not answered: %+v", r.Commands, r)
					}
					usual := reading(r.Commands[0]...)
					if err := client.Do(t.Context(), usual); err != nil {
						t.Fatal(err)
					}
					if got, want := spell(&r.Results[0].Reply), spell(&usual.Results[0].Reply); got != want {
						t.Errorf("%v: %.100q, want %.100q", r.Commands, got, want)
					}
				}
				x.Done(true)
				if !strings.HasPrefix(all[7].Token, request.TokenPrefix) || all[0].Token != "" {
					t.Errorf("the tokens: %q and %q", all[7].Token, all[0].Token)
				}
			}
		})
	}
}

func TestAnExpressTakesWhatOnlyReadsAndIsSwift(t *testing.T) {
	client, _ := inSyncWith(t)
	x := ride(t, client)
	for _, r := range []*Request{
		reading("SET", "k", "v"), reading("LRANGE", "k", "0", "-1"), reading("KEYS", "*"), reading("XREAD", "BLOCK", "0", "STREAMS", "k", "$"),
		reading("SUBSCRIBE", "k"), reading("GET", command.ReservedPrefix+"k"), reading("RANDOMKEY"), reading("PING"),
		{Commands: commands("GET k"), Read: ReadReplica}, {Commands: commands("GET k"), Read: ReadCached}, {Commands: commands("GET k", "GET k")},
		{Commands: commands("GET k"), Atomic: true},
	} {
		reads(t, client, 10*time.Millisecond)
		if x.takes(t, r) {
			t.Errorf("%v was taken: %+v", r.Commands, r)
		}
	}
	// Not more at once than fit into one batch.
	for i := range 2 * readpipe.MaxExpress {
		if r := reading("GET", "k"); !x.takes(t, r) {
			if i == 0 {
				reads(t, client, 10*time.Millisecond)
				continue
			}
			if i > readpipe.MaxExpress+1 {
				t.Errorf("%d in one batch", i)
			}
			break
		}
	}
}

// Without a session that asks for confirmation again and again there is no
// read lease.
func TestAReadLeaseExpires(t *testing.T) {
	client, _ := inSyncWith(t)
	x := ride(t, client)
	x.read(t)
	time.Sleep(ack.ProofEvery)
	if r := reading("GET", "k"); x.takes(t, r) {
		t.Error("the proof was not made anew, and a read was taken")
	}
}

func TestAnExpressShowsAnothersWriteOnlyWhenTheReplicasHaveIt(t *testing.T) {
	client, cluster := inSyncWith(t)
	master := cluster.Node(client.Master())
	x := ride(t, client)
	for round := range 20 {
		value := "new " + strconv.Itoa(round)
		x.read(t)
		for _, n := range othersThan(cluster, master) {
			n.Signal(syscall.SIGSTOP)
		}
		if answer := master.Do("SET", "k", value); answer != "OK" {
			t.Fatal(answer)
		}
		// The read lease is still good for a moment.
		for r := reading("GET", "k"); x.takes(t, r); {
			x.send(t)
			if x.arrive(t, 1<<20) && x.Answer(0, r) && r.Results[0].Reply.Text() == value {
				t.Errorf("round %d: a read showed a value that no replica had", round)
			}
		}
		for _, n := range othersThan(cluster, master) {
			n.Signal(syscall.SIGCONT)
		}
		redistest.Eventually(t, 5*time.Second, "the value is seen", func() bool { return x.read(t) == value })
	}
}

// As TestAReplacedMasterAnswersNoReadsWithoutConfirmation: the master does not
// notice that it was replaced but by who left it.
func TestAReplacedMasterAnswersNoExpress(t *testing.T) {
	client, cluster := inSyncWith(t)
	master := cluster.Node(client.Master())
	x := ride(t, client)
	time.Sleep(1200 * time.Millisecond)
	x.read(t)
	replace(t, othersThan(cluster, master))
	for r := reading("GET", "k"); x.takes(t, r); {
		x.send(t)
		if x.arrive(t, 1<<20) && x.Answer(0, r) && r.Results[0].Reply.Text() != "new" {
			t.Fatalf("a read showed %q after a write on the new master and its replica", r.Results[0].Reply.Text())
		}
	}
}

// A master that stalls may be replaced meanwhile, and answer before it learns.
func TestAnAnswerThatComesLateDoesNotCount(t *testing.T) {
	client, cluster := inSyncWith(t)
	master := cluster.Node(client.Master())
	x := ride(t, client)
	x.read(t)
	r := reading("GET", "k")
	redistest.Eventually(t, 10*time.Second, "a read lease that is young enough", func() bool {
		reads(t, client, 5*time.Millisecond)
		l := client.writer.Lease()
		return l != nil && time.Since(l.Proven) < ack.ProofAge-ack.MaxResponseGap-50*time.Millisecond && x.takes(t, r)
	})
	l := client.writer.Lease()
	time.Sleep(ack.MaxResponseGap * 2 / 3)
	master.Signal(syscall.SIGSTOP)
	x.send(t)
	time.Sleep(ack.MaxResponseGap / 2)
	master.Signal(syscall.SIGCONT)
	if x.arrive(t, 1<<20) {
		t.Errorf("an answer counted %v after the proof, and the master had not been heard of for more than %v", time.Since(l.Proven), ack.MaxResponseGap)
	}
}

func TestAnExpressEndsWithItsSession(t *testing.T) {
	client, cluster := inSyncWith(t)
	x := ride(t, client)
	if x.Over() {
		t.Error("it is over as it begins")
	}
	cluster.Node(client.Master()).Kill()
	redistest.Eventually(t, 5*time.Second, "it is over", x.Over)
	if r := reading("GET", "k"); x.takes(t, r) {
		t.Error("a read was taken")
	}
	if _, _, err := client.Express(t.Context()); err == nil {
		t.Error("there is another one without a master")
	}
}

// An address may lead elsewhere than it did when the session began.
func TestAnExpressGoesToTheProcessThatIsWrittenTo(t *testing.T) {
	one, two := redistest.Start(t, 0, 0).Nodes[0], redistest.Start(t, 0, 0).Nodes[0]
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var target atomic.Pointer[string]
	target.Store(&one.Addr)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", *target.Load())
			if err != nil {
				_ = conn.Close()
				continue
			}
			go func() { _, _ = io.Copy(to, conn); _ = to.Close() }()
			go func() { _, _ = io.Copy(conn, to); _ = conn.Close() }()
		}
	}()
	client := open(t, &redistest.Cluster{Nodes: []*redistest.Server{{Addr: ln.Addr().String()}}}, func(cfg *Config) { cfg.MinAcks = 0 })
	x := ride(t, client)
	if !x.takes(t, reading("GET", "k")) {
		t.Error("a read of the same process was not taken")
	}
	target.Store(&two.Addr)
	if _, _, err := client.Express(t.Context()); err == nil || !strings.Contains(err.Error(), "process") {
		t.Errorf("a connection to another process: %v", err)
	}
}

// A single Redis with a replica bears no read lease out: everything would be asked
// twice.
func TestASingleRedisWithAReplicaGivesNoReadLease(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, func(cfg *Config) { cfg.MinAcks = 0 })
	redistest.Eventually(t, 10*time.Second, "it knows of the replica", func() bool {
		reads(t, client, time.Millisecond)
		return client.Status().Replicas == 1
	})
	reads(t, client, 10*time.Millisecond)
	if l := client.writer.Lease(); l != nil && !l.Revoked.Load() {
		t.Errorf("there is a read lease: %+v", l)
	}
}
