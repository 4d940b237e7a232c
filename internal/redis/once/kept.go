package once

import (
	"errors"
	"strconv"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/rewrite"
)

// ErrDone is the error of a repetition of a request whose answer was not kept.
var ErrDone = errors.New("the request was carried out before, and its answer is gone")

// Keepable reports whether answers are short enough to stand in a record.
func Keepable(answers []rueidis.RedisMessage) bool {
	bytes, elements := int64(MaxKeptBytes), MaxKeptElements
	var weigh func([]rueidis.RedisMessage)
	weigh = func(list []rueidis.RedisMessage) {
		elements -= len(list)
		for i := range list {
			if inner, err := list[i].ToArray(); err == nil {
				weigh(inner)
			} else {
				bytes -= meter.Length(&list[i])
			}
		}
	}
	weigh(answers)
	return bytes >= 0 && elements >= 0
}

// Replay returns the n results that the record of a transaction has.
func Replay(kept []byte, n int) ([]request.Result, error) {
	var all rueidis.RedisMessage
	if len(kept) == 0 || all.CacheUnmarshalView(kept) != nil {
		return nil, ErrDone
	}
	list, err := all.ToArray()
	if err != nil || len(list) < n {
		return nil, ErrDone
	}
	return Results(list[len(list)-n:]), nil
}

// Replayed is replay for commands that may have a cursor. A cursor is the one of the process
// that carried them out, whose origin stands before their answers.
func Replayed(kept []byte, commands []command.Command) ([]request.Result, error) {
	if !rewrite.HasCursor(commands) {
		out, err := Replay(kept, len(commands))
		rewrite.HideReserved(commands, out)
		return out, err
	}
	out, err := Replay(kept, 1+len(commands))
	if err != nil {
		return nil, err
	}
	from, err := strconv.ParseUint(out[0].Reply.Text(), 10, 64)
	if err != nil {
		return nil, ErrDone
	}
	rewrite.Origin(from).Stamp(commands, out[1:])
	return out[1:], nil
}

// Results returns the elements of EXEC's answer.
func Results(list []rueidis.RedisMessage) []request.Result {
	out := make([]request.Result, 0, len(list))
	for _, m := range list {
		if err := m.Error(); err != nil && !rueidis.IsRedisNil(err) {
			out = append(out, request.Result{Err: &outcome.Error{Kind: outcome.Refused, Cause: outcome.WordsOf(m)}})
		} else {
			out = append(out, request.Result{Reply: resp.FromMessage(m)})
		}
	}
	return out
}
