package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/outcome"
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
func shelve(t testing.TB, c *Cache, key, text string, ttl time.Duration) {
	t.Helper()
	if _, entry := c.Flight(key, "GET", time.Minute, time.Now()); entry != nil {
		t.Fatalf("%s is under way", key)
	}
	c.Update(key, "GET", message(t, text, ttl))
}

// kept is what a cache has for a key after so long; "-": nothing.
func kept(c *Cache, key string, after time.Duration) string {
	v := c.Look(key, time.Now().Add(after))
	if v == nil {
		return "-"
	}
	text, _ := v.Reply.ToString()
	return text
}

func TestOneAsksForAValueAndTheOthersWait(t *testing.T) {
	c := New(1 << 20)
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
	c := New(1 << 20)
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
	c := New(1 << 20)
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
	c := New(1 << 20)
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
	c := New(values * (cachedSize + len(name(0)) + len("v")))
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
		c := New(limit)
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
