package load

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"holdfast/internal/history"
)

const (
	// A write with an Idempotency-Key whose outcome is unknown is repeated
	// after a pause, longer each time. One try may take a part of the time
	// that the operation has, so that there is some left when nobody answers.
	firstRepeat, longestRepeat = 20 * time.Millisecond, 500 * time.Millisecond
	triesInTime                = 2

	maxError = 160 // bytes of what is recorded of an error
)

// client does one operation at a time.
type client struct {
	load       *Load
	number     int
	conn       *connection
	request    request
	seen       map[string]version // registers as it saw them last
	nodes      map[string]string  // names, each kept once
	cookies    map[string]string  // that it was given, as a browser keeps them
	url        *URL               // of the operation under way, if it asks one
	operations []history.Operation
	// address is that of the node which a direct client asks, and reach how it
	// connects; empty for a client of the entry.
	address string
	reach   func(ctx context.Context, address string) (net.Conn, error)

	// since is when the operation under way was due, plus 1; 0: there is none.
	since atomic.Int64
}

// version is a register's value, and the ETag that stands for it.
type version struct{ etag, value string }

func (l *Load) newClient(number int) *client {
	return &client{load: l, number: number, seen: map[string]version{}, nodes: map[string]string{}, cookies: map[string]string{}}
}

// connect gives it a connection, whose requests end with the context.
func (c *client) connect(ctx context.Context) {
	c.conn = newConnection(ctx, c.load.entries, c.number)
	c.conn.tls = c.load.cfg.TLS
}

// run does what is due until there is no more.
func (c *client) run(ctx context.Context) {
	c.connect(ctx)
	defer c.conn.close()
	for {
		number, ok := c.load.take(ctx)
		if !ok {
			return
		}
		due := c.load.dueAt(number)
		c.since.Store(int64(due) + 1)
		op := c.perform(c.load.task(number), due)
		c.since.Store(0)
		c.operations = append(c.operations, op)
		c.load.count(&op)
	}
}

// perform does one operation of the load.
func (c *client) perform(t task, due time.Duration) history.Operation {
	op, expected := c.operation(t, due)
	q := &c.request
	q.host, q.header = "", append(q.header[:0], c.load.header...)
	if c.address != "" {
		q.host = c.load.entries[0] // a node answers to the names that the service has
	}
	q.body = q.body[:0]
	c.url = t.url
	c.sendCookies()
	switch op.Verb {
	case history.Read:
		c.read(&op)
	case history.Ask:
		q.method, q.host, q.path = t.url.Method, t.url.Host, t.url.Path
	case history.Write, history.CAS:
		if t.plain() {
			q.command("SET", op.Key, op.Value)
			break
		}
		q.method, q.path = http.MethodPut, "/v1/keys/"+op.Key
		q.body = append(q.body, op.Value...)
		switch {
		case op.Verb == history.CAS && expected.etag == "":
			q.line("If-None-Match", "*")
		case op.Verb == history.CAS:
			q.line("If-Match", expected.etag)
		}
	case history.Increment:
		q.command("INCR", op.Key)
	case history.Add:
		q.command("SADD", op.Key, op.Value)
	}
	if op.Once {
		q.line("Idempotency-Key", c.load.cfg.Prefix+strconv.Itoa(t.number))
	}
	c.send(&op)
	return op
}

// operation is what a task comes to for this client, and the version that a
// compare-and-set expects. A register of which nobody has seen a value yet is
// expected not to be there.
func (c *client) operation(t task, due time.Duration) (history.Operation, version) {
	op := history.Operation{
		Client: c.number, Kind: t.kind, Key: t.key, Verb: t.verb,
		From: t.from, MaxAge: t.maxAge, Once: t.once, Value: t.value(c.number), Due: due,
	}
	var expected version
	if t.verb == history.CAS {
		var own bool
		if expected, own = c.seen[t.key]; !own || t.fresh {
			expected = c.load.latest(t.key)
		}
		op.Expect = expected.value
	}
	return op, expected
}

// read makes the request of a read.
func (c *client) read(op *history.Operation) {
	q := &c.request
	q.method, q.path = http.MethodGet, "/v1/keys/"+op.Key
	if op.Kind == history.Set {
		q.path = "/smembers/" + op.Key
	}
	switch op.From {
	case fromReplica:
		q.line("Holdfast-Read", fromReplica)
		q.line("Holdfast-Max-Lag", strconv.FormatInt(op.MaxAge.Milliseconds(), 10)+"ms")
	case fromCached:
		q.line("Holdfast-Read", fromCached)
	default: // the stack may declare another one for who says nothing
		q.line("Holdfast-Read", fromMaster)
	}
}

