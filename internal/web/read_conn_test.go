//go:build linux && (amd64 || arm64)

package web

import (
	"context"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
)

// onFoot is a client that counts the requests that do not go by a read connection.
type onFoot struct {
	*redis.Client
	started atomic.Int64
}

func (u *onFoot) Start(r *redis.Request, done func(error)) {
	u.started.Add(1)
	u.Client.Start(r, done)
}

// getting has n clients get the keys of values, and check what they get, until enough is called.
// answers returns how many responses there were so far.
func getting(t *testing.T, addr string, n int, values map[string]string) (answers func() int64, enough func()) {
	t.Helper()
	stop := make(chan struct{})
	var all atomic.Int64
	var work sync.WaitGroup
	var keys []string
	for k := range values {
		keys = append(keys, k)
	}
	for i := range n {
		c := dial(t, addr)
		work.Go(func() {
			for j := i; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				key := keys[j%len(keys)]
				if _, err := io.WriteString(c, "GET /get?key="+key+" HTTP/1.1\r\n"+plainHead+"\r\n"); err != nil {
					t.Error(err)
					return
				}
				got, err := c.answer()
				if err != nil || !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.HasSuffix(got, "\r\n\r\n"+values[key]) {
					t.Errorf("%s: %.300q, %v", key, got, err)
					return
				}
				all.Add(1)
			}
		})
	}
	return all.Load, func() { close(stop); work.Wait() }
}

// rides waits until most of the new responses come by a read connection.
func (u *onFoot) rides(t *testing.T, answers func() int64) {
	t.Helper()
	const enough = 20
	redistest.Eventually(t, 20*time.Second, "most reads go by the lane", func() bool {
		before, began := u.started.Load(), answers()
		for end := time.Now().Add(3 * time.Second); answers() < began+enough && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		return answers() >= began+enough && u.started.Load()-before < (answers()-began)/2
	})
}

var brief = map[string]string{"a": "1", "b": "22", "c": strings.Repeat("3", 1000)}

// laned serves from a Redis without replicas that has these values.
func laned(t *testing.T, values map[string]string) (*onFoot, *redistest.Server, string) {
	t.Helper()
	master := redistest.Start(t, 0, 0).Nodes[0]
	fill(master, values)
	store := &onFoot{Client: connectBy(t, redis.Config{Address: master.Addr})}
	server, _ := counted(t, Config{}, store)
	addr, _ := listen(t, server)
	return store, master, addr
}

func fill(master *redistest.Server, values map[string]string) {
	for k, v := range values {
		master.Do("SET", k, v)
	}
}

func TestReadsGoByTheLaneAndComeBackToIt(t *testing.T) {
	store, master, addr := laned(t, brief)
	answers, enough := getting(t, addr, 8, brief)
	store.rides(t, answers)
	for range 5 { // Redis closes every connection, as it does when it becomes a replica
		master.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		store.rides(t, answers)
	}
	// The master hangs for a moment. What was sent is asked again in the usual way, and waits
	// there.
	master.Signal(syscall.SIGSTOP)
	time.Sleep(300 * time.Millisecond)
	master.Signal(syscall.SIGCONT)
	store.rides(t, answers)
	enough()
}

func TestALaneBringsLongValues(t *testing.T) {
	values := map[string]string{"small": "v", "long": strings.Repeat("long\r\n", 20_000), "huge": strings.Repeat("huge", 1<<17)}
	store, _, addr := laned(t, values)
	answers, enough := getting(t, addr, 4, values)
	store.rides(t, answers)
	enough()
}

// A batch with a value that a read connection cannot bring is asked again as a whole. That does not
// happen again and again, because the length of the value is remembered.
func TestALaneThatIsOfNoUseRests(t *testing.T) {
	values := map[string]string{"small": "v", "huge": strings.Repeat("huge", 1<<19)}
	store, master, addr := laned(t, values)
	connections := func() (n int) {
		for line := range strings.Lines(master.Do("INFO", "stats")) {
			if total, ok := strings.CutPrefix(line, "total_connections_received:"); ok {
				n, _ = strconv.Atoi(strings.TrimSpace(total))
			}
		}
		return n
	}
	answers, enough := getting(t, addr, 4, values)
	redistest.Eventually(t, 20*time.Second, "there are answers", func() bool { return store.started.Load() > 0 && answers() > 100 })
	before, began := connections(), answers()
	time.Sleep(2 * time.Second)
	// If a read connection connected every 200 ms, there would be 10 connections for each loop.
	if n, most := connections()-before, 1+5*runtime.GOMAXPROCS(0); n > most {
		t.Errorf("%d connections, at most %d are due", n, most)
	}
	redistest.Eventually(t, 20*time.Second, "each client got one more answer", func() bool { return answers() >= began+4 })
	enough()
}

// The usual way words what Redis refuses.
func TestALaneLeavesRefusalsToTheUsualWay(t *testing.T) {
	store, master, addr := laned(t, brief)
	master.Do("SADD", "set", "x")
	answers, enough := getting(t, addr, 4, brief)
	store.rides(t, answers)
	c := dial(t, addr)
	for range 20 {
		const words = "WRONGTYPE Operation against a key holding the wrong kind of value"
		if got := c.ask(t, "GET /get/set HTTP/1.1\r\n"+plainHead+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400") || !strings.Contains(got, words) {
			t.Errorf("%q", got)
		}
		if got := c.ask(t, "GET /scard/set HTTP/1.1\r\n"+plainHead+"\r\n"); !strings.HasSuffix(got, `{"result":1}`) || !strings.Contains(got, "Upstash-Sync-Token: ") {
			t.Errorf("%q", got)
		}
	}
	enough()
}

// Clients notice a failover only because they have to wait.
func TestReadsOnALaneOutliveTheirMaster(t *testing.T) {
	for name, end := range map[string]func(*redistest.Server){
		"killed":  func(s *redistest.Server) { s.Kill() },
		"stopped": func(s *redistest.Server) { s.Signal(syscall.SIGSTOP) },
	} {
		t.Run(name, func(t *testing.T) {
			cluster := redistest.Start(t, 2, 3)
			client, err := redis.New(redis.Config{
				Sentinels: cluster.SentinelAddrs(), MasterName: redistest.MasterName,
				Username: redistest.Username, Password: redistest.Password, MinAcks: 1, Hold: 20 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { defer close(ended); client.Run(ctx) }()
			defer func() { cancel(); <-ended }()
			for k, v := range brief {
				redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
					return client.Do(t.Context(), &redis.Request{Commands: []redis.Command{{"SET", k, v}}}) == nil && client.Status().InSync == 2
				})
			}
			store := &onFoot{Client: client}
			server, _ := counted(t, Config{}, store)
			addr, _ := listen(t, server)
			answers, enough := getting(t, addr, 8, brief)
			store.rides(t, answers)
			master := client.Master()
			end(cluster.Node(master))
			redistest.Eventually(t, 15*time.Second, "another one answers", func() bool { return client.Master() != master && client.Master() != "" })
			before := answers()
			redistest.Eventually(t, 15*time.Second, "reads are answered", func() bool { return answers() > before+100 })
			enough()
			cluster.Node(master).Signal(syscall.SIGCONT)
		})
	}
}
