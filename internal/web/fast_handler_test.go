package web

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/token"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/observe"
	"holdfast/internal/web/routes"
)

// shelf is a Store that counts what a loop finds in the cache.
type shelf struct {
	*redis.Client
	found atomic.Int64
}

func (s *shelf) Cached(key []byte, now time.Time) (text string, readable, ok bool) {
	if text, readable, ok = s.Client.Cached(key, now); ok {
		s.found.Add(1)
	}
	return text, readable, ok
}

// filled waits until the cache has a key. It has none before the first round of questions to Redis.
func filled(t *testing.T, client *redis.Client, key string) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, "the cache has it", func() bool {
		r := &redis.Request{Commands: []redis.Command{{"GET", key}}, Read: redis.ReadCached}
		if err := client.Do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		_, _, ok := client.Cached([]byte(key), time.Now())
		return ok
	})
}

func TestALoopLooksIntoTheCacheForWhatIsPlainlyWanted(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	filled(t, client, "k")
	store := &shelf{Client: client}
	server, taken := counted(t, Config{}, store)
	addr, _ := listen(t, server)
	c := dial(t, addr)
	const cached = "Holdfast-Read: cached\r\n"
	for _, test := range []struct {
		target, header string
		found          bool
		want           string
	}{
		{"/get?key=k", cached, true, "\r\n\r\nv"},
		{"/get/k", cached, true, `{"result":"v"}`},
		{"/GET/k", cached, false, `{"result":"v"}`},
		{"/get?key=none", cached, false, "There is no such key."},
		{"/get/none", cached, false, `{"result":null}`},
		{"/get?key=k", "", false, "\r\n\r\nv"},
		{"/get?key=k", "Holdfast-Read: master\r\n", false, "\r\n\r\nv"},
		{"/get?key=%6b", cached, false, "\r\n\r\nv"},
		{"/get?key=k&key=none", cached, false, "\r\n\r\nv"},
		{"/get?other=none&key=k", cached, false, "\r\n\r\nv"},
		{"/get/k?x=y", cached, false, "wrong number of arguments"},
		{"/get/k/", cached, false, "wrong number of arguments"},
		{"/get/", cached, false, `{"result":null}`}, // of an empty key
		{"/getdel/none", cached, false, `{"result":null}`},
		{"/strlen/k", cached, false, `{"result":1}`},
		{"/get/k", cached + "Upstash-Encoding: base64\r\n", false, `{"result":"dg=="}`},
		{"/get/k", cached + "Upstash-Response-Format: resp2\r\n", false, "$1\r\nv"},
		{"/get/k", cached + "Upstash-Sync-Token: hf1.0\r\n", false, `{"result":"v"}`},
		{"/get/k", cached + "Holdfast-Attempt: 1-a\r\nHoldfast-Received: 1764298000\r\n", true, `{"result":"v"}`}, // a balancer's
		{"/get/k", cached + "Holdfast-Received: " + strings.Repeat("9", 18) + "\r\n", true, `{"result":"v"}`},
		{"/get/k", cached + "Idempotency-Key: 1\r\n", false, `{"result":"v"}`},
	} {
		before, served := store.found.Load(), taken.taken.Load()
		got := c.ask(t, "GET "+test.target+" HTTP/1.1\r\n"+plainHead+test.header+"\r\n")
		if !strings.Contains(got, test.want) {
			t.Errorf("%s %q: %q", test.target, test.header, got)
		}
		if found := store.found.Load() > before; found != test.found || taken.taken.Load() == served {
			t.Errorf("%s %q: looked up: %v, want %v; %q", test.target, test.header, found, test.found, got)
		}
	}
	for _, bad := range []string{"Holdfast-Attempt: \r\n", "Holdfast-Attempt: " + strings.Repeat("a", consistency.MaxIdempotencyKey+1) + "\r\n", "Holdfast-Received: x\r\n", "Holdfast-Received: " + strings.Repeat("9", 19) + "\r\n"} {
		if got := dial(t, addr).ask(t, "GET /get/k HTTP/1.1\r\n"+plainHead+cached+bad+"\r\n"); !strings.Contains(got, " 400 ") {
			t.Errorf("%.40q: %q", bad, got)
		}
	}
	if got := dial(t, addr).ask(t, "GET /get?k HTTP/1.1\r\n"+plainHead+cached+"\r\n"); !strings.Contains(got, "OOps, the key is null") {
		t.Errorf("without a key: %q", got)
	}
	if got := c.ask(t, "POST /get/k HTTP/1.1\r\n"+plainHead+cached+"Content-Length: 1\r\n\r\nx"); !strings.Contains(got, "wrong number of arguments") {
		t.Errorf("with a body that is an argument: %q", got)
	}
}

