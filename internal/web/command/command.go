package command

import (
	"bytes"
	"context"
	"sync"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/auth"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/fair"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
	"holdfast/internal/web/urlquery"
)

// Store carries out commands: see web.Store.
type Store interface {
	Do(ctx context.Context, r *redis.Request) error
	Spec(ctx context.Context, cmd redis.Command) (*redis.Spec, error)
}

// Handler serves commands, pipelines and transactions. Many requests use it at once.
type Handler struct {
	Store               Store
	Auth                *auth.Authorizer
	Rules               *consistency.Rules
	Senders             *fair.Senders
	MaxKey, MaxCommands int // bytes of a key, and commands of one request
}

// requests keeps requests to be used again, because their results are large.
var requests = sync.Pool{New: func() any { return &redis.Request{} }}

func acquireRequest() *redis.Request { return requests.Get().(*redis.Request) }

// releaseRequest takes a request back when its response has been encoded.
func releaseRequest(r *redis.Request) {
	r.Release()
	results := r.Results
	if cap(results) > 64 {
		results = nil
	}
	clear(results[:cap(results)]) // replies are large
	*r = redis.Request{Results: results[:0]}
	requests.Put(r)
}

// Execute serves one command. With inBody the command is in the body. Otherwise it is in the path;
// a body is then an argument behind those of the path and before those of the query.
func (h *Handler) Execute(ctx *fasthttp.RequestCtx, who *token.Rights, inBody bool) (class string) {
	a := acquireArguments()
	defer releaseArguments(a)
	var err error
	if inBody {
		err = a.ReadBody(ctx.Request.Body())
	} else {
		err = h.commandInPath(ctx, a)
	}
	if err != nil {
		response.SendError(ctx, err)
		return "invalid"
	}
	r := acquireRequest()
	r.WantToken = true // on every answer
	defer releaseRequest(r)
	r.Commands = a.Commands()
	a.options.ReadHeader(&ctx.Request.Header)
	f, err := consistency.ResponseForm(&a.options)
	if err == nil {
		err = h.do(ctx, who, &a.options, r)
	}
	h.SendResult(ctx, r, f, err)
	return r.Commands[0][0]
}

// SendResult sends a command's result, or the error that kept it from being carried out.
func (h *Handler) SendResult(ctx *fasthttp.RequestCtx, r *redis.Request, f response.Form, err error) {
	switch {
	case err != nil && !(f.RESP2 && redis.KindOf(err) == redis.Refused):
		response.SendError(ctx, err)
	case err == nil && r.Held() > 0:
		kind := httpfast.JSON
		if f.RESP2 {
			kind = httpfast.OctetStream
		}
		response.SendLong(ctx, r, kind, &response.LongBody{Results: r.Results, Form: f})
	case f.RESP2:
		if err != nil {
			status, _ := response.Outcome(err)
			ctx.SetStatusCode(status)
			r.Results = append(r.Results[:0], redis.Result{Err: err})
		}
		ctx.SetContentType(httpfast.OctetStream)
		ctx.Response.SwapBody(response.AppendRESP(ctx.Response.SwapBody(nil)[:0], &r.Results[0]))
	default:
		ctx.SetContentType(httpfast.JSON)
		ctx.Response.SwapBody(response.AppendResult(ctx.Response.SwapBody(nil)[:0], &r.Results[0], f.Base64))
	}
}

// ReadPath reads a command from the path, which it splits before it unescapes: an escaped slash is
// part of an argument. Behind it come the body, if there is one, and the query, as in
// /set/KEY?EX=60 with the value as the body. It returns how many words are in the path.
func (a *Arguments) ReadPath(path, query, body []byte) (words int, err error) {
	for rest, more := path[1:], true; more; {
		var segment []byte
		segment, rest, more = bytes.Cut(rest, []byte("/"))
		if a.bytes, err = urlquery.AppendUnescaped(a.bytes, segment, false); err != nil {
			return 0, err
		}
		a.endArgument()
	}

	if a.ends[0] == 0 {
		return 0, response.BadRequest("ERR there is no command in the path; it goes like /set/KEY/VALUE or /get/KEY")
	}

	words = len(a.ends)
	if len(body) > 0 {
		a.add(body)
	}

	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte("&"))
		if len(pair) == 0 {
			continue
		}
		name, value, both := bytes.Cut(pair, []byte("="))
		begin := len(a.bytes)
		if a.bytes, err = urlquery.AppendUnescaped(a.bytes, name, true); err != nil {
			return 0, err
		}
		if string(a.bytes[begin:]) == "_token" {
			a.bytes = a.bytes[:begin]
			continue
		}
		a.endArgument()
		if both {
			if a.bytes, err = urlquery.AppendUnescaped(a.bytes, value, true); err != nil {
				return 0, err
			}
			a.endArgument()
		}
	}
	a.endCommand()
	return words, nil
}

