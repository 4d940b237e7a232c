package observe

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"holdfast/internal/redis"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/routes"
)

// classes are what requests are counted by: the kind of data that a command works on, the route, or
// what became of them before there was either.
var classes = slices.Concat(kinds, routes.Classes(), []string{"cors", "unauthorized", "invalid", "none"})

// kinds are the kinds of data (Redis' ACL categories). The first one takes whatever is in no other.
var kinds = []string{
	"other",
	"string", "hash", "list", "set", "sortedset", "stream", "bitmap", "hyperloglog", "geo",
	"pubsub", "scripting", "keyspace", "connection",
}

// StringClass is the class of GET and SET.
var StringClass = ClassNumber("string")

// statuses are those that are counted separately; the first one takes all others.
var statuses = [...]int{0, 200, 201, 204, 206, 304, 400, 401, 403, 404, 405, 406, 408, 409, 412, 413, 415, 428, 429, 431, 500, 503, 504}

// latencyBuckets are in seconds. A request to a healthy stack takes some hundred microseconds; one
// that waits for a failover to end takes some seconds.
var latencyBuckets = [...]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, .5, 1, 2.5, 5, 10}

// Metrics are a node's numbers. Every request is counted, on whatever core. The counters are
// arrays, because a look-up by label would cost more than everything else that a loop does for a
// cached value.
type Metrics struct {
	Registry *prometheus.Registry // everything that Prometheus is given
	tallies  []tally              // by class
	InFlight atomic.Int64
	// classOf has the class of every command that came so far, and of the routes. The map is
	// replaced, never changed.
	classOf       atomic.Pointer[map[string]int]
	TokensRefused prometheus.Counter
}

// tally counts the requests of one class.
type tally struct {
	answered [len(routes.Methods)][len(statuses)]atomic.Uint64
	took     [len(latencyBuckets) + 1]atomic.Uint64 // by the first bucket that fits
	nanos    atomic.Int64                           // of all requests together
}

// Sources is what metrics read of a node when they are asked for.
type Sources struct {
	Connections func() int
	Ready       func() bool
	Streams     func() int // places that streams and long polls take
	Turned      *fair.TurnedAway
	Status      func() redis.Status
}

// NewMetrics returns the metrics of a node.
func NewMetrics(of Sources) *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry(), tallies: make([]tally, len(classes))}
	// These commands are known before Redis has told of any.
	named := map[string]int{"set": StringClass, "get": StringClass, "psubscribe": ClassNumber("subscribe")}
	for i, class := range classes {
		if i > 0 {
			if _, taken := named[class]; !taken {
				named[class] = i
			}
		}
	}
	m.classOf.Store(&named)

	m.TokensRefused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "holdfast_tokens_refused_total",
		Help: "Requests that came without a good token.",
	})
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}

	m.Registry.MustRegister(
		newTallyCollector(m), m.TokensRefused,
		gauge("holdfast_http_requests_in_flight", "Requests that are being answered.", func() float64 { return float64(m.InFlight.Load()) }),
		gauge("holdfast_http_connections", "Open connections of clients.", func() float64 { return float64(of.Connections()) }),
		gauge("holdfast_ready", "1 when the node would tell a balancer that it is ready.", func() float64 {
			return truth(of.Ready())
		}),
		gauge("holdfast_streams", "Places that streams and long polls take, of kv.limits.streams.", func() float64 { return float64(of.Streams()) }),
		turnedAway("connection", &of.Turned.Connections), turnedAway("waiting", &of.Turned.Waiting),
		turnedAway("stream", &of.Turned.Streams), turnedAway("body", &of.Turned.Bodies),
		newStatusCollector(of.Status),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// turnedAway returns a counter of how much of one kind was turned away.
func turnedAway(what string, n *atomic.Uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name:        "holdfast_turned_away_total",
		Help:        "What was turned away because there was too much of it: a connection beyond the limit, one that waited for its client and was closed for room, a stream or long poll or a large body beyond its sender's share.",
		ConstLabels: prometheus.Labels{"what": what},
	}, func() float64 { return float64(n.Load()) })
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// ClassNumber returns the index of a class; 0 for one that is not there.
func ClassNumber(name string) int { return max(0, slices.Index(classes[:], name)) }

// Learn stores a command's class.
func (m *Metrics) Learn(spec *redis.Spec) {
	class := 0
	for i, name := range kinds {
		if i > 0 && slices.Contains(spec.Categories, name) {
			class = i
			break
		}
	}
	parent, _, _ := strings.Cut(spec.Name, "|")
	for {
		old := m.classOf.Load()
		if _, known := (*old)[spec.Name]; known {
			return
		}
		fresh := maps.Clone(*old)
		fresh[spec.Name] = class
		if _, known := fresh[parent]; !known {
			fresh[parent] = class
		}
		if m.classOf.CompareAndSwap(old, &fresh) {
			return
		}
	}
}

// Class returns the index of a command's or route's class; 0 for a command that is not known.
// Commands come as their clients spell them.
func (m *Metrics) Class(name string) int {
	known := *m.classOf.Load()
	if class, ok := known[name]; ok {
		return class
	}
	var lower [32]byte
	if len(name) > len(lower) {
		return 0
	}
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return known[string(lower[:len(name)])]
}

