package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
)

// responder answers simple requests on a loop. It waits for nothing.
type responder interface {
	// wants says that a request is of a kind that it answers.
	wants(q *simple) bool
	// respond begins to answer a request: at once, appended to out; later, when
	// the flight has landed; or not at all, and then it has done nothing.
	respond(f *flight, q *simple, out []byte) ([]byte, progress)
	// long says of a flight that has landed that its answer is so long that
	// nobody should wait while it is made.
	long(f *flight) bool
	// finish appends the answer of a flight that has landed.
	finish(f *flight, out []byte) []byte
	// finishTo writes the answer of a flight that has landed, in pieces where it is
	// long.
	finishTo(f *flight, conn net.Conn) error
	// express makes a connection for a loop's lane: see redis.Client. The error is
	// errors.ErrUnsupported where there will never be one.
	express(ctx context.Context) (*redis.Express, net.Conn, error)
	// answered counts requests that were answered without a flight, for some
	// microseconds one after the other, since their loop was told of them.
	answered(requests int, took time.Duration)
	// again asks for what a flight wants that its lane did not answer. It answers
	// true when it has landed already.
	again(f *flight) bool
}

// progress is what became of a request on a loop.
type progress int

// How far it got.
const (
	declined progress = iota // it is for the HTTP server
	answered
	landed // the outcome is there, and its answer is long
	pending
)

// journey is what a responder keeps of a request that is under way.
type journey struct {
	request redis.Request
	// lent is the memory of its command when borrowed says so: nobody has to do with
	// what a lane carries whom the flight does not wait for.
	lent     lent
	borrowed bool
	began    time.Time
	method   int
	route    route
	form     form
	err      error
	memory   *memory     // the loop's
	started  func(error) // keeps the outcome and lands the flight; made once
	// board puts the request on the loop's lane, or answers false; made once.
	board func(*redis.Spec) bool
	// phase says who sees to the answer: whoever started the flight when it has
	// landed meanwhile, else whoever lands it.
	phase atomic.Int32
}

// memory is what a loop's requests use one after the other, each for as long as
// it is at work.
type memory struct {
	arguments arguments
	body      []byte
	// turn is when the loop was last told of anything, and now when it last looked
	// at the clock since.
	turn, now time.Time
	hits      int // answered from the cache since that look
	// ctx and writer are for answers in the server's own words; made once.
	ctx    *fasthttp.RequestCtx
	writer *bufio.Writer
}

// tidy gives back what grew large.
func (m *memory) tidy() {
	if m.arguments.large() {
		m.arguments = arguments{}
	}
	m.arguments.reset()
}

// keepOut is how large the memory for answers may stay, in bytes.
const keepOut = 256 << 10

// The phases of a flight.
const (
	starting int32 = iota
	early          // it landed before it was on its way
	under          // it is on its way
)

// landedEarly is asked once, when the flight has been started.
func (j *journey) landedEarly() bool { return !j.phase.CompareAndSwap(starting, under) }

// lands takes the outcome, and answers whether the flight was on its way.
func (j *journey) lands(err error) bool {
	j.err = err
	return !j.phase.CompareAndSwap(starting, early)
}

// route is how a request on a loop came, and with it the form of its answer.
type route int

const (
	byCommand route = iota // in the path or the body
	sourceGet              // /get?key=K
	sourceSet              // /set?key=K&value=V
)

// starter is a Store for callers that do not wait: see redis.Client.
type starter interface {
	Start(r *redis.Request, done func(error))
	Cached(key []byte, now time.Time) (text string, readable, ok bool)
	Known(cmd redis.Command) *redis.Spec
}

var _ starter = (*redis.Client)(nil) // else nothing would be on a loop, and nobody told

// expresser is a starter that loops may read from by themselves.
type expresser interface {
	Express(ctx context.Context) (*redis.Express, net.Conn, error)
}

// quick answers commands on loops as the server does elsewhere: whatever is not
// plainly good before it is begun is left to the server, which has the words
// for it; what comes of it is told in the server's own words, or, where that is
// the value that was asked for, in the same bytes, made faster.
type quick struct {
	*Server
	store starter
	head  *head
}