func (q *request) line(name, value string) {
	q.header = append(q.header, name...)
	q.header = append(q.header, ": "...)
	q.header = append(q.header, value...)
	q.header = append(q.header, "\r\n"...)
}

// command makes a command of Redis the request. Keys and values have no
// character that JSON would have to escape.
func (q *request) command(args ...string) {
	q.method, q.path = http.MethodPost, "/"
	q.body = append(q.body, '[')
	for i, a := range args {
		if i > 0 {
			q.body = append(q.body, ',')
		}
		q.body = append(q.body, '"')
		q.body = append(q.body, a...)
		q.body = append(q.body, '"')
	}
	q.body = append(q.body, ']')
}

// certainty is what one try says about the operation.
type certainty int

const (
	done     certainty = iota // it happened, as the answer says
	refused                   // it did not happen, and no repetition would change that
	later                     // it did not happen
	possible                  // it may have happened, or happen yet
)

// send sends the request that is ready, again and again where that is safe,
// and records what came of it.
func (c *client) send(op *history.Operation) {
	op.Start = c.load.now()
	deadline := time.Now().Add(c.timeout())
	harmless := op.Verb == history.Read || c.url != nil && c.url.safe()
	perhaps := false // an earlier try may have been carried out
	pause := firstRepeat
	for {
		until := deadline
		if op.Once {
			if t := time.Now().Add(c.load.cfg.Timeout / triesInTime); t.Before(until) {
				until = t
			}
		}
		how := c.try(op, until)
		op.End = c.load.now()
		switch how {
		case done:
			op.Outcome, op.Error = history.OK, c.take(op)
			return
		case possible:
			perhaps = true
		}
		// What certainly was not carried out this time may have been before.
		again := perhaps && op.Once && how != refused
		if !again || time.Now().Add(pause).After(deadline) || !wait(c.conn.ctx, pause) {
			op.Outcome = history.Failed
			if perhaps && !harmless {
				op.Outcome = history.Unknown
			}
			return
		}
		pause = min(2*pause, longestRepeat)
	}
}

// timeout is how long an operation may take.
func (c *client) timeout() time.Duration {
	if c.address != "" {
		return min(directTimeout, c.load.cfg.Timeout)
	}
	return c.load.cfg.Timeout
}

// entry is where its last request was sent to.
func (c *client) entry() string {
	if c.address != "" {
		return "http://" + c.address
	}
	return c.load.cfg.Entries[c.conn.used]
}

// try sends it once.
func (c *client) try(op *history.Operation, until time.Time) certainty {
	sent, err := c.conn.exchange(&c.request, until)
	op.Status, op.Node, op.Error, op.Entry = 0, "", "", c.entry()
	if !sent.IsZero() {
		if op.Tries++; op.Tries == 1 {
			op.Start = sent.Sub(c.load.cfg.Began)
		}
	}
	if err != nil {
		if c.conn.ctx.Err() != nil {
			err = fmt.Errorf("the load ended: %w", err)
		}
		op.Error = short(err.Error())
		if sent.IsZero() {
			return later
		}
		return possible
	}
	answer := &c.conn.answer
	op.Status = answer.StatusCode()
	op.Node = c.node(answer.Header.Peek("Holdfast-Node"))
	c.keepCookies()
	how := judge(op.Verb, op.Status)
	if c.url != nil {
		how = c.url.judge(op.Status)
	}
	if how != done {
		op.Error = short(strconv.Itoa(op.Status) + ": " + string(answer.Body()))
	}
	return how
}

// judge says what a status means: docs/web.md ("Errors") and
// docs/operations.md ("HAProxy's own answers"). What neither names is no
// proof of anything.
func judge(verb history.Verb, status int) certainty {
	switch {
	case status == http.StatusOK || status == http.StatusCreated || status == http.StatusNoContent:
		return done
	case status == http.StatusNotFound && verb == history.Read:
		return done
	case status == http.StatusPreconditionFailed && verb == history.CAS:
		return done
	case status == http.StatusServiceUnavailable:
		return later
	case status >= 400 && status < 500:
		return refused
	}
	return possible
}

// node keeps the name of a node once, however often it answers.
func (c *client) node(name []byte) string {
	if known, ok := c.nodes[string(name)]; ok {
		return known
	}
	s := string(name)
	if len(c.nodes) < 1000 {
		c.nodes[s] = s
	}
	return s
}

func short(text string) string {
	if len(text) > maxError {
		text = text[:maxError] + "…"
	}
	return text
}
