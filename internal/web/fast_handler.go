package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/web/auth"
	"holdfast/internal/web/command"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/observe"
	"holdfast/internal/web/response"
	"holdfast/internal/web/routes"
)

// starter is a Store for callers that do not block: see redis.Client.
type starter interface {
	Start(r *redis.Request, done func(error))
	Cached(key []byte, now time.Time) (text string, readable, ok bool)
	Known(cmd redis.Command) *redis.Spec
}

// Without this check, loops would serve nothing once redis.Client ceased to be a starter, and
// nothing would show it.
var _ starter = (*redis.Client)(nil)

// expresser is a starter from which loops may read on connections of their own.
type expresser interface {
	Express(ctx context.Context) (*redis.Express, net.Conn, error)
}

// fastHandler answers commands on loops. It declines whatever is not plainly good before it is
// begun, because the HTTP server has the words for that. Other responses have the same bytes as the
// HTTP server's: the fast handler renders them with the same functions, or faster where they are
// nothing but a value.
type fastHandler struct {
	store    starter
	commands *command.Handler
	auth     *auth.Authorizer
	rules    *consistency.Rules
	senders  *fair.Senders
	metrics  *observe.Metrics
	head     *httpfast.ResponseHead
	node     []byte // the node's name
	// shared: everybody may have what somebody has read before, since no tokens are asked for.
	shared bool
}

// wants implements fastResponder.
func (s *fastHandler) wants(q *httpfast.Request) bool {
	return formOf(q) != routes.NotOnLoop && s.auth.AnswersTo(q.Host)
}

// formOf returns how the command of a request comes; routes.NotOnLoop: the HTTP server has to answer
// the request.
func formOf(q *httpfast.Request) routes.Form {
	r := routes.Find(q.Path, len(q.Body) > 0)
	if !r.Methods.Has(q.Method) {
		return routes.NotOnLoop
	}
	return r.Loop
}

// respond implements fastResponder.
func (s *fastHandler) respond(f *pendingRequest, q *httpfast.Request, out []byte) ([]byte, progress) {
	if !s.auth.AnswersTo(q.Host) {
		return out, declined
	}
	if out, ok := s.serveCached(f, q, out); ok {
		return out, answered
	}
	came := formOf(q)
	if came == routes.NotOnLoop {
		return out, declined
	}
	r := &f.request
	spec := s.prepare(f, q, came)
	if spec == nil {
		*r = redis.Request{Results: r.Results[:0]}
		f.form = response.Form{}
		return out, declined
	}
	f.began, f.method, f.came = f.memory.now, q.Method, came
	s.metrics.InFlight.Add(1)
	if f.board(spec) || !s.again(f) {
		return out, pending
	}
	if s.long(f) {
		return out, landed
	}
	f.memory.now = time.Now()
	return s.finish(f, out), answered
}

// serveCached answers a GET from the cache, where everybody may do everything: there, anybody may
// have what somebody has read before, so nothing else has to be checked.
func (s *fastHandler) serveCached(f *pendingRequest, q *httpfast.Request, out []byte) ([]byte, bool) {
	if from, _ := consistency.ReadFrom(&q.Options, s.rules.Read); !s.shared || from != redis.ReadCached || !consistency.IsPlainRead(&q.Options) {
		return out, false
	}

	key, came := plainGet(q)
	if len(key) == 0 {
		return out, false
	}
	// The request was there when the loop read the clock, so a value that was good then is good
	// enough.
	now := f.memory.now
	text, readable, ok := s.store.Cached(key, now)
	if !ok || len(text) > longAnswer {
		return out, false
	}
	f.request.From = redis.ReadCached // for begin
	if came == routes.TutorialGet {
		kind := httpfast.TextPlain
		if !readable {
			kind = httpfast.OctetStream
		}
		out = append(s.begin(f, out, now, kind, len(text)), text...)
	} else {
		body := append(f.memory.body[:0], `{"result":`...)
		out = s.inBody(f, out, now, httpfast.JSON, append(response.AppendString(body, text), '}'))
	}
	f.request.From = redis.ReadMaster
	f.memory.hits++
	return out, true
}

// answered implements fastResponder.
func (s *fastHandler) answered(hits int, took time.Duration) {
	s.metrics.Observe(observe.StringClass, routes.Get, observe.StatusOK, took, uint64(hits))
}

// plainGet returns the key of a request for /get?key=K or /get/K whose key is not escaped, and nil
// for any other request.
func plainGet(q *httpfast.Request) (key []byte, came routes.Form) {
	rest, ok := bytes.CutPrefix(q.Path, []byte("/get"))
	switch {
	case !ok || q.Method != routes.Get:
		return nil, 0
	case len(rest) == 0:
		if key, ok = bytes.CutPrefix(q.Query, []byte("key=")); !ok {
			return nil, 0
		}
		came = routes.TutorialGet
	case rest[0] == '/' && len(q.Query) == 0:
		key, came = rest[1:], routes.InPath
	}
	for _, c := range key {
		if c == '%' || c == '+' || c == '&' || c == '/' {
			return nil, 0
		}
	}
	return key, came
}

