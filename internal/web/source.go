package web

import (
	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/response"
)

// set serves the tutorial's route /set?key=K&value=V, and get, below, its /get?key=K, both in the
// tutorial's plain text (docs/web.md, "Routes"). HEAD is not allowed here, since it must not write.
func (h *commandHandler) set(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := response.RequireMethod(ctx, response.CommandMethods, response.GetPost...); err != nil {
		response.SendTextError(ctx, err)
		return
	}
	if err := h.sourceDo(ctx, who, h.sourceSet, h.answerSet); err != nil {
		response.SendTextError(ctx, err)
	}
}

// sourceSet reads the command SET from a query.
func (h *commandHandler) sourceSet(a *arguments, query []byte) error {
	a.add(setName)
	key, err := a.parameter(query, "key")
	if err != nil {
		return err
	}
	value, err := a.parameter(query, "value")
	if err != nil {
		return err
	}
	if key <= 0 || value < 0 { // an empty value is a value, an empty key is not a key
		return response.BadRequest("OOps, the key or value is NULL")
	}
	if key > h.maxKey {
		return response.KeyTooLong(h.maxKey)
	}
	a.endCommand()
	return nil
}

// The words of the response around key and value.
const (
	setWords   = "OK. We have set "
	setBetween = " to be "
)

// answerSet sends what was set.
func (h *commandHandler) answerSet(ctx *fasthttp.RequestCtx, r *redis.Request) {
	key, value := r.Commands[0][1], r.Commands[0][2]
	body := make([]byte, 0, len(setWords)+len(key)+len(setBetween)+len(value))
	body = append(append(body, setWords...), key...)
	body = append(append(body, setBetween...), value...)
	response.SendBytes(ctx, body)
}

// get sends a value in the bytes in which it was stored: /get?key=K.
func (h *commandHandler) get(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := response.RequireMethod(ctx, response.CommandMethods, response.GetHead...); err != nil {
		response.SendTextError(ctx, err)
		return
	}
	if err := h.sourceDo(ctx, who, h.sourceGet, h.answerGet); err != nil {
		response.SendTextError(ctx, err)
	}
}

// sourceGet reads the command GET from a query.
func (h *commandHandler) sourceGet(a *arguments, query []byte) error {
	a.add(getName)
	switch key, err := a.parameter(query, "key"); {
	case err != nil:
		return err
	case key <= 0:
		return response.BadRequest("OOps, the key is null")
	case key > h.maxKey:
		return response.KeyTooLong(h.maxKey)
	}
	a.endCommand()
	return nil
}

var setName, getName = []byte("SET"), []byte("GET")

// answerGet sends the value, or a 404 when there is none.
func (h *commandHandler) answerGet(ctx *fasthttp.RequestCtx, r *redis.Request) {
	if r.Results[0].Reply.Type() == redis.Null {
		response.SendText(ctx, fasthttp.StatusNotFound, "There is no such key.")
		return
	}
	body := response.BytesOf(r.Results[0].Reply.Text())
	if r.Held() > 0 {
		response.SendLong(ctx, r, response.TypeOf(body), &response.LongBody{Results: r.Results, Raw: true})
		return
	}
	response.SendBytes(ctx, body)
}

// sourceDo carries out a command of the tutorial's routes. read reads it from the query, and then
// sends the response.
func (h *commandHandler) sourceDo(ctx *fasthttp.RequestCtx, who *token.Rights, read func(*arguments, []byte) error, then func(*fasthttp.RequestCtx, *redis.Request)) error {
	a, r := acquireArguments(), acquireRequest()
	defer releaseArguments(a)
	defer releaseRequest(r)
	if err := read(a, ctx.URI().QueryString()); err != nil {
		return err
	}
	r.Commands = a.commands()
	a.options.ReadHeader(&ctx.Request.Header)
	if err := h.do(ctx, who, &a.options, r); err != nil {
		return err
	}
	then(ctx, r)
	return nil
}
