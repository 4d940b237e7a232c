// Package fasthandler answers commands on event loops. It is the bridge between package eventloop,
// which knows connections and no commands, and the packages that know commands, rights and options.
//
// Not here: what only the HTTP server answers (package web).
package fasthandler

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
	"holdfast/internal/web/eventloop"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/observe"
	"holdfast/internal/web/response"
	"holdfast/internal/web/routes"
)

// Store is the way to the data for callers that do not block: see redis.Client. Several loops call
// it at once.
type Store interface {
	Start(r *redis.Request, done func(error))
	Cached(key []byte, now time.Time) (text string, readable, ok bool)
	Known(cmd redis.Command) *redis.Spec
}

// Without this check, loops would serve nothing once redis.Client ceased to be a Store, and nothing
// would show it.
var _ Store = (*redis.Client)(nil)

// expresser is a Store from which loops may read on connections of their own.
type expresser interface {
	Express(ctx context.Context) (*redis.Express, net.Conn, error)
}

// Handler answers commands on loops. It declines whatever is not plainly good before it is begun,
// because the HTTP server has the words for that. Other responses have the same bytes as the HTTP
// server's: the handler renders them with the same functions, or faster where they are nothing but a
// value. All fields but Node have to be set.
type Handler struct {
	Store    Store
	Commands *command.Handler
	Auth     *auth.Authorizer
	Rules    *consistency.Rules
	Senders  *fair.Senders
	Metrics  *observe.Metrics
	Head     *httpfast.ResponseHead
	Node     []byte // the node's name; empty: it is not sent
	// Shared: everybody may have what somebody has read before, since no tokens are asked for.
	Shared bool
}

var _ eventloop.Handler = (*Handler)(nil)

// requestState is what the handler keeps of a request under way.
type requestState struct {
	// lent holds the command while borrowed is true. Its memory may be reused as soon as the
	// response is written, because the read connection, unlike Store.Start, keeps no reference to the
	// command.
	lent     command.BorrowedCommand
	borrowed bool
	began    time.Time
	method   int
	came     routes.Form // how the command came
	form     response.Form
}

// stateOf returns the state of a pending request.
func stateOf(f *eventloop.Pending) *requestState {
	if st, ok := f.State.(*requestState); ok {
		return st
	}
	st := new(requestState)
	f.State = st
	return st
}

// scratch is what requests use one after the other: see eventloop.Memory.
type scratch struct {
	arguments command.Arguments
	body      []byte
	// ctx and writer render responses with the server's own functions; made once.
	ctx    *fasthttp.RequestCtx
	writer *bufio.Writer
}

// scratchOf returns the scratch memory of a pending request.
func scratchOf(f *eventloop.Pending) *scratch {
	if m, ok := f.Memory.Scratch.(*scratch); ok {
		return m
	}
	m := new(scratch)
	f.Memory.Scratch = m
	return m
}

// tidy empties the arguments, and frees them if they grew large.
func (m *scratch) tidy() {
	if m.arguments.Large() {
		m.arguments = command.Arguments{}
	}
	m.arguments.Reset()
}

// discard drops what fasthttp logs.
type discard struct{}

func (discard) Printf(string, ...any) {}

