package load

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/quote"
)

// RefusedError is the error if a kind of request is not answered as the load needs it.
type RefusedError struct {
	Request string // method and path
	Status  int    // 0: no answer came
	Answer  string
}

func (e *RefusedError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("%s gets no answer: %s", e.Request, quote.Text(e.Answer))
	}
	return fmt.Sprintf("%s is answered with %s", e.Request, quote.Text(e.Answer))
}

// Unauthorized reports whether the token is missing or lacks rights.
func (e *RefusedError) Unauthorized() bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

// Unavailable reports whether the answer came from a balancer, or a node, that could not serve the
// request.
func (e *RefusedError) Unavailable() bool {
	return e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
}

// tryTasks returns one operation of each kind that the load has, ordered so that each finds what it
// needs.
func (l *Load) tryTasks() []task {
	var all []task
	add := func(kind history.Kind, key string, verb history.Verb, from string, once bool) {
		all = append(all, task{number: len(all), kind: kind, verb: verb, key: key, from: from, once: once})
	}
	sources := []string{fromMaster}
	if l.cfg.ReplicaReads > 0 {
		sources = append(sources, fromReplica)
	}
	if l.cfg.CachedReads > 0 {
		sources = append(sources, fromCached)
	}
	if l.cfg.Registers > 0 {
		add(history.Register, l.registerKey(0), history.Write, "", true)
		add(history.Register, l.registerKey(0), history.CAS, "", false)
		for _, from := range sources {
			add(history.Register, l.registerKey(0), history.Read, from, false)
		}
	}
	if l.cfg.Counters > 0 {
		add(history.Counter, l.counterKey(0), history.Increment, "", true)
		add(history.Counter, l.counterKey(0), history.Read, fromMaster, false)
	}
	if l.cfg.Sets > 0 {
		add(history.Set, l.setKey(0, 0), history.Add, "", false)
		add(history.Set, l.setKey(0, 0), history.Read, fromMaster, false)
	}
	return all
}

// Try sends one request of each kind that a load of this configuration has: its URLs, or operations
// on keys of its own, which it removes again. It returns the names of the nodes that answered (the
// header Holdfast-Node; empty if there was none). A *RefusedError names the kind that is not
// answered as the load needs it.
func Try(ctx context.Context, cfg Config) (nodes []string, err error) {
	cfg.Prefix += "try:"
	l, err := New(cfg)
	if err != nil {
		return nil, err
	}
	c := l.newClient(0)
	c.connect(ctx)
	defer c.conn.close()
	if len(cfg.URLs) > 0 {
		return nil, l.tryURLs(c)
	}

	l.due = 1 // makes keys return some keys to remove
	remove := func() error {
		if err := c.remove(l.keys()); err != nil {
			return &RefusedError{Request: "POST /pipeline, with DEL", Status: c.conn.answer.StatusCode(), Answer: err.Error()}
		}
		return nil
	}

	// Check that keys can be found and removed before there are any.
	for _, ask := range []func(q *request){
		func(q *request) { q.method, q.path = http.MethodGet, "/v1/keys?limit=1&prefix="+cfg.Prefix },
		func(q *request) { q.command("DEL", l.registerKey(0)) },
	} {
		if err := c.ask(ask); err != nil {
			return nil, err
		}
	}
	if err := remove(); err != nil {
		return nil, err
	}

	for _, t := range l.tryTasks() {
		t.maxAge = replicaAge
		op := c.perform(t, l.now())
		if op.Outcome == history.OK && !asWritten(op) {
			op.Error = strconv.Itoa(op.Status) + ", as if nothing had been written"
		}
		if op.Outcome != history.OK || op.Error != "" {
			_ = remove() // as far as possible
			return nil, &RefusedError{Request: c.request.method + " " + c.request.path, Status: op.Status, Answer: strings.TrimPrefix(op.Error, "answered ")}
		}
		nodes = append(nodes, op.Node)
	}

	return nodes, remove()
}

// asWritten reports whether an answer shows that the writes before it happened. Otherwise a program
// that answers 404 to everything would count as a store without keys.
func asWritten(op history.Operation) bool {
	switch {
	case op.Verb == history.CAS:
		return op.Matched
	case op.Verb == history.Read && op.From == fromMaster:
		return op.Found
	}
	return true
}

// ask sends a request that is not an operation of the load. Any answer but 200 is an error.
func (c *client) ask(make func(q *request)) error {
	q := request{header: c.load.header}
	make(&q)
	refused := &RefusedError{Request: q.method + " " + q.path}
	if len(q.body) > 0 {
		refused.Request += ", " + string(q.body)
	}
	if _, err := c.conn.exchange(&q, time.Now().Add(c.load.cfg.Timeout)); err != nil {
		refused.Answer = err.Error()
		return refused
	}
	if refused.Status = c.conn.answer.StatusCode(); refused.Status != http.StatusOK {
		refused.Answer = short(strconv.Itoa(refused.Status) + ": " + strings.TrimSpace(string(c.conn.answer.Body())))
		return refused
	}
	return nil
}
