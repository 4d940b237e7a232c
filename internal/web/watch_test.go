package web

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/keyspace"
)

// listened is a Store whose changes come from the test.
type listened struct {
	Store
	mu        sync.Mutex
	hear      func(redis.Change)
	listeners int // that run now
	started   int // so far
	err       error
}

func (l *listened) Changes(ctx context.Context, hear func(redis.Change)) error {
	l.mu.Lock()
	l.listeners, l.hear = l.listeners+1, hear
	l.started++
	err := l.err
	l.mu.Unlock()
	defer func() { l.mu.Lock(); l.listeners--; l.mu.Unlock() }()
	if err != nil {
		return err
	}
	hear(redis.Change{Missed: true})
	<-ctx.Done()
	return ctx.Err()
}

func (l *listened) tell(c redis.Change) {
	l.mu.Lock()
	hear := l.hear
	l.mu.Unlock()
	hear(c)
}

func (l *listened) running() int { l.mu.Lock(); defer l.mu.Unlock(); return l.listeners }

// stream reads a stream of events.
type stream struct {
	t      testing.TB
	events chan [2]string // name and data
	close  func()
}

func openStream(t testing.TB, addr, path string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %v", path, resp)
	}
	s := &stream{t: t, events: make(chan [2]string, 1000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(s.events)
		defer resp.Body.Close()
		var name string
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = rest
			}
			if rest, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				s.events <- [2]string{name, rest}
			}
		}
	}()
	s.close = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(s.close)
	return s
}

// next waits for the next event.
func (s *stream) next(name string) keyspace.ChangeEvent {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		var c keyspace.ChangeEvent
		if !ok || e[0] != name || json.Unmarshal([]byte(e[1]), &c) != nil {
			s.t.Fatalf("the event %q %s (open: %v), want %s", e[0], e[1], ok, name)
		}
		return c
	case <-time.After(10 * time.Second):
		s.t.Fatalf("no event; want %s", name)
	}
	return keyspace.ChangeEvent{}
}

func watchedNode(t *testing.T) (keysClient, *listened, *redistest.Server) {
	client, master := single(t)
	store := &listened{Store: client}
	addr, _, _ := serve(t, store)
	return keysClient{t, addr}, store, master
}

func TestAWatcherOfAKeySeesItsPresentStateAndEachChange(t *testing.T) {
	c, store, master := watchedNode(t)
	s := openStream(t, c.addr, "/v1/keys/a/b?watch")
	if e := s.next("delete"); e.Key != "a/b" {
		t.Errorf("the present state: %+v", e)
	}
	tag := c.must(201, "PUT", "/v1/keys/a/b", "one", "Content-Type", "text/plain", keyspace.TTLHeader, "100").header.Get("ETag")
	store.tell(redis.Change{Key: "a/b"})
	if e := s.next("put"); e.ETag != tag || e.Type != "text/plain" || e.Size == nil || *e.Size != 3 || e.TTL > 100 || e.TTL < 99 {
		t.Errorf("a change: %+v, ETag %s", e, tag)
	}
	// Neither another key nor the same value is a change.
	store.tell(redis.Change{Key: "a"})
	store.tell(redis.Change{Key: "a/b"})
	master.Do("RPUSH", "other", "x")
	master.Do("RENAME", "other", "a/b")
	store.tell(redis.Change{Missed: true})
	if e := s.next("delete"); e.Holds != "list" {
		t.Errorf("a list now: %+v", e)
	}
	master.Do("DEL", "a/b")
	store.tell(redis.Change{Key: "a/b"})
	if e := s.next("delete"); e.Holds != "" {
		t.Errorf("nothing now: %+v", e)
	}
}

func TestAllWatchersShareOneListener(t *testing.T) {
	c, store, _ := watchedNode(t)
	one, two, three := openStream(t, c.addr, "/v1/keys/a?watch"), openStream(t, c.addr, "/v1/keys/a?watch"), openStream(t, c.addr, "/v1/keys?prefix=a&watch")
	one.next("delete")
	two.next("delete")
	three.next("reset")
	if n := store.running(); n != 1 {
		t.Errorf("%d listeners", n)
	}
	c.must(201, "PUT", "/v1/keys/a", "1")
	store.tell(redis.Change{Key: "a"})
	one.next("put")
	two.next("put")
	three.next("put")
	one.close()
	// The node notices that a client has gone when it sends something.
	for i, s := range []*stream{two, three} {
		c.must(204, "PUT", "/v1/keys/a", strings.Repeat("x", i))
		store.tell(redis.Change{Key: "a"})
		s.close()
	}
	redistest.Eventually(t, 10*time.Second, "nobody listens any more", func() bool {
		c.do("PUT", "/v1/keys/a", time.Now().String())
		store.tell(redis.Change{Key: "a"})
		return store.running() == 0
	})
	openStream(t, c.addr, "/v1/keys?prefix=a&watch").next("reset")
	if store.running() != 1 {
		t.Error("nobody listens again")
	}
}