// again implements fastResponder.
func (s *fastHandler) again(f *pendingRequest) bool {
	if f.borrowed { // the store may keep it for longer than the request
		f.request.Commands, f.borrowed = f.lent.Kept(), false
	}
	s.store.Start(&f.request, f.started)
	return f.landedEarly()
}

// express implements fastResponder.
func (s *fastHandler) express(ctx context.Context) (*redis.Express, net.Conn, error) {
	if x, ok := s.store.(expresser); ok {
		return x.Express(ctx)
	}
	return nil, nil, errors.ErrUnsupported
}

// prepare makes the redis.Request of a request, and returns the spec of its command. It returns nil
// if anything about the request is not plainly good, which the HTTP server then explains.
func (s *fastHandler) prepare(f *pendingRequest, q *httpfast.Request, came routes.Form) *redis.Spec {
	who, err := s.auth.Rights(q.Authorization, q.Query)
	if err != nil {
		return nil
	}

	a := &f.memory.arguments
	defer f.memory.tidy()
	switch came {
	case routes.TutorialGet:
		err = s.commands.ReadTutorialGet(a, q.Query)
	case routes.TutorialSet:
		err = s.commands.ReadTutorialSet(a, q.Query)
	case routes.InBody:
		err = a.ReadBody(q.Body)
	default:
		err = s.commandInPath(a, q)
	}
	if err != nil {
		return nil
	}

	r := &f.request
	r.Commands = a.Borrow(&f.lent)
	if f.borrowed = r.Commands != nil; !f.borrowed {
		r.Commands = a.Commands()
	}

	spec := s.store.Known(r.Commands[0])
	if spec == nil || s.commands.Check(who, r.Commands) != nil {
		return nil
	}
	if came.IsCommand() {
		r.WantToken = true // on every answer
		if f.form, err = consistency.ResponseForm(&q.Options); err != nil {
			return nil
		}
	}
	if spec.ReadOnly && consistency.BalancerHeadersValid(&q.Options) {
		q.Options.Attempts, q.Options.Received = 0, nil
	}
	if s.rules.Apply(who, &q.Options, r) != nil {
		return nil
	}

	if who != nil {
		r.Sender, r.Client = who.Name, who.Name
		return spec
	}
	address, told := s.senders.FromBalancer(q.Source) // as fair.Senders.Reader and command.Handler.redisSender do
	r.Client = address
	if !spec.BriefFor(r.Commands[0]) {
		if !told {
			address = f.peer()
		}
		r.Sender = address
	}
	return spec
}

// longAnswer is the size of a reply, in bytes, above which its response is long. Escaped for JSON,
// the response may have six times as many bytes, each of which takes some ten nanoseconds.
const longAnswer = 64 << 10

// long implements fastResponder.
func (s *fastHandler) long(f *pendingRequest) bool {
	return f.err == nil && f.request.Results[0].Err == nil && room(&f.request.Results[0].Reply, longAnswer) < 0
}

// room returns how many of so many bytes a reply leaves free; negative when it needs more.
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

// finish implements fastResponder.
func (s *fastHandler) finish(f *pendingRequest, out []byte) []byte {
	r := &f.request
	now := f.memory.now
	status := fasthttp.StatusOK
	if f.err != nil || r.Results[0].Err != nil || r.From == redis.ReadReplica || f.came == routes.TutorialGet && r.Results[0].Reply.Type() == redis.Null {
		out, status = s.renderGeneric(f, out)
	} else {
		out = s.renderOK(f, out, now)
	}
	class := observe.StringClass
	if f.came.IsCommand() {
		class = s.metrics.Class(r.Commands[0][0])
	}
	s.metrics.Observe(class, f.method, observe.StatusNumber(status), now.Sub(f.began), 1)
	s.over(f)
	return out
}

// over makes a pending request ready for its next request.
func (s *fastHandler) over(f *pendingRequest) {
	r := &f.request
	s.metrics.InFlight.Add(-1)
	r.Release()
	results := r.Results
	if cap(results) > 64 {
		results = nil
	}
	clear(results[:cap(results)]) // replies are large
	*r = redis.Request{Results: results[:0]}
	f.err, f.form = nil, response.Form{}
	f.phase.Store(starting)
}

// renderGeneric renders a response with the server's own functions. It returns the status, too.
func (s *fastHandler) renderGeneric(f *pendingRequest, out []byte) ([]byte, int) {
	m := f.memory
	if m.ctx == nil {
		m.ctx, m.writer = new(fasthttp.RequestCtx), bufio.NewWriter(nil)
		m.ctx.Init(&fasthttp.Request{}, nil, discard{})
	}
	ctx := m.ctx
	ctx.Response.Reset()
	response.SetCommonHeaders(ctx, s.node)

	r, err := &f.request, f.err
	if err == nil {
		s.rules.SetResultHeaders(ctx, r)
		err = r.Results[0].Err
	}
	switch {
	case f.came.IsCommand():
		s.commands.SendResult(ctx, r, f.form, err)
	case err != nil:
		response.SendTextError(ctx, err)
	case f.came == routes.TutorialGet:
		s.commands.SendTutorialGet(ctx, r)
	default:
		s.commands.SendTutorialSet(ctx, r)
	}
	response.SetBrowserHeaders(ctx)
	if f.closing {
		ctx.SetConnectionClose()
	}

	b := bytes.NewBuffer(out)
	m.writer.Reset(b)
	_ = ctx.Response.Write(m.writer) // into memory
	_ = m.writer.Flush()
	m.writer.Reset(nil) // the writer stays with the loop, b does not
	return b.Bytes(), ctx.Response.StatusCode()
}

