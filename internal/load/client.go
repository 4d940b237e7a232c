package load

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/history"
)

const (
	// A write with an Idempotency-Key whose outcome is unknown is repeated after a pause that
	// doubles each time. One try may take only a part of the operation's time, so that some is left
	// if nothing answers.
	firstRepeat, longestRepeat = 20 * time.Millisecond, 500 * time.Millisecond
	triesInTime                = 2

	maxError = 160 // of a recorded error, in bytes
)

// client does one operation at a time. It is not safe for concurrent use, except for since.
type client struct {
	load       *Load
	number     int
	conn       *connection
	request    request
	seen       map[string]registerVersion // the versions of registers that it saw last
	nodes      map[string]string          // names of nodes, each stored once
	cookies    map[string]string          // the cookies that it was given, as a browser keeps them
	url        *URL                       // the URL of the operation under way, if it requests one
	operations []history.Operation
	// address is the node that a direct client asks, and reach how it connects. Both are empty for
	// a client of the entry.
	address string
	reach   func(ctx context.Context, address string) (net.Conn, error)

	// since is when the operation under way was due, plus 1; 0: no operation is under way.
	since atomic.Int64
}

// registerVersion is a register's value, with its ETag.
type registerVersion struct{ etag, value string }

func (l *Load) newClient(number int) *client {
	return &client{load: l, number: number, seen: map[string]registerVersion{}, nodes: map[string]string{}, cookies: map[string]string{}}
}

// connect gives the client a connection, which ends with the context.
func (c *client) connect(ctx context.Context) {
	c.conn = newConnection(ctx, c.load.entries, c.number)
	c.conn.tls = c.load.cfg.TLS
}

// run does operations that are due until there are no more.
func (c *client) run(ctx context.Context) {
	c.connect(ctx)
	defer c.conn.close()
	for {
		number, ok := c.load.nextDue(ctx)
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
		q.host = c.load.entries[0] // a node accepts the host names of the service
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

// operation returns the operation of a task for this client, and the version that a compare-and-set
// expects. A register of which no client has seen a value is expected to be absent.
func (c *client) operation(t task, due time.Duration) (history.Operation, registerVersion) {
	op := history.Operation{
		Client: c.number, Kind: t.kind, Key: t.key, Verb: t.verb,
		From: t.from, MaxAge: t.maxAge, Once: t.once, Value: t.value(c.number), Due: due,
	}
	var expected registerVersion
	if t.verb == history.CAS {
		var own bool
		if expected, own = c.seen[t.key]; !own || t.fresh {
			expected = c.load.latest(t.key)
		}
		op.Expect = expected.value
	}
	return op, expected
}

// read prepares the request of a read.
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
	default: // explicitly: the stack may declare another default
		q.line("Holdfast-Read", fromMaster)
	}
}

func (q *request) line(name, value string) {
	q.header = append(q.header, name...)
	q.header = append(q.header, ": "...)
	q.header = append(q.header, value...)
	q.header = append(q.header, "\r\n"...)
}

// command prepares a request with a Redis command. Keys and values have no character that JSON
// would have to escape.
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

// certainty is what one try shows about the operation.
type certainty int

const (
	done     certainty = iota // it happened, as the answer reports
	refused                   // it did not happen, and no repetition would change that
	later                     // it did not happen; a repetition may succeed
	possible                  // it may have happened, or may still happen
)

// send sends the prepared request, repeatedly if that is safe, and records the outcome.
func (c *client) send(op *history.Operation) {
	op.Start = c.load.now()
	deadline := time.Now().Add(c.timeout())
	harmless := op.Verb == history.Read || c.url != nil && c.url.safe()
	perhaps := false // an earlier try may have been carried out
	pauses := clock.Backoff{Min: firstRepeat, Max: longestRepeat}
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
			op.Outcome, op.Error = history.OK, c.recordAnswer(op)
			return
		case possible:
			perhaps = true
		}

		// This try was certainly not carried out, but an earlier one may have been.
		again := perhaps && op.Once && how != refused
		pause := pauses.Next()
		if !again || time.Now().Add(pause).After(deadline) || !clock.Sleep(c.conn.ctx, pause) {
			op.Outcome = history.Failed
			if perhaps && !harmless {
				op.Outcome = history.Unknown
			}
			return
		}
	}
}

// timeout returns how long an operation may take.
func (c *client) timeout() time.Duration {
	if c.address != "" {
		return min(directTimeout, c.load.cfg.Timeout)
	}
	return c.load.cfg.Timeout
}

// entry returns the base URL to which the last request was sent.
func (c *client) entry() string {
	if c.address != "" {
		return "http://" + c.address
	}
	return c.load.cfg.Entries[c.conn.used]
}

// try sends the request once.
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

// judge returns what a status means: see docs/web.md ("Errors") and docs/operations.md ("HAProxy's
// own answers"). A status that neither names proves nothing.
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

// node returns the name of a node, and stores each name only once.
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
