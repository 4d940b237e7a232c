//go:build linux && (amd64 || arm64)

package eventloop

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/httpfast"
)

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
				if err != nil || !strings.HasPrefix(got, goodAnswer) || !strings.HasSuffix(got, "\r\n\r\n"+values[key]) {
					t.Errorf("%.30s: %.300q, %v", key, got, err)
					return
				}
				all.Add(1)
			}
		})
	}
	return all.Load, func() { close(stop); work.Wait() }
}

// awaitReadConns waits until most of the new responses come by read connections.
func (h *getter) awaitReadConns(t *testing.T, answers func() int64) {
	t.Helper()
	const enough = 20
	redistest.Eventually(t, 20*time.Second, "most reads go by read connections", func() bool {
		before, began := h.usual.Load(), answers()
		for end := time.Now().Add(3 * time.Second); answers() < began+enough && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		return answers() >= began+enough && h.usual.Load()-before < (answers()-began)/2
	})
}

// narrow gives the read connections a small send buffer, so that the kernel takes little at a time.
func narrow(t *testing.T, e *Manager) {
	t.Helper()
	for _, l := range e.running() {
		l.mu.Lock()
		if l.reads.fd >= 0 {
			if err := unix.SetsockoptInt(l.reads.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
				t.Error(err)
			}
		}
		l.mu.Unlock()
	}
}

// The keys are so long that the kernel takes a batch in pieces.
func TestAReadConnSendsWhatTheKernelTakes(t *testing.T) {
	values := map[string]string{}
	for i := range 8 {
		values[strings.Repeat(strconv.Itoa(i), 16<<10)] = "v" + strconv.Itoa(i)
	}
	h, _ := fromRedis(t, values)
	e := manage(h, 100)
	addr, _ := listen(t, e)
	answers, enough := getting(t, addr, 16, values)
	h.awaitReadConns(t, answers)
	narrow(t, e)
	h.awaitReadConns(t, answers)
	enough()
}

func TestALoopThatEndsClosesItsReadConn(t *testing.T) {
	values := map[string]string{"a": "1", "b": "22", "c": strings.Repeat("3", 1000)}
	h, master := fromRedis(t, values)
	e := manage(h, 100)
	addr, end := listen(t, e)
	answers, enough := getting(t, addr, 8, values)
	h.awaitReadConns(t, answers)
	enough()
	clients := func() int { return strings.Count(master.Do("CLIENT", "LIST"), "addr=") }
	before := clients()
	if err := end(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 5*time.Second, fmt.Sprintf("fewer connections than %d", before), func() bool { return clients() < before })
	for _, l := range e.running() {
		if l.reads.express != nil {
			t.Error("a read connection is there without its loop")
		}
	}
}

// clocked compares the loop's clock with the time at which a request was sent, which is the
// request's key. It is slow, so that more requests come meanwhile.
type clocked struct {
	getter
	early atomic.Int64
}

func (c *clocked) Respond(f *Pending, q *httpfast.Request, out []byte) ([]byte, Progress) {
	sent, err := strconv.ParseInt(strings.TrimPrefix(string(q.Query), "key="), 10, 64)
	if err == nil && f.Memory.Now.UnixNano() < sent {
		c.early.Add(1)
	}
	time.Sleep(200 * time.Microsecond)
	return c.getter.Respond(f, q, out)
}

// A cached value has to be good when it is asked for: a process that was stopped must not judge by
// a time before that.
func TestNobodyIsServedByAClockThatStoodBeforeTheyAsked(t *testing.T) {
	c := &clocked{}
	addr, _ := listen(t, manage(c, 100))
	var clients sync.WaitGroup
	for range 8 {
		caller := dial(t, addr)
		clients.Go(func() {
			for range 300 {
				fmt.Fprintf(caller, "GET /get?key=%d HTTP/1.1\r\n%s\r\n", time.Now().UnixNano(), plainHead)
				if _, err := caller.answer(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	if n := c.early.Load(); n > 0 {
		t.Errorf("%d requests of 2400 were served by a clock that was last looked at before they were sent", n)
	}
}
