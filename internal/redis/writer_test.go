package redis

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// The other side of a cut may be promoting the replica that does not answer:
// the one on this side is not enough then.
func TestNoReplicaIsGivenUpWithoutAMajorityOfSentinels(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 2, 3)
	client := open(t, cluster, func(c *Config) { c.Hold = time.Second })
	redistest.Eventually(t, 10*time.Second, "both replicas are in sync", func() bool {
		return client.Set(t.Context(), "before", nil, "") == nil && client.Status().InSync == 2
	})
	cluster.Sentinels[0].Kill()
	cluster.Sentinels[1].Kill()
	if err := client.Set(t.Context(), "all-replicas", nil, ""); err != nil {
		t.Errorf("every replica confirms: %v", err)
	}
	cluster.Nodes[2].Kill()
	if err := client.Set(t.Context(), "one-replica", nil, ""); KindOf(err) != Unknown {
		t.Errorf("one of two replicas confirms, and one Sentinel of three is heard: %v, want unknown", err)
	}
}

// A connection whose packets are dropped stays open for minutes; the monitor's
// own connections work all the while.
func TestAConnectionThatLeadsNowhereIsReplaced(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, 1, 0)
	proxy := newProxy(t, cluster.Nodes[0].Addr)
	client := open(t, cluster, func(c *Config) { c.Address, c.Hold = proxy.addr, 500*time.Millisecond })
	redistest.Eventually(t, 5*time.Second, "a write is acknowledged", func() bool {
		return client.Set(t.Context(), "k", nil, "") == nil
	})
	proxy.swallow()
	redistest.Eventually(t, 5*time.Second, "a write is swallowed", func() bool {
		return KindOf(client.Set(t.Context(), "k", nil, "")) == Unknown
	})
	redistest.Eventually(t, 5*time.Second, "writes go over a new connection", func() bool {
		return client.Set(t.Context(), "k", nil, "") == nil
	})
}

// proxy passes connections on to a server, until it swallows what comes from
// those that have carried a WAIT.
type proxy struct {
	addr  string
	mu    sync.Mutex
	conns []*proxied
}

type proxied struct {
	mu            sync.Mutex
	writer, muted bool
}

func newProxy(t *testing.T, target string) *proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.pass(in, target) })
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return p
}

// pass passes on one connection until the client closes it.
func (p *proxy) pass(in net.Conn, target string) {
	defer in.Close()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	c := &proxied{}
	p.mu.Lock()
	p.conns = append(p.conns, c)
	p.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(in, out) })
	defer back.Wait()
	defer out.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := in.Read(buffer)
		if err != nil {
			return
		}
		c.mu.Lock()
		muted := c.muted
		c.writer = c.writer || bytes.Contains(buffer[:n], []byte("WAIT"))
		c.mu.Unlock()
		if !muted {
			_, _ = out.Write(buffer[:n])
		}
	}
}

func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.mu.Lock()
		c.muted = c.writer
		c.mu.Unlock()
	}
}
