package web

import (
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
)

// set answers the source's words: /set?key=K&value=V.
// What only wants to look (HEAD) must not write.
func (s *Server) set(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := allowed(ctx, getPost); err != nil {
		fail(ctx, err)
		return
	}
	query := ctx.URI().QueryString()
	key, ok, err := parameter(query, "key")
	if err != nil {
		fail(ctx, err)
		return
	}
	value, hasValue, err := parameter(query, "value")
	if err != nil {
		fail(ctx, err)
		return
	}
	if !ok || len(key) == 0 || !hasValue { // an empty value is one; an empty key is none
		fail(ctx, badRequest("OOps, the key or value is NULL"))
		return
	}
	if len(key) > s.cfg.MaxKey {
		fail(ctx, s.keyTooLong())
		return
	}
	if err := s.sourceDo(ctx, who, func(*redis.Request) {}, "SET", key, value); err != nil {
		fail(ctx, err)
		return
	}
	body := make([]byte, 0, len(key)+len(value)+32)
	body = append(body, "OK. We have set "...)
	body = append(body, key...)
	body = append(body, " to be "...)
	body = append(body, value...)
	s.bytes(ctx, body)
}

// get answers a value as it went in: /get?key=K.
func (s *Server) get(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := allowed(ctx, getHead); err != nil {
		fail(ctx, err)
		return
	}
	key, ok, err := parameter(ctx.URI().QueryString(), "key")
	switch {
	case err != nil:
		fail(ctx, err)
		return
	case !ok || len(key) == 0:
		fail(ctx, badRequest("OOps, the key is null"))
		return
	case len(key) > s.cfg.MaxKey:
		fail(ctx, s.keyTooLong())
		return
	}
	err = s.sourceDo(ctx, who, func(r *redis.Request) {
		if r.Results[0].Reply.Type() == redis.Null {
			answer(ctx, fasthttp.StatusNotFound, "There is no such key.")
			return
		}
		s.bytes(ctx, bytesOf(r.Results[0].Reply.Text()))
	}, "GET", key)
	if err != nil {
		fail(ctx, err)
	}
}

// sourceDo carries out a command of the source's routes. then gets the answer,
// which is gone when it returns.
func (s *Server) sourceDo(ctx *fasthttp.RequestCtx, who *token.Rights, then func(*redis.Request), name string, args ...[]byte) error {
	a, r := acquireArguments(), acquireRequest()
	defer releaseArguments(a)
	defer releaseRequest(r)
	a.add([]byte(name))
	for _, arg := range args {
		a.add(arg)
	}
	a.endCommand()
	r.Commands = a.commands()
	a.wishes.find(&ctx.Request.Header)
	if err := s.do(ctx, who, &a.wishes, r); err != nil {
		return err
	}
	then(r)
	return nil
}

// bytes answers a client's own bytes.
func (s *Server) bytes(ctx *fasthttp.RequestCtx, body []byte) {
	if utf8.Valid(body) {
		ctx.SetContentType(textPlain)
	} else {
		ctx.SetContentType(octetStream)
	}
	ctx.SetBody(body)
}
