package web

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/token"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/keyspace"
)

// Watchers on the real Redis see a change whichever client makes it, through whichever node.
func TestChangesOnRedisReachWatchersOfAnyNode(t *testing.T) {
	client, master := single(t)
	one, _, _ := serve(t, client)
	two, _, _ := serve(t, connect(t, master))
	c := keysClient{t, one}
	key, prefix := openStream(t, two, "/v1/keys/a:1?watch"), openStream(t, two, "/v1/keys?prefix=a:&watch")
	key.next("delete")
	prefix.next("reset")

	tag := c.must(201, "PUT", "/v1/keys/a:1", "one", "Content-Type", "text/plain").header.Get("ETag")
	for _, s := range []*stream{key, prefix} {
		if e := s.next("put"); e.Key != "a:1" || e.ETag != tag || e.Type != "text/plain" {
			t.Errorf("by another node: %+v", e)
		}
	}
	master.Do("SET", "a:1", "two")
	for _, s := range []*stream{key, prefix} {
		if e := s.next("put"); e.Type != keyspace.DefaultType || e.ETag == tag {
			t.Errorf("by another client: %+v", e)
		}
	}
	master.Do("PEXPIRE", "a:1", "50")
	key.next("delete")
	redistest.Eventually(t, 5*time.Second, "the prefix sees it go", func() bool { return (<-prefix.events)[0] == "delete" })

	answered := make(chan keysAnswer, 1)
	go func() { answered <- (keysClient{t, two}).do("GET", "/v1/keys/b?wait=30s", "") }()
	master.Do("SET", "b", "at last")
	select {
	case a := <-answered:
		if a.status != 200 || a.body != "at last" {
			t.Errorf("the long poll: %v", a)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the long poll waits on")
	}
	master.Do("FLUSHALL")
	prefix.next("reset")
}

// A long value is the same resource as a short one. No script reads it, because that would keep
// Redis busy for much longer.
func TestALongValueIsReadAsAShortOne(t *testing.T) {
	client, master := single(t)
	addr, _, _ := serve(t, client)
	c := keysClient{t, addr}
	const shortState = 64 << 10 // bytes up to which a script reads a value
	for i, value := range []string{"short", strings.Repeat("l", shortState), strings.Repeat("long", shortState), strings.Repeat("l", shortState+1)} {
		tag := c.must([]int{201, 204, 204, 204}[i], "PUT", "/v1/keys/k", value, "Content-Type", "text/plain").header.Get("ETag")
		got := c.must(200, "GET", "/v1/keys/k", "")
		if got.body != value || got.header.Get("ETag") != tag || got.header.Get("Content-Type") != "text/plain" {
			t.Errorf("of %d bytes %d are read, with %v", len(value), len(got.body), got.header)
		}
		c.must(304, "GET", "/v1/keys/k", "", "If-None-Match", tag)
		c.must(200, "HEAD", "/v1/keys/k", "")
		execs := strings.Contains(master.Do("INFO", "commandstats"), "cmdstat_exec:")
		if long := len(value) > shortState; execs != long {
			t.Errorf("of %d bytes: transactions are %v", len(value), execs)
		}
		master.Do("CONFIG", "RESETSTAT")
	}
	master.Do("SETRANGE", "limit", fmt.Sprint(65<<20), "x")
	c.must(413, "GET", "/v1/keys/limit", "")
}

func TestAWatcherOutlivesAFailover(t *testing.T) {
	cluster := redistest.Start(t, 2, 3)
	client, err := redis.New(redis.Config{Sentinels: cluster.SentinelAddrs(), MasterName: redistest.MasterName, Username: redistest.Username, Password: redistest.Password, MinAcks: 1, Hold: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); client.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	addr, _, _ := serve(t, client)
	c := keysClient{t, addr}
	redistest.Eventually(t, 10*time.Second, "the node is ready", func() bool { return c.do("GET", "/healthz/master", "").status == 200 })

	tag := c.must(201, "PUT", "/v1/keys/a", "before", "Content-Type", "text/plain").header.Get("ETag")
	s := openStream(t, addr, "/v1/keys/a?watch")
	s.next("put")
	cluster.Nodes[0].Kill()
	// With the idempotency key the write may be repeated, should the master have died with it.
	after := c.must(204, "PUT", "/v1/keys/a", "after", "Content-Type", "text/html", "If-Match", tag, consistency.IdempotencyHeader, "once")
	if e := s.next("put"); e.ETag != after.header.Get("ETag") || e.Type != "text/html" {
		t.Errorf("after the failover: %+v", e)
	}
}

func TestAWriteWithAnIdempotencyKeyIsAnsweredTwiceAlike(t *testing.T) {
	c, master := keysNode(t)
	for _, repeated := range []bool{false, true} {
		c.must(201, "PUT", "/v1/keys/a", "one", "If-None-Match", "*", consistency.IdempotencyHeader, "first")
		if repeated && master.Do("GET", "a") != "two" {
			t.Error("the repetition wrote again")
		}
		master.Do("SET", "a", "two")
	}
	c.must(204, "DELETE", "/v1/keys/a", "", consistency.IdempotencyHeader, "second")
	c.must(204, "DELETE", "/v1/keys/a", "", consistency.IdempotencyHeader, "second")
	c.must(404, "DELETE", "/v1/keys/a", "", consistency.IdempotencyHeader, "third")
}

func TestAReplicaAnswersWhoAsksForIt(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	addr, _, _ := serve(t, connect(t, cluster.Nodes[0]))
	c := keysClient{t, addr}
	made := c.must(201, "PUT", "/v1/keys/a", "one", "Content-Type", "text/plain", consistency.TokenHeader, "")
	redistest.Eventually(t, 10*time.Second, "a replica answers", func() bool {
		a := c.must(200, "GET", "/v1/keys/a", "", consistency.ReadHeader, "replica", consistency.MaxLagHeader, "10s", consistency.TokenHeader, made.header.Get(consistency.TokenHeader))
		if a.body != "one" || a.header.Get("Content-Type") != "text/plain" || a.header.Get("ETag") != made.header.Get("ETag") {
			t.Fatalf("it reads %v", a)
		}
		return strings.HasPrefix(a.header.Get(consistency.ReadHeader), "replica; node="+cluster.Nodes[1].Addr)
	})
}

func TestATokenSeesItsKeysAlone(t *testing.T) {
	client, master := single(t)
	const shop, reader = "token of the shop", "token of the reader"
	tokens, err := token.Parse("tokens.yaml", fmt.Appendf(nil, "tokens:\n  - {name: shop, hash: %s, mode: read-write, prefixes: ['shop:']}\n  - {name: reader, hash: %s, mode: read-only}\n", token.Hash(shop), token.Hash(reader)))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- New(Config{Tokens: tokens}, client).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c := keysClient{t, ln.Addr().String()}
	master.Do("SET", "bank:1", "x")
	for _, test := range []struct {
		token        string
		status       int
		method, path string
	}{
		{"", 401, "GET", "/v1/keys/shop:1"},
		{"", 401, "GET", "/v1/keys"},
		{"", 401, "GET", "/v1/keys/shop:1?watch"},
		{shop, 201, "PUT", "/v1/keys/shop:1"},
		{shop, 200, "GET", "/v1/keys/shop:1"},
		{shop, 403, "GET", "/v1/keys/bank:1"},
		{shop, 403, "GET", "/v1/keys/bank:1?watch"},
		{shop, 403, "GET", "/v1/keys/bank:1?wait=1"},
		{shop, 403, "PUT", "/v1/keys/bank:1"},
		{shop, 403, "DELETE", "/v1/keys/bank:1"},
		{shop, 200, "GET", "/v1/keys?prefix=shop:"},
		{shop, 403, "GET", "/v1/keys?prefix=bank:"},
		{shop, 403, "GET", "/v1/keys"},
		{shop, 403, "GET", "/v1/keys?watch"},
		{reader, 200, "GET", "/v1/keys/bank:1"},
		{reader, 403, "GET", "/v1/keys"}, // as for SCAN
		{reader, 403, "PUT", "/v1/keys/bank:1"},
		{reader, 403, "DELETE", "/v1/keys/bank:1"},
		{shop, 204, "DELETE", "/v1/keys/shop:1"},
	} {
		c.must(test.status, test.method, test.path, "x", "Authorization", "Bearer "+test.token)
	}
}
