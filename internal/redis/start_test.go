package redis

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/redis/resp"
)

// started is Start as a call that waits, for a test.
func started(c *Client, r *Request) error {
	done := make(chan error, 2)
	c.Start(r, func(err error) { done <- err })
	return <-done
}

func TestWhatIsStartedIsAnsweredAsWhatIsDone(t *testing.T) {
	cluster := redistest.Start(t, 1, 1)
	c := open(t, cluster, nil)
	for _, test := range []Request{
		{Commands: commands("SET k v")},
		{Commands: commands("GET k"), WantToken: true},
		{Commands: commands("GET k", "INCR n", "HSET k f v", "GET none")},
		{Commands: commands("SET a 1", "INCR a"), Atomic: true},
		{Commands: commands("INCR once"), IdempotencyKey: "one"},
		{Commands: commands("SET a 2", "INCR a"), Atomic: true, IdempotencyKey: "two"},
		{Commands: commands("GET k"), Read: ReadCached},
		{Commands: commands("GET k"), Read: ReadCached},
		{Commands: commands("GET k"), Read: ReadReplica, MaxLag: time.Minute},
		{Commands: commands("NOSUCH k")},
		{Commands: commands("SUBSCRIBE k")},
		{Commands: []Command{{}}},
		{Commands: []Command{{"GET", command.ReservedPrefix}}},
		{},
	} {
		one, other := test, test
		errOne, errOther := c.Do(t.Context(), &one), started(c, &other)
		if KindOf(errOne) != KindOf(errOther) || errOne != nil && errOne.Error() != errOther.Error() {
			t.Errorf("%v: done: %v, started: %v", test.Commands, errOne, errOther)
		}
		if len(one.Results) != len(other.Results) || one.From != other.From && test.Read == ReadCached || (one.Token == "") != (other.Token == "") {
			t.Errorf("%v: done: %+v, started: %+v", test.Commands, one, other)
			continue
		}
		for i := range one.Results {
			a, b := one.Results[i], other.Results[i]
			if Words(a.Err) != Words(b.Err) || a.Reply.Type() != b.Reply.Type() || a.Reply.Type() == resp.Text && a.Reply.Text() != b.Reply.Text() {
				t.Errorf("%v: result %d: done: %v %v, started: %v %v", test.Commands, i, word(&a.Reply), a.Err, word(&b.Reply), b.Err)
			}
		}
	}
	var again Request
	again.Commands, again.IdempotencyKey = commands("INCR once"), "one"
	if err := started(c, &again); err != nil || again.Results[0].Reply.Int() != 1 {
		t.Errorf("a repetition answered %v, %v; want the first one's answer", again.Results, err)
	}
}

func TestWhatIsStartedIsGivenUpInTime(t *testing.T) {
	const hold = 300 * time.Millisecond
	cluster := redistest.Start(t, 0, 0)
	c := open(t, cluster, func(cfg *Config) { cfg.Hold, cfg.MinAcks = hold, 0 })
	read, write := Request{Commands: commands("GET k")}, Request{Commands: commands("SET k v")}
	if err := started(c, &write); err != nil {
		t.Fatal(err)
	}
	cluster.Nodes[0].Signal(syscall.SIGSTOP)
	t.Cleanup(func() { cluster.Nodes[0].Signal(syscall.SIGCONT) })
	began := time.Now()
	var all sync.WaitGroup
	var unknown, notExecuted, others atomic.Int64
	for i := range 40 {
		all.Add(1)
		r := &Request{Commands: commands("SET k " + strconv.Itoa(i))}
		if i%2 == 0 {
			r = &Request{Commands: commands("GET k")}
		}
		c.Start(r, func(err error) {
			switch KindOf(err) {
			case Unknown:
				unknown.Add(1)
			case NotExecuted:
				notExecuted.Add(1)
			default:
				others.Add(1)
			}
			all.Done()
		})
	}
	all.Wait()
	if took := time.Since(began); took < hold || took > hold+20*time.Second {
		t.Errorf("given up after %v, want about %v", took, hold)
	}
	if others.Load() > 0 || notExecuted.Load() < 20 {
		t.Errorf("%d unknown, %d not executed, %d others; want the 20 reads not executed, and no others", unknown.Load(), notExecuted.Load(), others.Load())
	}
	cluster.Nodes[0].Signal(syscall.SIGCONT)
	redistest.Eventually(t, 10*time.Second, "requests are carried out again", func() bool { return started(c, &read) == nil })
	if n := c.Status().Held; n != 0 {
		t.Errorf("%d are held, and nobody waits", n)
	}
}

// ending is a client of a single Redis that runs until cancel is called, and then
// closes ended.
func ending(t *testing.T) (c *Client, node *redistest.Server, cancel context.CancelFunc, ended chan struct{}) {
	t.Helper()
	node = redistest.Start(t, 0, 0).Nodes[0]
	c, err := New(Config{Address: node.Addr, Username: redistest.Username, Password: redistest.Password})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan struct{})
	go func() { defer close(ended); c.Run(ctx) }()
	return c, node, cancel, ended
}

func TestWhatWaitsWhenTheClientEndsIsAnswered(t *testing.T) {
	c, _, cancel, ended := ending(t)
	redistest.Eventually(t, 5*time.Second, "the client works", func() bool {
		return started(c, &Request{Commands: commands("SET k v")}) == nil
	})
	var all sync.WaitGroup
	for range 100 {
		all.Add(1)
		c.Start(&Request{Commands: commands("SET k v")}, func(error) { all.Done() })
	}
	cancel()
	all.Wait()
	<-ended
	if err := started(c, &Request{Commands: commands("SET k v")}); KindOf(err) != NotExecuted {
		t.Errorf("after the end: %v", err)
	}
}

func TestTheClientEndsAfterEverythingItWasAskedToStart(t *testing.T) {
	t.Parallel()
	c, node, cancel, ended := ending(t)
	redistest.Eventually(t, 5*time.Second, "the cache works", func() bool {
		r := Request{Commands: commands("GET k"), Read: ReadCached}
		return started(c, &r) == nil && r.From == ReadCached
	})
	node.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { node.Signal(syscall.SIGCONT) })
	var told atomic.Int64
	for i := range 50 {
		c.Start(&Request{Commands: commands("GET miss" + strconv.Itoa(i)), Read: ReadCached}, func(error) {
			time.Sleep(10 * time.Millisecond)
			told.Add(1)
		})
	}
	cancel()
	<-ended
	if n := told.Load(); n != 50 {
		t.Errorf("%d of 50 had heard of their outcome when the client ended", n)
	}
	if err := started(c, &Request{Commands: commands("GET miss"), Read: ReadCached}); KindOf(err) != NotExecuted {
		t.Errorf("after the end: %v", err)
	}
}