// Count counts a request whose duration is not known.
func (m *Metrics) Count(class, method, status int) { m.tallies[class].answered[method][status].Add(1) }

// Observe counts requests that were answered after took each.
func (m *Metrics) Observe(class, method, status int, took time.Duration, requests uint64) {
	bucket := 0
	for seconds := took.Seconds(); bucket < len(latencyBuckets) && seconds > latencyBuckets[bucket]; {
		bucket++
	}
	t := &m.tallies[class]
	t.answered[method][status].Add(requests)
	t.took[bucket].Add(requests)
	t.nanos.Add(int64(requests) * int64(took))
}

// StatusOK is the index of 200 in statuses.
var StatusOK = StatusNumber(200)

// StatusNumber returns the index of a status; 0 for one that is not counted separately.
func StatusNumber(code int) int {
	for i := 1; i < len(statuses); i++ {
		if code == statuses[i] {
			return i
		}
	}
	return 0
}

// tallyCollector collects what was counted.
type tallyCollector struct {
	m                 *Metrics
	requests, latency *prometheus.Desc
}

func newTallyCollector(m *Metrics) *tallyCollector {
	return &tallyCollector{
		m: m,
		requests: prometheus.NewDesc("holdfast_http_requests_total",
			"Requests that were answered, by what they asked for (Redis' category of the command, or the route), method and status.",
			[]string{"class", "method", "status"}, nil),
		latency: prometheus.NewDesc("holdfast_http_request_seconds",
			"Time from the arrival of a whole request to its answer; of a stream of events, to its beginning.",
			[]string{"class"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *tallyCollector) Describe(out chan<- *prometheus.Desc) { out <- c.requests; out <- c.latency }

// Collect implements prometheus.Collector.
func (c *tallyCollector) Collect(out chan<- prometheus.Metric) {
	for class := range c.m.tallies {
		t := &c.m.tallies[class]
		for method := range t.answered {
			for status := range t.answered[method] {
				if n := t.answered[method][status].Load(); n > 0 {
					label := "other"
					if status > 0 {
						label = strconv.Itoa(statuses[status])
					}
					out <- prometheus.MustNewConstMetric(c.requests, prometheus.CounterValue, float64(n), classes[class], routes.Methods[method], label)
				}
			}
		}
		var counts [len(t.took)]uint64
		for i := range t.took {
			counts[i] = t.took[i].Load()
		}
		out <- histogram(c.latency, latencyBuckets[:], counts[:], time.Duration(t.nanos.Load()).Seconds(), classes[class])
	}
}

// histogram returns one with so many counts in each bucket; the last bucket has no bound.
func histogram(d *prometheus.Desc, bounds []float64, counts []uint64, sum float64, labels ...string) prometheus.Metric {
	below, all := map[float64]uint64{}, uint64(0)
	for i, n := range counts {
		if all += n; i < len(bounds) {
			below[bounds[i]] = all
		}
	}
	return prometheus.MustNewConstHistogram(d, all, sum, below, labels...)
}

// statusCollector collects what the store knows about Redis at that moment.
type statusCollector struct {
	status                                       func() redis.Status
	info, known, replicas, inSync, held, silence *prometheus.Desc
	unknown, batches                             *prometheus.Desc
}

func newStatusCollector(status func() redis.Status) *statusCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &statusCollector{
		status:   status,
		info:     desc("holdfast_redis_master_info", "1 for the address of the Redis master that this node uses; none while there is no master.", "address"),
		known:    desc("holdfast_redis_master_known", "1 while this node knows a Redis master."),
		replicas: desc("holdfast_redis_replicas", "Replicas that are online at the master."),
		inSync:   desc("holdfast_redis_in_sync_replicas", "Replicas that must have a write before it is acknowledged."),
		held:     desc("holdfast_held_requests", "Requests that wait for Redis, most of them for a master."),
		unknown:  desc("holdfast_unknown_outcomes_total", "Requests that were sent to Redis and not confirmed: they may have happened or not."),
		batches:  desc("holdfast_redis_batch_operations", "Operations in a batch: those that one round trip to the master took along."),
		silence:  desc("holdfast_redis_heard_seconds", "How long ago any Redis node or Sentinel last answered."),
	}
}

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.info, c.known, c.replicas, c.inSync, c.held, c.silence, c.unknown, c.batches} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *statusCollector) Collect(out chan<- prometheus.Metric) {
	st := c.status()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if st.Master != "" {
		gauge(c.info, 1, st.Master)
	}
	gauge(c.known, truth(st.Master != ""))
	gauge(c.replicas, float64(st.Replicas))
	gauge(c.inSync, float64(st.InSync))
	gauge(c.held, float64(st.Held))
	out <- prometheus.MustNewConstMetric(c.unknown, prometheus.CounterValue, float64(st.Unknown))
	var sizes [len(redis.BatchBuckets)]float64
	var batches [len(sizes)]uint64
	for i, n := range st.Batches {
		sizes[i], batches[i] = float64(redis.BatchBuckets[i]), uint64(n)
	}
	out <- histogram(c.batches, sizes[:len(sizes)-1], batches[:], float64(st.Operations)) // no batch is larger than the last bucket
	if !st.Heard.IsZero() {
		gauge(c.silence, time.Since(st.Heard).Seconds())
	}
}