// newQuick is nil where not even simple requests are quick: each one's log line
// or span wants what only the HTTP server keeps of it, and origins what only it
// says.
func newQuick(s *Server) responder {
	store, ok := s.store.(starter)
	if !ok || s.cfg.AccessLog > 0 || s.cfg.Trace != "" || len(s.cfg.CORS) > 0 {
		return nil
	}
	return &quick{Server: s, store: store, head: newHead(s.fields())}
}

// fields are those of every answer.
func (s *Server) fields() [][2][]byte {
	all := append([][2][]byte(nil), marks...)
	if len(s.node) > 0 {
		all = append(all, [2][]byte{nodeHeader, s.node})
	}
	return all
}

// wants is responder's.
func (s *quick) wants(q *simple) bool {
	_, ok := s.routeOf(q)
	return ok && s.answersTo(q.host)
}

// routeOf is route for simple requests. It answers false to what is no command.
func (s *quick) routeOf(q *simple) (route, bool) {
	first, _, _ := bytes.Cut(q.path[1:], []byte("/"))
	var lower [len("psubscribe")]byte
	if len(first) > len(lower) {
		return byCommand, !isAdminPath(q.path)
	}
	for i, c := range first {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(first)]) {
	case "":
		return byCommand, len(q.path) == 1 && q.method != methodGet
	case "set":
		if string(q.path) == "/set" && len(q.body) == 0 {
			return sourceSet, q.method != methodPut
		}
	case "get":
		if string(q.path) == "/get" && len(q.body) == 0 {
			return sourceGet, q.method == methodGet
		}
	case "healthz", "pipeline", "multi-exec", "subscribe", "psubscribe", "monitor", "v1":
		return 0, false
	}
	return byCommand, !isAdminPath(q.path)
}

// respond is responder's.
func (s *quick) respond(f *flight, q *simple, out []byte) ([]byte, progress) {
	if !s.answersTo(q.host) {
		return out, declined
	}
	if out, ok := s.remembered(f, q, out); ok {
		return out, answered
	}
	route, ok := s.routeOf(q)
	if !ok {
		return out, declined
	}
	r := &f.request
	spec := s.prepare(f, q, route)
	if spec == nil {
		*r = redis.Request{Results: r.Results[:0]}
		f.form = form{}
		return out, declined
	}
	f.began, f.method, f.route = f.memory.now, q.method, route
	s.metrics.inFlight.Add(1)
	if f.board(spec) || !s.again(f) {
		return out, pending
	}
	if s.long(f) {
		return out, landed
	}
	f.memory.now = time.Now()
	return s.finish(f, out), answered
}

// remembered answers a GET with the text that the cache has, where everybody may
// do the same: what somebody has read before is anybody's then, and nothing else
// is to be looked at.
func (s *quick) remembered(f *flight, q *simple, out []byte) ([]byte, bool) {
	if from, _ := q.wishes.from(s.cfg.Read); s.cfg.Tokens != nil || from != redis.ReadCached || !q.wishes.noOther() {
		return out, false
	}
	key, route := plainGet(q)
	if len(key) == 0 {
		return out, false
	}
	// The request was there when the loop looked at the clock: a value that was
	// good then is.
	now := f.memory.now
	text, readable, ok := s.store.Cached(key, now)
	if !ok || len(text) > longAnswer {
		return out, false
	}
	f.request.From = redis.ReadCached // for begin
	if route == sourceGet {
		kind := textPlain
		if !readable {
			kind = octetStream
		}
		out = append(s.begin(f, out, now, kind, len(text)), text...)
	} else {
		body := append(f.memory.body[:0], `{"result":`...)
		out = s.inBody(f, out, now, applicationJSON, append(appendString(body, text), '}'))
	}
	f.request.From = redis.ReadMaster
	f.memory.hits++
	return out, true
}

// answered is responder's.
func (s *quick) answered(hits int, took time.Duration) {
	s.metrics.observe(stringClass, methodGet, okStatus, took, uint64(hits))
}

