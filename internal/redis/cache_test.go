package redis

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/redistest"
)

// message is a string as it comes from Redis, for a key that lives so long
// there; 0: for ever.
func message(t testing.TB, text string, ttl time.Duration) (m rueidis.RedisMessage) {
	t.Helper()
	var until, length [8]byte
	if ttl > 0 {
		binary.LittleEndian.PutUint64(until[:], uint64(time.Now().Add(ttl).UnixMilli()))
	}
	binary.BigEndian.PutUint64(length[:], uint64(len(text)))
	if err := m.CacheUnmarshalView([]byte(string(until[:7]) + "$" + string(length[:]) + text)); err != nil {
		t.Fatal(err)
	}
	return m
}

// shelve has a cache keep a value.
func shelve(t testing.TB, c *cache, key, text string, ttl time.Duration) {
	t.Helper()
	if _, entry := c.Flight(key, "GET", time.Minute, time.Now()); entry != nil {
		t.Fatalf("%s is under way", key)
	}
	c.Update(key, "GET", message(t, text, ttl))
}

// kept is what a cache has for a key after so long; "-": nothing.
func kept(c *cache, key string, after time.Duration) string {
	v := c.look(key, time.Now().Add(after))
	if v == nil {
		return "-"
	}
	text, _ := v.value.ToString()
	return text
}

