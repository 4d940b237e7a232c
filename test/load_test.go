package test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// operation is one request as its client saw it.
type operation struct {
	write bool
	began time.Time
	took  time.Duration
	err   error // set for any status but 200, too
}

// load is paced clients. Each has a key of its own, and in turn writes the next number to it, reads
// it back, and increments counters in one of several ways that must not happen twice. The clients
// do not retry: what fails is counted.
type load struct {
	entry   string
	dial    fasthttp.DialFunc // nil: from this network
	clients []*client
	stop    chan struct{}
	wg      sync.WaitGroup
	began   time.Time
}

type client struct {
	key        string
	acked      int // the last number whose write was acknowledged
	tried      int // the last number that was sent
	counters   []*counter
	operations []operation
	wrong      []string // impossible answers
}

// counter is a key that only one client increments, always by one.
type counter struct {
	key          string
	path, body   string // of the request that increments it
	acked, tried int    // how often an increment was confirmed, and sent
	last         int    // the last number in an answer
}

// loads numbers the loads, because a counter belongs to one load.
var loads atomic.Int64

func (c *client) count(load int64, kind, path, body string) {
	key := fmt.Sprintf("%s-%s-%d", c.key, kind, load)
	c.counters = append(c.counters, &counter{key: key, path: path, body: strings.ReplaceAll(body, "$K", key)})
}

// loadClients share the rate. Each waits for its answer before it goes on.
const loadClients = 50

// startLoad begins to send rate requests per second in all, half of them writes.
func startLoad(t *testing.T, entry string, rate int) *load {
	t.Helper()
	return startLoadOf(t, entry, rate, true)
}

// startLoadOf is startLoad with or without scripts. On a busy machine a script may take long and
// make others wait for it.
func startLoadOf(t *testing.T, entry string, rate int, scripts bool) *load {
	t.Helper()
	return startLoadBy(t, nil, entry, rate, scripts)
}

// startLoadBy is startLoadOf with connections from dial.
func startLoadBy(t *testing.T, dial fasthttp.DialFunc, entry string, rate int, scripts bool) *load {
	t.Helper()
	l := &load{entry: entry, dial: dial, stop: make(chan struct{}), began: time.Now()}
	number := loads.Add(1)
	for i := range loadClients {
		c := &client{key: fmt.Sprintf("load-%d", i)}
		c.count(number, "command", "/", `["INCR","$K"]`)
		c.count(number, "pipeline", "/pipeline", `[["SET","$K-x","y"],["INCR","$K"]]`)
		c.count(number, "transaction", "/multi-exec", `[["SET","$K-x","y"],["INCR","$K"]]`)
		if scripts {
			c.count(number, "script", "/", `["EVAL","return redis.call('INCR', KEYS[1])",1,"$K"]`)
		}
		l.clients = append(l.clients, c)
		l.wg.Go(func() { l.run(c, time.Duration(loadClients)*time.Second/time.Duration(rate), i) })
	}
	t.Cleanup(func() { l.end() })
	return l
}

func (l *load) run(c *client, every time.Duration, i int) {
	// A client has one connection, and does not retry without the test's knowledge.
	h := &fasthttp.Client{
		Dial: l.dial, MaxConnsPerHost: 1, MaxIdemponentCallAttempts: 1,
		RetryIfErr:  func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		ReadTimeout: 15 * time.Second, MaxConnWaitTimeout: 15 * time.Second,
	}
	time.Sleep(every * time.Duration(i) / loadClients) // spread over the interval
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		began := time.Now()
		var err error
		switch n % 4 {
		case 0:
			err = c.set(h, l.entry)
		case 2:
			err = c.increment(h, l.entry, c.counters[n/4%len(c.counters)])
		default:
			err = c.get(h, l.entry)
		}
		c.operations = append(c.operations, operation{n%2 == 0, began, time.Since(began), err})
	}
}

func (c *client) set(h *fasthttp.Client, entry string) error {
	c.tried++
	want := fmt.Sprintf("OK. We have set %s to be %d", c.key, c.tried)
	body, err := ask(h, fmt.Sprintf("%s/set?key=%s&value=%d", entry, c.key, c.tried))
	if err != nil {
		return err
	}
	if body != want {
		c.wrong = append(c.wrong, fmt.Sprintf("set: %q, want %q", body, want))
	}
	c.acked = c.tried
	return nil
}

