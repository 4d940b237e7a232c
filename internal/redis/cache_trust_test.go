package redis

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

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
	if _, _, ok := client.Cached([]byte("k"), time.Now().Add(1200*time.Millisecond)); ok {
		t.Error("it is trusted for longer")
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