// renderOK renders a response with status 200.
func (s *fastHandler) renderOK(f *pendingRequest, out []byte, now time.Time) []byte {
	r := &f.request
	switch f.came {
	case routes.TutorialGet:
		text := r.Results[0].Reply.Text()
		out = s.begin(f, out, now, response.TypeOf(response.BytesOf(text)), len(text))
		return append(out, text...)
	case routes.TutorialSet:
		key, value := r.Commands[0][1], r.Commands[0][2]
		kind := httpfast.TextPlain
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			kind = httpfast.OctetStream
		}
		out = s.begin(f, out, now, kind, len(command.TutorialSetBefore)+len(key)+len(command.TutorialSetBetween)+len(value))
		out = append(append(out, command.TutorialSetBefore...), key...)
		return append(append(out, command.TutorialSetBetween...), value...)
	}
	kind := httpfast.JSON
	if f.form.RESP2 {
		kind = httpfast.OctetStream
	}
	result := &r.Results[0]
	body := f.memory.body[:0]
	if f.form.RESP2 {
		body = response.AppendRESP(body, result)
	} else {
		body = response.AppendResult(body, result, f.form.Base64)
	}
	return s.inBody(f, out, now, kind, body)
}

// inBody appends a response whose body was made in scratch.body, and keeps that for the next one.
func (s *fastHandler) inBody(f *pendingRequest, out []byte, now time.Time, kind string, body []byte) []byte {
	out = append(s.begin(f, out, now, kind, len(body)), body...)
	if f.memory.body = body; cap(body) > keepOut {
		f.memory.body = nil
	}
	return out
}

// cachedLine is in the header of a response from the cache.
const cachedLine = consistency.ReadHeader + ": cached\r\n"

// begin appends the header of a response with status 200.
func (s *fastHandler) begin(f *pendingRequest, out []byte, now time.Time, kind string, length int) []byte {
	r := &f.request
	out = s.head.Append(out, now, kind, length)
	if r.Token != "" {
		out = append(s.rules.AppendToken(append(out, consistency.TokenHeader+": "...), r.Token), "\r\n"...)
	}
	switch r.From {
	case redis.ReadCached:
		out = append(out, cachedLine...)
	case redis.ReadReplica:
		out = append(append(append(out, consistency.ReadHeader+": "...), consistency.ReplicaRead(r)...), "\r\n"...)
	}
	if f.closing {
		out = append(out, "Connection: close\r\n"...)
	}
	return append(out, "\r\n"...)
}

// finishTo implements fastResponder.
func (s *fastHandler) finishTo(f *pendingRequest, conn net.Conn) error {
	r := &f.request
	if f.err != nil || r.Results[0].Err != nil || f.came == routes.TutorialSet || r.Results[0].Reply.Type() == redis.Null {
		out := s.finish(f, nil)
		_ = conn.SetWriteDeadline(time.Now().Add(httpfast.WriteTimeout))
		_, err := conn.Write(out)
		return err
	}

	defer s.over(f)
	body, kind := &response.LongBody{Results: r.Results, Form: f.form}, httpfast.JSON
	class := observe.StringClass
	switch {
	case f.came == routes.TutorialGet:
		body.Raw = true
		kind = response.TypeOf(response.BytesOf(r.Results[0].Reply.Text()))
	case f.form.RESP2:
		kind = httpfast.OctetStream
	}
	if f.came.IsCommand() {
		class = s.metrics.Class(r.Commands[0][0])
	}

	length := body.Length()
	now := f.memory.now
	s.metrics.Observe(class, f.method, observe.StatusOK, now.Sub(f.began), 1)
	response.SetDeadline(conn, length)
	if _, err := conn.Write(s.begin(f, nil, now, kind, length)); err != nil {
		return err
	}
	_, err := body.WriteTo(conn)
	return err
}

// commandInPath is what command.Handler does for a command in the path, for a fast request. It fails where Redis would have to be
// asked about the command.
func (s *fastHandler) commandInPath(a *command.Arguments, q *httpfast.Request) error {
	words, err := a.ReadPath(q.Path, q.Query, q.Body)
	if err != nil || q.Method == routes.Get || len(q.Body) > 0 {
		return err
	}
	cmd := a.Commands()[0]
	spec := s.store.Known(cmd)
	if spec == nil {
		return errUnknown
	}
	a.AddEmptyBody(spec, cmd, words)
	return nil
}

// errUnknown leaves a request to the HTTP server.
var errUnknown = errors.New("the command is not known yet")