// plainGet is the key that /get?key=K or /get/K asks for, if it stands there as
// it is; else nil.
func plainGet(q *simple) (key []byte, r route) {
	rest, ok := bytes.CutPrefix(q.path, []byte("/get"))
	switch {
	case !ok || q.method != methodGet:
		return nil, 0
	case len(rest) == 0:
		if key, ok = bytes.CutPrefix(q.query, []byte("key=")); !ok {
			return nil, 0
		}
		r = sourceGet
	case rest[0] == '/' && len(q.query) == 0:
		key, r = rest[1:], byCommand
	}
	for _, c := range key {
		if c == '%' || c == '+' || c == '&' || c == '/' {
			return nil, 0
		}
	}
	return key, r
}

// again is responder's.
func (s *quick) again(f *flight) bool {
	if f.borrowed { // it may outlive the flight there
		f.request.Commands, f.borrowed = f.lent.kept(), false
	}
	s.store.Start(&f.request, f.started)
	return f.landedEarly()
}

// express is responder's.
func (s *quick) express(ctx context.Context) (*redis.Express, net.Conn, error) {
	if x, ok := s.store.(expresser); ok {
		return x.Express(ctx)
	}
	return nil, nil, errors.ErrUnsupported
}

// prepare makes the redis.Request of a request, and answers what Redis says of
// its command. It answers nil when anything about it is not plainly good.
func (s *quick) prepare(f *flight, q *simple, route route) *redis.Spec {
	who, err := s.who(q.authorization, q.query)
	if err != nil {
		return nil
	}
	a := &f.memory.arguments
	defer f.memory.tidy()
	switch {
	case route == sourceGet:
		err = s.sourceGet(a, q.query)
	case route == sourceSet:
		err = s.sourceSet(a, q.query)
	case len(q.path) == 1:
		err = a.command(q.body)
	default:
		err = s.commandInPath(a, q)
	}
	if err != nil {
		return nil
	}
	r := &f.request
	r.Commands = a.lend(&f.lent)
	if f.borrowed = r.Commands != nil; !f.borrowed {
		r.Commands = a.commands()
	}
	spec := s.store.Known(r.Commands[0])
	if spec == nil || s.check(who, r.Commands) != nil {
		return nil
	}
	if route == byCommand {
		r.WantToken = true // on every answer
		if f.form, err = q.wishes.form(); err != nil {
			return nil
		}
	}
	if spec.ReadOnly && q.wishes.balanced() {
		q.wishes.attempts, q.wishes.received = 0, nil
	}
	if s.heed(who, &q.wishes, r) != nil {
		return nil
	}
	if who != nil {
		r.Sender, r.Client = who.Name, who.Name
		return spec
	}
	address, told := s.told(q.source) // as reader and redisSender do
	r.Client = address
	if !spec.BriefFor(r.Commands[0]) {
		if !told {
			address = f.peer()
		}
		r.Sender = address
	}
	return spec
}

// longAnswer is from how many bytes of a reply on its answer is long. Escaped
// for JSON it may be six times as many, and takes some ten nanoseconds each.
const longAnswer = 64 << 10

// long is responder's.
func (s *quick) long(f *flight) bool {
	return f.err == nil && f.request.Results[0].Err == nil && room(&f.request.Results[0].Reply, longAnswer) < 0
}

// room is how much of so many bytes a reply leaves; negative: it takes more.
func room(r *redis.Reply, bytes int) int {
	switch r.Type() {
	case redis.Text, redis.Failure:
		return bytes - len(r.Text())
	case redis.Array:
		for i := range r.Len() {
			element := r.At(i)
			if bytes = room(&element, bytes-8); bytes < 0 {
				break
			}
		}
	}
	return bytes
}

// finish is responder's.
func (s *quick) finish(f *flight, out []byte) []byte {
	r := &f.request
	now := f.memory.now
	status := fasthttp.StatusOK
	if f.err != nil || r.Results[0].Err != nil || r.From == redis.ReadReplica || f.route == sourceGet && r.Results[0].Reply.Type() == redis.Null {
		out, status = s.slowly(f, out)
	} else {
		out = s.swiftly(f, out, now)
	}
	class := stringClass
	if f.route == byCommand {
		class = s.metrics.class(r.Commands[0][0])
	}
	s.metrics.observe(class, f.method, statusNumber(status), now.Sub(f.began), 1)
	s.over(f)
	return out
}