func TestTheCacheTellsNobodyWhatTheyMayNotRead(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "mine", "v")
	filled(t, client, "mine")
	set := tokens(t, token.Entry{Name: "all"}, token.Entry{Name: "others", Prefixes: []string{"others:"}},
		token.Entry{Name: "nothing", Commands: []string{"-get"}})
	server, _ := counted(t, Config{Tokens: set, Read: redis.ReadCached}, client)
	addr, _ := listen(t, server)
	for _, test := range []struct{ who, status string }{
		{"all", " 200 "}, {"others", " 403 "}, {"nothing", " 403 "}, {"nobody", " 401 "},
	} {
		for _, target := range []string{"/get?key=mine", "/get/mine"} {
			got := dial(t, addr).ask(t, "GET "+target+" HTTP/1.1\r\n"+plainHead+"Authorization: Bearer token of "+test.who+"\r\n\r\n")
			if !strings.Contains(got, test.status) {
				t.Errorf("%s as %s: %q", target, test.who, got)
			}
		}
	}
}

func TestWhatALoopFindsInTheCacheIsCounted(t *testing.T) {
	client, master := single(t)
	master.Do("SET", "k", "v")
	filled(t, client, "k")
	store := &shelf{Client: client}
	server, _ := counted(t, Config{Read: redis.ReadCached}, store)
	addr, _ := listen(t, server)
	c := dial(t, addr)
	const requests = 20
	for range requests {
		c.ask(t, "GET /get?key=k HTTP/1.1\r\n"+plainHead+"\r\n")
	}
	if n := store.found.Load(); n != requests {
		t.Fatalf("%d were found", n)
	}
	redistest.Eventually(t, 5*time.Second, "the last turn ends", func() bool {
		return metered(t, server.metrics)["holdfast_http_requests_total string GET 200"].value == requests
	})
	if m := metered(t, server.metrics)["holdfast_http_request_seconds string"]; m.count != requests || m.value <= 0 || m.value > 1 {
		t.Errorf("%d took %v s together", m.count, m.value)
	}
}

func TestALatencyIsInTheFirstBucketThatIsNoSmaller(t *testing.T) {
	client, _ := single(t)
	m := New(Config{}, client).metrics
	for _, took := range []time.Duration{100 * time.Microsecond, 100*time.Microsecond + 1, 5 * time.Second, time.Hour} {
		m.Observe(observe.StringClass, routes.Get, observe.StatusOK, took, 2)
	}
	h := metered(t, m)["holdfast_http_request_seconds string"]
	if b := h.below; b[.0001] != 2 || b[.00025] != 4 || b[2.5] != 4 || b[5] != 6 || b[10] != 6 || h.count != 8 || int(h.value) != 2*3605 {
		t.Errorf("%+v", h)
	}
}

// metric is the value of a counter or gauge, or the sum, count and buckets of a histogram.
type metric struct {
	value float64
	count uint64
	below map[float64]uint64
}

// metered returns the metrics by their names and the values of their labels.
func metered(t *testing.T, m *observe.Metrics) map[string]metric {
	t.Helper()
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			h := m.GetHistogram()
			one := metric{value: m.GetCounter().GetValue() + m.GetGauge().GetValue() + h.GetSampleSum(), count: h.GetSampleCount(), below: map[float64]uint64{}}
			for _, b := range h.GetBucket() {
				one.below[b.GetUpperBound()] = b.GetCumulativeCount()
			}
			all[name] = one
		}
	}
	return all
}