func TestOneAsksForAValueAndTheOthersWait(t *testing.T) {
	c := newCache(1 << 20)
	_, first := c.Flight("k", "GET", time.Minute, time.Now())
	_, second := c.Flight("k", "GET", time.Minute, time.Now())
	if first != nil || second == nil {
		t.Fatalf("the first waits for %v, the second for %v", first, second)
	}
	if got := kept(c, "k", 0); got != "-" {
		t.Errorf("before it has come: %s", got)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := second.Wait(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("who is gone waits: %v", err)
	}
	c.Delete([]rueidis.RedisMessage{message(t, "k", 0)}) // of what was read before
	c.Delete(nil)
	until := c.Update("k", "GET", message(t, "v", 0))
	if left := time.Until(time.UnixMilli(until)); left <= 0 || left > time.Minute {
		t.Errorf("it is kept for %v", left)
	}
	m, err := second.Wait(t.Context())
	if text, _ := m.ToString(); err != nil || text != "v" {
		t.Errorf("who waited has %q, %v", text, err)
	}
	if m, entry := c.Flight("k", "GET", time.Minute, time.Now()); entry != nil || kept(c, "k", 0) != "v" || m.IsNil() {
		t.Errorf("it is not kept: %v, %v", m, entry)
	}
	if until := c.Update("k", "GET", message(t, "w", 0)); until != 0 || kept(c, "k", 0) != "v" {
		t.Error("what nobody asked for is kept")
	}
}

func TestAValueIsKeptAsLongAsItMayBe(t *testing.T) {
	c := newCache(1 << 20)
	shelve(t, c, "forever", "v", 0)
	shelve(t, c, "short", "v", 10*time.Second)
	shelve(t, c, "long", "v", time.Hour)
	for _, test := range []struct {
		key   string
		after time.Duration
		want  string
	}{
		{"forever", 59 * time.Second, "v"}, {"forever", 61 * time.Second, "-"},
		{"short", 9 * time.Second, "v"}, {"short", 11 * time.Second, "-"},
		{"long", 59 * time.Second, "v"}, {"long", 61 * time.Second, "-"},
	} {
		if got := kept(c, test.key, test.after); got != test.want {
			t.Errorf("%s after %v: %s, want %s", test.key, test.after, got, test.want)
		}
	}
	if m, entry := c.Flight("short", "GET", time.Minute, time.Now().Add(time.Minute)); entry != nil || m.IsString() {
		t.Error("what is too old is answered")
	}
	if c.Update("short", "GET", message(t, "new", 0)); kept(c, "short", 0) != "new" || c.order.Len() != 3 {
		t.Errorf("in its place is %s, of %d", kept(c, "short", 0), c.order.Len())
	}
}

func TestWhatHasChangedIsKeptNoLonger(t *testing.T) {
	c := newCache(1 << 20)
	all := func() string { return kept(c, "a", 0) + kept(c, "b", 0) + kept(c, "c", 0) }
	for _, key := range []string{"a", "b", "c"} {
		shelve(t, c, key, key, 0)
	}
	c.Delete([]rueidis.RedisMessage{message(t, "a", 0), message(t, "none", 0), message(t, "c", 0)})
	if all() != "-b-" {
		t.Errorf("left is %s", all())
	}
	shelve(t, c, "a", "A", 0)
	if all() != "Ab-" {
		t.Errorf("then %s", all())
	}
	if c.Delete(nil); all() != "---" || c.size != 0 || c.order.Len() != 0 {
		t.Errorf("without any: %s, %d bytes, %d in order", all(), c.size, c.order.Len())
	}
	shelve(t, c, "a", "a", 0)
	if c.Close(outcome.ErrLost); all() != "---" { // nobody tells of changes any more
		t.Errorf("after the connection's end: %s", all())
	}
}

func TestWhatFailsIsToldToThoseWhoWait(t *testing.T) {
	c := newCache(1 << 20)
	failure := errors.New("it failed")
	for _, fail := range []func(){
		func() { c.Cancel("k", "GET", failure) },
		func() { c.Close(failure) },
	} {
		c.Flight("k", "GET", time.Minute, time.Now())
		_, entry := c.Flight("k", "GET", time.Minute, time.Now())
		if entry == nil {
			t.Fatal("nobody waits")
		}
		fail()
		if _, err := entry.Wait(t.Context()); !errors.Is(err, failure) {
			t.Errorf("who waits has %v", err)
		}
	}
	// The connection has ended.
	m, entry := c.Flight("k", "GET", time.Minute, time.Now())
	if until := c.Update("k", "GET", message(t, "v", 0)); m.IsString() || entry != nil || until != 0 || kept(c, "k", 0) != "-" {
		t.Error("after the end it keeps something")
	}
	c.Cancel("k", "GET", failure)
	c.Delete(nil)
	c.Close(failure)
}

func TestTheCacheMakesRoomAtTheCostOfWhatIsNotUsed(t *testing.T) {
	const values = 100
	name := func(i int) string { return fmt.Sprintf("k%05d", i) }
	c := newCache(values * (cachedSize + len(name(0)) + len("v")))
	for i := range values {
		shelve(t, c, name(i), "v", 0)
	}
	if c.order.Len() != values {
		t.Fatalf("%d of %d have room", c.order.Len(), values)
	}
	for i := range 10 * values {
		if got := kept(c, name(0), 0); got != "v" {
			t.Fatalf("what is used all the time is gone after %d others", i)
		}
		shelve(t, c, name(values+i), "v", 0)
		if c.order.Len() != values || c.size > c.limit || len(c.values) != values || len(c.flights) != 0 {
			t.Fatalf("%d values of %d bytes, %d by name; there may be %d of %d", c.order.Len(), c.size, len(c.values), values, c.limit)
		}
	}
	if kept(c, name(1), 0) != "-" || kept(c, name(11*values-1), 0) != "v" {
		t.Error("the old ones were kept and not the new ones")
	}
	// Where all are used, one that is new takes a place all the same.
	for key := range c.values {
		kept(c, key, 0)
	}
	if shelve(t, c, "new", "v", 0); kept(c, "new", 0) != "v" || c.size > c.limit {
		t.Errorf("it has %d bytes and may have %d", c.size, c.limit)
	}
	// A large one does not take the place of all others.
	if shelve(t, c, "large", strings.Repeat("v", c.limit/largePart), 0); kept(c, "large", 0) != "-" || kept(c, "new", 0) != "v" || c.order.Len() != values {
		t.Errorf("%d of %d are left", c.order.Len(), values)
	}
}

func TestTheCacheTakesAboutTheMemoryThatItMay(t *testing.T) {
	for _, size := range []int{1, 100, 5000} {
		const limit = 4 << 20
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := newCache(limit)
		for i := range 2 * limit / (size + 100) {
			shelve(t, c, "some key "+strconv.Itoa(i), strings.Repeat("v", size), 0)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		took := int(after.HeapAlloc) - int(before.HeapAlloc)
		t.Logf("%d values of %d bytes: %d bytes, said to be %d", c.order.Len(), size, took, c.size)
		if c.size > limit || c.size < limit*9/10 || took > limit*5/4 {
			t.Errorf("values of %d bytes take %d, said to be %d, and may take %d", size, took, c.size, limit)
		}
		runtime.KeepAlive(c)
	}
}

// Whoever looks at a value that others change sees it change forwards only, and
// the last one in the end.
func TestWhoLooksIntoTheCacheSeesNothingOlderThanBefore(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	master := cluster.Nodes[0]
	master.Do("SET", "k", "0")
	const changes = 4000
	changed := make(chan struct{})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			last, hits := 0, 0
			for last < changes {
				text, _, ok := client.Cached([]byte("k"), time.Now())
				if ok {
					hits++
				} else {
					r := &Request{Commands: commands("GET k"), Read: ReadCached}
					if err := client.Do(t.Context(), r); err != nil {
						t.Error(err)
						return
					}
					text = r.Results[0].Reply.Text()
				}
				n, err := strconv.Atoi(text)
				if err != nil || n < last {
					t.Errorf("after %d: %q", last, text)
					return
				}
				last = n
				time.Sleep(20 * time.Microsecond) // a moment for the one that changes it
			}
			if hits == 0 {
				t.Error("the cache had nothing")
			}
		})
	}
	go func() {
		defer close(changed)
		for i := range changes {
			master.Do("SET", "k", strconv.Itoa(i+1))
		}
	}()
	all.Wait()
	<-changed
}

