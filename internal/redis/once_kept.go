package redis

import (
	"errors"
	"strconv"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/rewrite"
)

// errDone is the error of a repetition of a request whose answer was not kept.
var errDone = errors.New("the request was carried out before, and its answer is gone")

// keepable reports whether answers are short enough to stand in a record.
func keepable(answers []rueidis.RedisMessage) bool {
	bytes, elements := int64(maxKeptBytes), maxKeptElements
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

// replay returns the n results that the record of a transaction has.
func replay(kept []byte, n int) ([]Result, error) {
	var all rueidis.RedisMessage
	if len(kept) == 0 || all.CacheUnmarshalView(kept) != nil {
		return nil, errDone
	}
	list, err := all.ToArray()
	if err != nil || len(list) < n {
		return nil, errDone
	}
	return results(list[len(list)-n:]), nil
}

// replayed is replay for commands that may have a cursor. A cursor is the one of the process
// that carried them out, whose origin stands before their answers.
func replayed(kept []byte, commands []Command) ([]Result, error) {
	if !rewrite.HasCursor(commands) {
		out, err := replay(kept, len(commands))
		rewrite.HideReserved(commands, out)
		return out, err
	}
	out, err := replay(kept, 1+len(commands))
	if err != nil {
		return nil, err
	}
	from, err := strconv.ParseUint(out[0].Reply.Text(), 10, 64)
	if err != nil {
		return nil, errDone
	}
	rewrite.Origin(from).Stamp(commands, out[1:])
	return out[1:], nil
}

// results returns the elements of EXEC's answer.
func results(list []rueidis.RedisMessage) []Result {
	out := make([]Result, 0, len(list))
	for _, m := range list {
		if err := m.Error(); err != nil && !rueidis.IsRedisNil(err) {
			out = append(out, Result{Err: &Error{Kind: Refused, Cause: outcome.WordsOf(m)}})
		} else {
			out = append(out, Result{Reply: resp.FromMessage(m)})
		}
	}
	return out
}
