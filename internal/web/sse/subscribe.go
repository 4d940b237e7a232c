package sse

import (
	"bytes"
	"context"
	"strconv"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/response"
	"holdfast/internal/web/urlquery"
)

// Subscribe streams the messages to channels, or to those that patterns match: /subscribe/CHANNEL.
// Several are separated by commas or slashes.
func (s *Streams) Subscribe(ctx *fasthttp.RequestCtx, who *token.Rights, patterns bool) {
	command := redis.Command{"SUBSCRIBE"}
	if patterns {
		command[0] = "PSUBSCRIBE"
	}

	_, rest, _ := bytes.Cut(ctx.URI().PathOriginal()[1:], []byte("/"))
	for segment := range bytes.FieldsFuncSeq(rest, func(r rune) bool { return r == '/' || r == ',' }) {
		name, err := urlquery.AppendUnescaped(nil, segment, false)
		if err != nil {
			response.SendError(ctx, err)
			return
		}
		command = append(command, string(name))
	}
	if len(command) == 1 {
		response.SendError(ctx, response.BadRequest("ERR there is no channel in the path; it goes like /subscribe/CHANNEL or /psubscribe/PATTERN"))
		return
	}

	if err := s.auth.PermitStream(who, command); err != nil {
		response.SendError(ctx, err)
		return
	}

	p, err := s.places.Take(ctx, who, len(command)-1)
	if err != nil {
		response.SendError(ctx, err)
		return
	}

	s.serveWhenHeard(ctx, p, func(ctx context.Context, f *Feed) error {
		return s.store.Subscribe(ctx, patterns, command[1:], func(m redis.Message) { f.Event("", "", messageText(m)) })
	})
}

// messageText returns a message as its subscribers get it: its kind, the pattern, the channel, and the
// message or the number of subscriptions, separated by commas.
func messageText(m redis.Message) string {
	switch m.Kind {
	case "message":
		return m.Kind + "," + m.Channel + "," + m.Payload
	case "pmessage":
		return m.Kind + "," + m.Pattern + "," + m.Channel + "," + m.Payload
	}
	name := m.Channel
	if name == "" {
		name = m.Pattern
	}
	return m.Kind + "," + name + "," + strconv.FormatInt(m.Count, 10)
}

// Monitor streams every command that the master carries out.
func (s *Streams) Monitor(ctx *fasthttp.RequestCtx, who *token.Rights) {
	if err := s.auth.PermitStream(who, redis.Command{"MONITOR"}); err != nil {
		response.SendError(ctx, err)
		return
	}
	p, err := s.places.TakeMonitor(ctx, who)
	if err != nil {
		response.SendError(ctx, err)
		return
	}
	s.serveWhenHeard(ctx, p, func(ctx context.Context, f *Feed) error {
		return s.store.Monitor(ctx, func(line string) {
			if line == "OK" {
				line = `"OK"`
			}
			f.Event("", "", line)
		})
	})
}