// Pipeline serves several commands in order. Each has its own result or error; atomic: they are one
// transaction, of which all or none are carried out.
func (h *Handler) Pipeline(ctx *fasthttp.RequestCtx, who *token.Rights, atomic bool) {
	a := acquireArguments()
	defer releaseArguments(a)
	if err := a.readPipeline(ctx.Request.Body(), h.MaxCommands); err != nil {
		response.SendError(ctx, err)
		return
	}
	a.options.ReadHeader(&ctx.Request.Header)
	f, err := consistency.ResponseForm(&a.options)
	if err != nil {
		response.SendError(ctx, err)
		return
	}

	r := acquireRequest()
	r.WantToken = true // on every answer
	defer releaseRequest(r)

	all := a.Commands()
	r.Commands, r.Atomic = all, atomic
	// A refused command fails by itself, because the others of a pipeline often have other callers:
	// clients put together what is sent at the same time.
	var refusals []error
	if err := h.Check(who, r.Commands); err != nil {
		if atomic {
			response.SendError(ctx, discarded(err))
			return
		}
		r.Commands, refusals = h.permitted(who, all)
	}
	if len(r.Commands) > 0 {
		if err := h.Rules.Apply(who, &a.options, r); err != nil {
			response.SendError(ctx, err)
			return
		}
		r.Sender = h.redisSender(ctx, who, r)
		r.Client = h.Senders.Reader(ctx, who)
		if err := h.Store.Do(consistency.Within(ctx), r); err != nil {
			response.SendError(ctx, err)
			return
		}
		h.Rules.SetResultHeaders(ctx, r)
	}

	results := r.Results
	if refusals != nil {
		results = merge(refusals, r.Results)
	}
	if r.Held() > 0 {
		kind := httpfast.JSON
		if f.RESP2 && !atomic {
			kind = httpfast.OctetStream
		}
		response.SendLong(ctx, r, kind, &response.LongBody{Results: results, Form: response.Form{Base64: f.Base64, RESP2: f.RESP2 && !atomic}, List: kind == httpfast.JSON})
		return
	}

	body := ctx.Response.SwapBody(nil)[:0]
	if f.RESP2 && !atomic { // a transaction's answer is always JSON
		ctx.SetContentType(httpfast.OctetStream)
		for i := range results {
			body = response.AppendRESP(body, &results[i])
		}
	} else {
		ctx.SetContentType(httpfast.JSON)
		body = append(body, '[')
		for i := range results {
			if i > 0 {
				body = append(body, ',')
			}
			body = response.AppendResult(body, &results[i], f.Base64)
		}
		body = append(body, ']')
	}
	ctx.Response.SwapBody(body)
}

// permitted returns those of the commands that are allowed, and the errors of the others, each at
// its command's place.
func (h *Handler) permitted(who *token.Rights, all []redis.Command) (allowed []redis.Command, refusals []error) {
	refusals = make([]error, len(all))
	for i := range all {
		if refusals[i] = h.Check(who, all[i:i+1]); refusals[i] == nil {
			allowed = append(allowed, all[i])
		}
	}
	return allowed, refusals
}

// merge puts the results of the commands that were allowed between the errors of those that were
// not.
func merge(refusals []error, results []redis.Result) []redis.Result {
	all := make([]redis.Result, len(refusals))
	for i, err := range refusals {
		if err != nil {
			all[i].Err = err
		} else {
			all[i], results = results[0], results[1:]
		}
	}
	return all
}

// discarded returns the error of a transaction one of whose commands is refused.
func discarded(err error) error {
	status, text := response.Outcome(err)
	return response.NewError(status, "EXECABORT Transaction discarded because of: "+text)
}

// do carries out a request of one command: it checks the rights, applies the headers, and sets
// those of the response. Its error is also that of the command.
func (h *Handler) do(ctx *fasthttp.RequestCtx, who *token.Rights, w *httpfast.Options, r *redis.Request) error {
	if err := h.Check(who, r.Commands); err != nil {
		return err
	}
	if err := h.Rules.Apply(who, w, r); err != nil {
		return err
	}
	r.Sender = h.redisSender(ctx, who, r)
	r.Client = h.Senders.Reader(ctx, who)
	if err := h.Store.Do(consistency.Within(ctx), r); err != nil {
		return err
	}
	h.Rules.SetResultHeaders(ctx, r)
	return r.Results[0].Err
}

// Check returns nil when the commands are allowed and none of their keys is too long.
func (h *Handler) Check(who *token.Rights, cmds []redis.Command) error {
	for _, cmd := range cmds {
		for _, arg := range cmd[1:] {
			if len(arg) > h.MaxKey {
				if err := h.checkKeys(cmd); err != nil {
					return err
				}
				break
			}
		}
	}
	return h.Auth.Permit(context.Background(), who, cmds)
}

// checkKeys returns nil when none of a command's keys is too long.
func (h *Handler) checkKeys(cmd redis.Command) error {
	spec, err := h.Store.Spec(context.Background(), cmd)
	if err != nil || spec == nil {
		return err
	}
	keys, _ := spec.Keys(cmd)
	for _, key := range keys {
		if len(key) > h.MaxKey {
			return response.KeyTooLong(h.MaxKey)
		}
	}
	return nil
}

// redisSender returns sender for redis.Request.Sender. Without tokens it returns nothing for a
// single command that is brief, since nothing looks at it then. Several brief commands may together
// not be brief.
func (h *Handler) redisSender(ctx *fasthttp.RequestCtx, who *token.Rights, r *redis.Request) string {
	if who == nil && !r.Atomic && len(r.Commands) == 1 {
		spec, err := h.Store.Spec(ctx, r.Commands[0])
		if err == nil && spec != nil && spec.BriefFor(r.Commands[0]) {
			return ""
		}
	}
	return h.Senders.Sender(ctx, who)
}