// Wants implements eventloop.Handler.
func (s *Handler) Wants(q *httpfast.Request) bool {
	return formOf(q) != routes.NotOnLoop && s.Auth.AnswersTo(q.Host)
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

// Respond implements eventloop.Handler.
func (s *Handler) Respond(f *eventloop.Pending, q *httpfast.Request, out []byte) ([]byte, eventloop.Progress) {
	if !s.Auth.AnswersTo(q.Host) {
		return out, eventloop.Declined
	}
	if out, ok := s.serveCached(f, q, out); ok {
		return out, eventloop.Answered
	}
	came := formOf(q)
	if came == routes.NotOnLoop {
		return out, eventloop.Declined
	}
	r, st := &f.Request, stateOf(f)
	spec := s.prepare(f, st, q, came)
	if spec == nil {
		*r = redis.Request{Results: r.Results[:0]}
		st.form = response.Form{}
		return out, eventloop.Declined
	}
	st.began, st.method, st.came = f.Memory.Now, q.Method, came
	s.Metrics.InFlight.Add(1)
	if f.Board(spec) || !s.Again(f) {
		return out, eventloop.Underway
	}
	if s.Long(f) {
		return out, eventloop.Landed
	}
	f.Memory.Now = time.Now()
	return s.Finish(f, out), eventloop.Answered
}

// serveCached answers a GET from the cache, where everybody may do everything: there, anybody may
// have what somebody has read before, so nothing else has to be checked.
func (s *Handler) serveCached(f *eventloop.Pending, q *httpfast.Request, out []byte) ([]byte, bool) {
	if from, _ := consistency.ReadFrom(&q.Options, s.Rules.Read); !s.Shared || from != redis.ReadCached || !consistency.IsPlainRead(&q.Options) {
		return out, false
	}

	key, came := plainGet(q)
	if len(key) == 0 {
		return out, false
	}
	// The request was there when the loop read the clock, so a value that was good then is good
	// enough.
	now := f.Memory.Now
	text, readable, ok := s.Store.Cached(key, now)
	if !ok || len(text) > longAnswer {
		return out, false
	}
	f.Request.From = redis.ReadCached // for begin
	if came == routes.TutorialGet {
		kind := httpfast.TextPlain
		if !readable {
			kind = httpfast.OctetStream
		}
		out = append(s.begin(f, out, now, kind, len(text)), text...)
	} else {
		body := append(scratchOf(f).body[:0], `{"result":`...)
		out = s.inBody(f, out, now, httpfast.JSON, append(response.AppendString(body, text), '}'))
	}
	f.Request.From = redis.ReadMaster
	f.Memory.Hits++
	return out, true
}

// Answered implements eventloop.Handler.
func (s *Handler) Answered(hits int, took time.Duration) {
	s.Metrics.Observe(observe.StringClass, routes.Get, observe.StatusOK, took, uint64(hits))
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

// Again implements eventloop.Handler.
func (s *Handler) Again(f *eventloop.Pending) bool {
	if st := stateOf(f); st.borrowed { // the store may keep it for longer than the request
		f.Request.Commands, st.borrowed = st.lent.Kept(), false
	}
	s.Store.Start(&f.Request, f.Started)
	return f.LandedEarly()
}

// Express implements eventloop.Handler.
func (s *Handler) Express(ctx context.Context) (*redis.Express, net.Conn, error) {
	if x, ok := s.Store.(expresser); ok {
		return x.Express(ctx)
	}
	return nil, nil, errors.ErrUnsupported
}

// prepare makes the redis.Request of a request, and returns the spec of its command. It returns nil
// if anything about the request is not plainly good, which the HTTP server then explains.
func (s *Handler) prepare(f *eventloop.Pending, st *requestState, q *httpfast.Request, came routes.Form) *redis.Spec {
	who, err := s.Auth.Rights(q.Authorization, q.Query)
	if err != nil {
		return nil
	}

	m := scratchOf(f)
	a := &m.arguments
	defer m.tidy()
	switch came {
	case routes.TutorialGet:
		err = s.Commands.ReadTutorialGet(a, q.Query)
	case routes.TutorialSet:
		err = s.Commands.ReadTutorialSet(a, q.Query)
	case routes.InBody:
		err = a.ReadBody(q.Body)
	default:
		err = s.commandInPath(a, q)
	}
	if err != nil {
		return nil
	}

	r := &f.Request
	r.Commands = a.Borrow(&st.lent)
	if st.borrowed = r.Commands != nil; !st.borrowed {
		r.Commands = a.Commands()
	}

	spec := s.Store.Known(r.Commands[0])
	if spec == nil || s.Commands.Check(who, r.Commands) != nil {
		return nil
	}
	if came.IsCommand() {
		r.WantToken = true // on every answer
		if st.form, err = consistency.ResponseForm(&q.Options); err != nil {
			return nil
		}
	}
	if spec.ReadOnly {
		consistency.DropBalancerHeaders(&q.Options)
	}
	if s.Rules.Apply(who, &q.Options, r) != nil {
		return nil
	}

	if who != nil {
		r.Sender, r.Client = who.Name, who.Name
		return spec
	}
	address, told := s.Senders.FromBalancer(q.Source) // as fair.Senders.Reader and command.Handler.redisSender do
	r.Client = address
	if !spec.BriefFor(r.Commands[0]) {
		if !told {
			address = f.Peer()
		}
		r.Sender = address
	}
	return spec
}

// longAnswer is the size of a reply, in bytes, above which its response is long. Escaped for JSON,
// the response may have six times as many bytes, each of which takes some ten nanoseconds.
const longAnswer = 64 << 10

// Long implements eventloop.Handler.
func (s *Handler) Long(f *eventloop.Pending) bool {
	return f.Err == nil && f.Request.Results[0].Err == nil && room(&f.Request.Results[0].Reply, longAnswer) < 0
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

// Finish implements eventloop.Handler.
func (s *Handler) Finish(f *eventloop.Pending, out []byte) []byte {
	r, st := &f.Request, stateOf(f)
	now := f.Memory.Now
	status := fasthttp.StatusOK
	if f.Err != nil || r.Results[0].Err != nil || r.From == redis.ReadReplica || st.came == routes.TutorialGet && r.Results[0].Reply.Type() == redis.Null {
		out, status = s.renderGeneric(f, out)
	} else {
		out = s.renderOK(f, out, now)
	}
	class := observe.StringClass
	if st.came.IsCommand() {
		class = s.Metrics.Class(r.Commands[0][0])
	}
	s.Metrics.Observe(class, st.method, observe.StatusNumber(status), now.Sub(st.began), 1)
	s.over(f)
	return out
}

// over makes a pending request ready for its next request.
func (s *Handler) over(f *eventloop.Pending) {
	r := &f.Request
	s.Metrics.InFlight.Add(-1)
	r.Release()
	results := r.Results
	if cap(results) > 64 {
		results = nil
	}
	clear(results[:cap(results)]) // replies are large
	*r = redis.Request{Results: results[:0]}
	stateOf(f).form = response.Form{}
	f.Renew()
}

// renderGeneric renders a response with the server's own functions. It returns the status, too.
func (s *Handler) renderGeneric(f *eventloop.Pending, out []byte) ([]byte, int) {
	m, st := scratchOf(f), stateOf(f)
	if m.ctx == nil {
		m.ctx, m.writer = new(fasthttp.RequestCtx), bufio.NewWriter(nil)
		m.ctx.Init(&fasthttp.Request{}, nil, discard{})
	}
	ctx := m.ctx
	ctx.Response.Reset()
	response.SetCommonHeaders(ctx, s.Node)

	r, err := &f.Request, f.Err
	if err == nil {
		s.Rules.SetResultHeaders(ctx, r)
		err = r.Results[0].Err
	}
	switch {
	case st.came.IsCommand():
		s.Commands.SendResult(ctx, r, st.form, err)
	case err != nil:
		response.SendTextError(ctx, err)
	case st.came == routes.TutorialGet:
		s.Commands.SendTutorialGet(ctx, r)
	default:
		s.Commands.SendTutorialSet(ctx, r)
	}
	response.SetBrowserHeaders(ctx)
	if f.Closing {
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
func (s *Handler) renderOK(f *eventloop.Pending, out []byte, now time.Time) []byte {
	r, st := &f.Request, stateOf(f)
	switch st.came {
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
	if st.form.RESP2 {
		kind = httpfast.OctetStream
	}
	result := &r.Results[0]
	body := scratchOf(f).body[:0]
	if st.form.RESP2 {
		body = response.AppendRESP(body, result)
	} else {
		body = response.AppendResult(body, result, st.form.Base64)
	}
	return s.inBody(f, out, now, kind, body)
}

// inBody appends a response whose body was made in scratch.body, and keeps that for the next one.
func (s *Handler) inBody(f *eventloop.Pending, out []byte, now time.Time, kind string, body []byte) []byte {
	out = append(s.begin(f, out, now, kind, len(body)), body...)
	m := scratchOf(f)
	if m.body = body; cap(body) > eventloop.KeepOut {
		m.body = nil
	}
	return out
}

// cachedLine is in the header of a response from the cache.
const cachedLine = consistency.ReadHeader + ": cached\r\n"

// begin appends the header of a response with status 200.
func (s *Handler) begin(f *eventloop.Pending, out []byte, now time.Time, kind string, length int) []byte {
	r := &f.Request
	out = s.Head.Append(out, now, kind, length)
	if r.Token != "" {
		out = append(s.Rules.AppendToken(append(out, consistency.TokenHeader+": "...), r.Token), "\r\n"...)
	}
	switch r.From {
	case redis.ReadCached:
		out = append(out, cachedLine...)
	case redis.ReadReplica:
		out = append(append(append(out, consistency.ReadHeader+": "...), consistency.ReplicaRead(r)...), "\r\n"...)
	}
	if f.Closing {
		out = append(out, "Connection: close\r\n"...)
	}
	return append(out, "\r\n"...)
}

// FinishTo implements eventloop.Handler.
func (s *Handler) FinishTo(f *eventloop.Pending, conn net.Conn) error {
	r, st := &f.Request, stateOf(f)
	if f.Err != nil || r.Results[0].Err != nil || st.came == routes.TutorialSet || r.Results[0].Reply.Type() == redis.Null {
		out := s.Finish(f, nil)
		_ = conn.SetWriteDeadline(time.Now().Add(httpfast.WriteTimeout))
		_, err := conn.Write(out)
		return err
	}

	defer s.over(f)
	body, kind := &response.LongBody{Results: r.Results, Form: st.form}, httpfast.JSON
	class := observe.StringClass
	switch {
	case st.came == routes.TutorialGet:
		body.Raw = true
		kind = response.TypeOf(response.BytesOf(r.Results[0].Reply.Text()))
	case st.form.RESP2:
		kind = httpfast.OctetStream
	}
	if st.came.IsCommand() {
		class = s.Metrics.Class(r.Commands[0][0])
	}

	length := body.Length()
	now := f.Memory.Now
	s.Metrics.Observe(class, st.method, observe.StatusOK, now.Sub(st.began), 1)
	response.SetDeadline(conn, length)
	if _, err := conn.Write(s.begin(f, nil, now, kind, length)); err != nil {
		return err
	}
	_, err := body.WriteTo(conn)
	return err
}

// commandInPath is what command.Handler does for a command in the path, for a fast request. It fails where Redis would have to be
// asked about the command.
func (s *Handler) commandInPath(a *command.Arguments, q *httpfast.Request) error {
	words, err := a.ReadPath(q.Path, q.Query, q.Body)
	if err != nil || q.Method == routes.Get || len(q.Body) > 0 {
		return err
	}
	cmd := a.Commands()[0]
	spec := s.Store.Known(cmd)
	if spec == nil {
		return errUnknown
	}
	a.AddEmptyBody(spec, cmd, words)
	return nil
}

// errUnknown leaves a request to the HTTP server.
var errUnknown = errors.New("the command is not known yet")