// over takes leave of a flight that has its answer.
func (s *quick) over(f *flight) {
	r := &f.request
	s.metrics.inFlight.Add(-1)
	r.Release()
	results := r.Results
	if cap(results) > 64 {
		results = nil
	}
	clear(results[:cap(results)]) // replies are large
	*r = redis.Request{Results: results[:0]}
	f.err, f.form = nil, form{}
	f.phase.Store(starting)
}

// slowly renders an answer with the server's own means.
func (s *quick) slowly(f *flight, out []byte) ([]byte, int) {
	m := f.memory
	if m.ctx == nil {
		m.ctx, m.writer = new(fasthttp.RequestCtx), bufio.NewWriter(nil)
		m.ctx.Init(&fasthttp.Request{}, nil, discard{})
	}
	ctx := m.ctx
	ctx.Response.Reset()
	s.mark(ctx)
	r, err := &f.request, f.err
	if err == nil {
		s.tell(ctx, r)
		err = r.Results[0].Err
	}
	switch {
	case f.route == byCommand:
		s.answerCommand(ctx, r, f.form, err)
	case err != nil:
		fail(ctx, err)
	case f.route == sourceGet:
		s.answerGet(ctx, r)
	default:
		s.answerSet(ctx, r)
	}
	secure(ctx)
	if f.closing {
		ctx.SetConnectionClose()
	}
	b := bytes.NewBuffer(out)
	m.writer.Reset(b)
	_ = ctx.Response.Write(m.writer) // into memory
	_ = m.writer.Flush()
	m.writer.Reset(nil) // it is the loop's, the answer is not
	return b.Bytes(), ctx.Response.StatusCode()
}

// swiftly renders an answer with status 200.
func (s *quick) swiftly(f *flight, out []byte, now time.Time) []byte {
	r := &f.request
	switch {
	case f.route == sourceGet:
		text := r.Results[0].Reply.Text()
		out = s.begin(f, out, now, typeOf(bytesOf(text)), len(text))
		return append(out, text...)
	case f.route == sourceSet:
		key, value := r.Commands[0][1], r.Commands[0][2]
		kind := textPlain
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			kind = octetStream
		}
		out = s.begin(f, out, now, kind, len(setWords)+len(key)+len(setBetween)+len(value))
		out = append(append(out, setWords...), key...)
		return append(append(out, setBetween...), value...)
	}
	kind := applicationJSON
	if f.form.resp2 {
		kind = octetStream
	}
	result := &r.Results[0]
	body := f.memory.body[:0]
	if f.form.resp2 {
		body = appendRESP(body, result)
	} else {
		body = appendResult(body, result, f.form.base64)
	}
	return s.inBody(f, out, now, kind, body)
}

// inBody appends an answer whose body was made in the loop's memory for one.
func (s *quick) inBody(f *flight, out []byte, now time.Time, kind string, body []byte) []byte {
	out = append(s.begin(f, out, now, kind, len(body)), body...)
	if f.memory.body = body; cap(body) > keepOut {
		f.memory.body = nil
	}
	return out
}

// cachedLine is in an answer that comes from the cache.
const cachedLine = readHeader + ": cached\r\n"

// begin appends the header of an answer.
func (s *quick) begin(f *flight, out []byte, now time.Time, kind string, length int) []byte {
	r := &f.request
	out = s.head.append(out, now, kind, length)
	if r.Token != "" {
		out = append(append(append(out, tokenHeader+": "...), r.Token...), answerMark)
		out = strconv.AppendUint(out, s.answers.Add(1), 36)
		out = append(out, "\r\n"...)
	}
	switch r.From {
	case redis.ReadCached:
		out = append(out, cachedLine...)
	case redis.ReadReplica:
		out = append(append(append(out, readHeader+": "...), readFromReplica(r)...), "\r\n"...)
	}
	if f.closing {
		out = append(out, "Connection: close\r\n"...)
	}
	return append(out, "\r\n"...)
}