// deafening is a proxy of a node. Of the connections that asked for invalidations
// nothing passes any more once it hangs; the others go on.
func deafening(t *testing.T, node string) (addr string, hang *atomic.Bool) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	hang = new(atomic.Bool)
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", node)
			if err != nil {
				near.Close()
				continue
			}
			var tracking atomic.Bool
			pass := func(to, from net.Conn) {
				defer to.Close()
				for b := make([]byte, 64<<10); ; {
					n, err := from.Read(b)
					if err != nil {
						return
					}
					if bytes.Contains(b[:n], []byte("TRACKING")) {
						tracking.Store(true)
					}
					if !hang.Load() || !tracking.Load() {
						to.Write(b[:n])
					}
				}
			}
			go pass(far, near)
			go pass(near, far)
		}
	}()
	return ln.Addr().String(), hang
}

func TestAValueIsNotTrustedWhenItsOwnConnectionHangs(t *testing.T) {
	node := redistest.Start(t, 0, 0).Nodes[0]
	addr, hang := deafening(t, node.Addr)
	client := open(t, redistest.Start(t, 0, 0), func(c *Config) { c.Address, c.MinAcks = addr, 0 })
	node.Do("SET", "k", "old")
	read := func(limit time.Duration) *Request {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		r := &Request{Commands: commands("GET k"), Read: ReadCached}
		if client.Do(ctx, r) != nil {
			r.Results = []Result{{}}
		}
		return r
	}
	redistest.Eventually(t, 10*time.Second, "a loop finds it", func() bool {
		read(time.Second)
		_, _, ok := client.Cached([]byte("k"), time.Now())
		return ok
	})
	hang.Store(true)
	time.Sleep(10 * time.Millisecond) // what is under way arrives
	node.Do("SET", "k", "new")
	began, last := time.Now(), time.Duration(0)
	const promised = 1200 * time.Millisecond // docs/guarantees.md
	for time.Since(began) < 2*promised {
		at := time.Since(began)
		text, _, ok := client.Cached([]byte("k"), time.Now())
		if r := read(30 * time.Millisecond); ok && text == "old" || r.Results[0].Reply.Text() == "old" {
			last = at
		}
		time.Sleep(10 * time.Millisecond)
	}
	if last > promised {
		t.Errorf("the old value was answered %v after it was replaced, want %v at most", last, promised)
	}
	hang.Store(false)
	redistest.Eventually(t, 10*time.Second, "it is cached again", func() bool {
		read(time.Second)
		text, _, ok := client.Cached([]byte("k"), time.Now())
		return ok && text == "new"
	})
}

func TestAValueIsTrustedAsLongAsItsMasterIsHeard(t *testing.T) {
	cluster := redistest.Start(t, 0, 0)
	client := open(t, cluster, func(c *Config) { c.MinAcks = 0 })
	cluster.Nodes[0].Do("SET", "k", "v")
	redistest.Eventually(t, 10*time.Second, "a loop finds it", func() bool {
		do(t, client, &Request{Commands: commands("GET k"), Read: ReadCached})
		_, _, ok := client.Cached([]byte("k"), time.Now())
		return ok
	})
	// This process wakes up after so long, and has heard of nothing.
	if _, _, ok := client.Cached([]byte("k"), time.Now().Add(cacheTrust)); ok {
		t.Error("it is trusted for longer")
	}
}