func TestAWatcherOfAPrefixSeesItsKeysAlone(t *testing.T) {
	c, store, _ := watchedNode(t)
	s := openStream(t, c.addr, "/v1/keys?prefix=a:&watch")
	s.next("reset")
	c.must(201, "PUT", "/v1/keys/a:1", "x")
	for _, key := range []string{"b:1", "a", keyspace.TypeKey("a:1"), "a:\xff", "a:1", "a:none"} {
		store.tell(redis.Change{Key: key})
	}
	if e := s.next("put"); e.Key != "a:1" || e.ETag == "" {
		t.Errorf("the first: %+v", e)
	}
	if e := s.next("delete"); e.Key != "a:none" {
		t.Errorf("the second: %+v", e)
	}
	store.tell(redis.Change{Missed: true})
	s.next("reset")
	all := openStream(t, c.addr, "/v1/keys?watch&encoding=base64")
	all.next("reset")
	store.tell(redis.Change{Key: "\xff"})
	if e := all.next("delete"); e.Key != "/w==" {
		t.Errorf("in base64: %+v", e)
	}
}

func TestWhatIsReadBeforeAnybodyListensIsReadAgain(t *testing.T) {
	client, _ := single(t)
	store := &listened{Store: client, err: context.DeadlineExceeded} // nothing is heard at first
	addr, _, _ := serve(t, store)
	c := keysClient{t, addr}
	s := openStream(t, addr, "/v1/keys/a?watch")
	s.next("delete")
	c.must(201, "PUT", "/v1/keys/a", "unheard")
	store.mu.Lock()
	store.err = nil
	store.mu.Unlock()
	s.next("put")
}

func TestALongPollIsNotAnsweredWithWhatOthersReadBefore(t *testing.T) {
	c, _, _ := watchedNode(t)
	s := openStream(t, c.addr, "/v1/keys/a?watch")
	s.next("delete")
	// The listener has not heard of this change yet, but the writer knows of it.
	tag := c.must(201, "PUT", "/v1/keys/a", "one").header.Get("ETag")
	c.must(304, "GET", "/v1/keys/a?wait=50ms", "", "If-None-Match", tag)
}

func TestALongPollWaitsForAnotherETag(t *testing.T) {
	c, store, master := watchedNode(t)
	tag := c.must(201, "PUT", "/v1/keys/a", "one").header.Get("ETag")
	if a := c.must(200, "GET", "/v1/keys/a?wait=30s", "", "If-None-Match", `"old"`); a.body != "one" {
		t.Errorf("what differs at once: %v", a)
	}
	if a := c.must(200, "GET", "/v1/keys/a?wait=30s", ""); a.body != "one" {
		t.Errorf("what is there: %v", a)
	}
	c.must(404, "GET", "/v1/keys/b?wait=30s", "", "If-None-Match", tag)
	began := time.Now()
	c.must(304, "GET", "/v1/keys/a?wait=200ms", "", "If-None-Match", tag)
	c.must(404, "GET", "/v1/keys/b?wait=0.2", "")
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("two of 200 ms took %v", took)
	}
	for _, test := range []struct {
		path, tag string
		change    func()
		key       string
		status    int
	}{
		{"/v1/keys/a", tag, func() { master.Do("SET", "a", "two") }, "a", 200},
		{"/v1/keys/b", "", func() { master.Do("SET", "b", "new") }, "b", 200},
		{"/v1/keys/a", "*", func() { master.Do("DEL", "a") }, "a", 404},
	} {
		answered := make(chan keysAnswer, 1)
		go func() {
			header := []string{"If-None-Match", test.tag}
			if test.tag == "" {
				header = nil
			}
			answered <- c.do("GET", test.path+"?wait=30s", "", header...)
		}()
		redistest.Eventually(t, 5*time.Second, "it listens", func() bool { return store.running() == 1 })
		test.change()
		store.tell(redis.Change{Key: test.key})
		select {
		case a := <-answered:
			if a.status != test.status {
				t.Errorf("%s: %v", test.path, a)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no answer", test.path)
		}
		redistest.Eventually(t, 5*time.Second, "nobody listens", func() bool { return store.running() == 0 })
	}
}

func TestWatchersAreNoReasonToStay(t *testing.T) {
	client, _ := single(t)
	store := &listened{Store: client}
	addr, server, stop := serve(t, store)
	c := keysClient{t, addr}
	tag := c.must(201, "PUT", "/v1/keys/a", "one").header.Get("ETag")
	key, prefix := openStream(t, addr, "/v1/keys/a?watch"), openStream(t, addr, "/v1/keys?watch")
	key.next("put")
	prefix.next("reset")
	answered := make(chan keysAnswer, 1)
	go func() { answered <- c.do("GET", "/v1/keys/a?wait=30s", "", "If-None-Match", tag) }()
	redistest.Eventually(t, 5*time.Second, "the long poll waits", func() bool {
		return server.keys.Watchers("a") == 2
	})
	began := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the end took %v", took)
	}
	if n := store.running(); n != 0 {
		t.Errorf("%d listeners are left", n)
	}
	if a := <-answered; a.status != 304 {
		t.Errorf("the long poll was answered %v", a)
	}
	for _, s := range []*stream{key, prefix} {
		if e, open := <-s.events; open {
			t.Errorf("an event at the end: %v", e)
		}
	}
}
