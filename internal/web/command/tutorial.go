package command

import (
	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/response"
)

// TutorialSet serves the tutorial's route /set?key=K&value=V, and get, below, its /get?key=K, both
// in the tutorial's plain text (docs/web.md, "Routes"). HEAD is not allowed here, since it must not
// write.
func (h *Handler) TutorialSet(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := h.doTutorial(ctx, who, h.ReadTutorialSet, h.SendTutorialSet); err != nil {
		response.SendTextError(ctx, err)
	}
}

// ReadTutorialSet reads the command SET from a query.
func (h *Handler) ReadTutorialSet(a *Arguments, query []byte) error {
	a.add(setName)
	key, err := a.queryParameter(query, "key")
	if err != nil {
		return err
	}
	value, err := a.queryParameter(query, "value")
	if err != nil {
		return err
	}
	if key <= 0 || value < 0 { // an empty value is a value, an empty key is not a key
		return response.BadRequest("OOps, the key or value is NULL")
	}
	if key > h.MaxKey {
		return response.KeyTooLong(h.MaxKey)
	}
	a.endCommand()
	return nil
}

// The words of the response around key and value.
const (
	TutorialSetBefore  = "OK. We have set "
	TutorialSetBetween = " to be "
)

// SendTutorialSet sends what was set.
func (h *Handler) SendTutorialSet(ctx *fasthttp.RequestCtx, r *redis.Request) {
	key, value := r.Commands[0][1], r.Commands[0][2]
	body := make([]byte, 0, len(TutorialSetBefore)+len(key)+len(TutorialSetBetween)+len(value))
	body = append(append(body, TutorialSetBefore...), key...)
	body = append(append(body, TutorialSetBetween...), value...)
	response.SendBytes(ctx, body)
}

// TutorialGet sends a value in the bytes in which it was stored: /get?key=K.
func (h *Handler) TutorialGet(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := h.doTutorial(ctx, who, h.ReadTutorialGet, h.SendTutorialGet); err != nil {
		response.SendTextError(ctx, err)
	}
}

// ReadTutorialGet reads the command GET from a query.
func (h *Handler) ReadTutorialGet(a *Arguments, query []byte) error {
	a.add(getName)
	switch key, err := a.queryParameter(query, "key"); {
	case err != nil:
		return err
	case key <= 0:
		return response.BadRequest("OOps, the key is null")
	case key > h.MaxKey:
		return response.KeyTooLong(h.MaxKey)
	}
	a.endCommand()
	return nil
}

var setName, getName = []byte("SET"), []byte("GET")

// SendTutorialGet sends the value, or a 404 when there is none.
func (h *Handler) SendTutorialGet(ctx *fasthttp.RequestCtx, r *redis.Request) {
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

// doTutorial carries out a command of the tutorial's routes. read reads it from the query, and then
// sends the response.
func (h *Handler) doTutorial(ctx *fasthttp.RequestCtx, who *token.Rights, read func(*Arguments, []byte) error, then func(*fasthttp.RequestCtx, *redis.Request)) error {
	a, r := acquireArguments(), acquireRequest()
	defer releaseArguments(a)
	defer releaseRequest(r)
	if err := read(a, ctx.URI().QueryString()); err != nil {
		return err
	}
	r.Commands = a.Commands()
	a.options.ReadHeader(&ctx.Request.Header)
	if err := h.do(ctx, who, &a.options, r); err != nil {
		return err
	}
	then(ctx, r)
	return nil
}