func (c *client) get(h *fasthttp.Client, entry string) error {
	body, err := ask(h, entry+"/get?key="+c.key)
	if err != nil {
		if c.acked == 0 && strings.Contains(err.Error(), "404") {
			return nil
		}
		return err
	}
	c.check(body)
	return nil
}

// increment increments a counter. The answer is the new number: greater than every earlier one, and
// at most the number of requests sent.
func (c *client) increment(h *fasthttp.Client, entry string, k *counter) error {
	k.tried++
	body, err := post(h, entry+k.path, k.body)
	if err != nil {
		return err
	}
	digits := strings.TrimRight(body, "}]\n ")
	n, err := strconv.Atoi(digits[strings.LastIndexByte(digits, ':')+1:])
	if err != nil || n <= k.last || n <= k.acked || n > k.tried {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: answered %q; the last answer was %d, %d were confirmed and %d sent", k.key, body, k.last, k.acked, k.tried))
	}
	k.acked++
	k.last = n
	return nil
}

// check checks a value that was read: it must not be older than what was acknowledged, nor newer
// than what was sent.
func (c *client) check(body string) {
	n, err := strconv.Atoi(body)
	if err != nil || n < c.acked || n > c.tried {
		c.wrong = append(c.wrong, fmt.Sprintf("%s is %q; acknowledged %d, sent %d", c.key, body, c.acked, c.tried))
	}
}

func ask(h *fasthttp.Client, url string) (string, error) { return post(h, url, "") }

// post sends a body, or a GET if there is none.
func post(h *fasthttp.Client, url, body string) (string, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(url)
	if body != "" {
		req.Header.SetMethod("POST")
		req.SetBodyString(body)
	}
	if err := h.Do(req, resp); err != nil {
		return "", err
	}
	if resp.StatusCode() != 200 {
		return "", fmt.Errorf("status %d: %s", resp.StatusCode(), resp.Body())
	}
	return string(resp.Body()), nil
}

func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.wg.Wait()
}

// outcome is what a load's clients saw.
type outcome struct {
	requests int
	failed   []operation
	longest  time.Duration // the time of the slowest answer
	errs     map[string]int
}

// finish ends the load, reads everything back, and reports lost writes.
func (l *load) finish(t *testing.T) outcome {
	t.Helper()
	l.end()
	h := &fasthttp.Client{Dial: l.dial, ReadTimeout: 15 * time.Second}
	o := outcome{errs: map[string]int{}}
	for _, c := range l.clients {
		if c.acked > 0 {
			body, err := ask(h, l.entry+"/get?key="+c.key)
			if err != nil {
				t.Errorf("read %s back: %v", c.key, err)
				continue
			}
			c.check(body)
		}
		for _, k := range c.counters {
			if k.acked == 0 {
				continue
			}
			body, err := ask(h, l.entry+"/get?key="+k.key)
			if err != nil {
				t.Errorf("read %s back: %v", k.key, err)
			} else if n, err := strconv.Atoi(body); err != nil || n < k.acked || n > k.tried {
				t.Errorf("%s is %q; confirmed were %d, sent %d", k.key, body, k.acked, k.tried)
			}
		}
		for _, w := range c.wrong {
			t.Errorf("wrong answer: %s", w)
		}
		for _, op := range c.operations {
			o.requests++
			o.longest = max(o.longest, op.took)
			if op.err != nil {
				o.failed = append(o.failed, op)
				o.errs[op.err.Error()]++
			}
		}
	}
	t.Logf("%d requests, %d failed %v, longest answer %v", o.requests, len(o.failed), o.errs, o.longest.Round(time.Millisecond))
	return o
}

// requireTraffic checks the test's own assumption, that there was traffic.
func (o outcome) requireTraffic(t *testing.T, least int) {
	t.Helper()
	if o.requests < least {
		t.Fatal(errors.New("too little traffic to judge"))
	}
}
