package operation

import (
	"strings"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
)

// How long the answer to a GET is cannot be known before it is there, and what it was lately is no
// proof: the key may have another value by now. A value of tens of megabytes on a shared connection
// would hold up all requests on it, and many at once the master itself, so that Sentinels replace
// it. So a GET goes there as GETRANGE of no more than a short value has. What is longer is asked
// for again aside, where its length is asked for first.
//
// GETRANGE returns an empty string also if there is no key, so EXISTS goes behind it. Another
// client's write may come between the two: an empty string and a key that exists may be a key that
// was set in between. Then both are asked for again in one transaction.

// boundedRead is how a GET is carried out.
type boundedRead uint8

const (
	Unbounded boundedRead = iota // as GET
	InPair                       // as GETRANGE and EXISTS
	inExec                       // as these two in a transaction
)

// Boundable reports whether a command is a GET that may go as a bounded read.
func Boundable(cmd command.Command) bool {
	return len(cmd) == 2 && len(cmd[0]) == 3 && strings.EqualFold(cmd[0], "get")
}

// rangeEnd is the end of a range that has one byte more than a short value.
const rangeEnd = int64(meter.LargeAnswer)

// Encode appends the commands of a bounded read of a key.
func (r boundedRead) Encode(b rueidis.Builder, batch rueidis.Commands, key string) rueidis.Commands {
	if r == inExec {
		batch = append(batch, b.Multi().Build())
	}
	batch = append(batch, b.Getrange().Key(key).Start(0).End(rangeEnd).Build(), b.Exists().Key(key).Build())
	if r == inExec {
		batch = append(batch, b.Exec().Build())
	}
	return batch
}

// ReadBounded takes the answers to a bounded read. It returns the one that stands for GET's. If it
// returns none, the operation has its result or is not over: then tells which.
func (o *Operation) ReadBounded(answers []rueidis.RedisResult) (own []rueidis.RedisResult, then Next) {
	if o.Bounded == inExec {
		return o.readBoundedExec(answers)
	}
	text, err := answers[0].ToString()
	switch {
	case err != nil && o.unboundedInstead(answers[0]):
		return nil, Repeat
	case err != nil || text != "":
		return answers[:1], o.short(text)
	}

	exists, err := answers[1].AsInt64()
	switch {
	case err == nil && exists == 0:
		return []rueidis.RedisResult{{}}, Settle // which is no reply: see Reply.Type
	case err == nil:
		o.Bounded = inExec
	case !o.unboundedInstead(answers[1]):
		return answers[1:], Settle
	}
	return nil, Repeat
}

// readBoundedExec is ReadBounded for a transaction.
func (o *Operation) readBoundedExec(answers []rueidis.RedisResult) (own []rueidis.RedisResult, then Next) {
	for i := range answers {
		if err := answers[i].Error(); err != nil {
			return answers[i : i+1], Settle
		}
	}
	list, _ := answers[len(answers)-1].ToArray()
	if len(list) != 2 {
		return answers[len(answers)-1:], Settle
	}
	text, err := list[0].ToString()
	exists, _ := list[1].AsInt64()
	switch {
	case err != nil:
		o.Results = append(o.Results, request.Result{Err: o.Refusal(outcome.WordsOf(list[0]))})
	case text == "" && exists == 0:
		o.Results = append(o.Results, request.Result{})
	default:
		o.Results = append(o.Results, request.Result{Reply: resp.FromMessage(list[0])})
	}
	return nil, o.short(text)
}

// short returns settle for a text that is the answer to GET. If it is only the beginning of a longer
// one, the operation has to go aside.
func (o *Operation) short(text string) Next {
	if int64(len(text)) <= rangeEnd {
		return Settle
	}
	o.Ledger.Lengths.Learn(o.Learns, int64(len(text)))
	o.Results = o.Results[:0]
	o.Drop()
	o.Spent = 0
	o.Finish(ErrLarge)
	return Decided
}

// unboundedInstead reports whether an operation has to go as GET, because Redis refused one of the
// commands that stand for it: the Redis user may have the right to GET alone.
func (o *Operation) unboundedInstead(a rueidis.RedisResult) bool {
	m, err := a.ToMessage()
	if _, ok := rueidis.IsRedisErr(err); !ok {
		return false
	}
	code, _, _ := strings.Cut(outcome.WordsOf(m).Error(), " ")
	if code != "NOPERM" && code != "ERR" {
		return false
	}
	o.Bounded, o.wasBounded = Unbounded, true
	return true
}

// ShortOf returns the answer of a replica that stands for GET's; nil: the master has to be asked.
func (o *Operation) ShortOf(answers []rueidis.RedisResult) []rueidis.RedisResult {
	text, err := answers[0].ToString()
	switch exists, _ := answers[1].AsInt64(); {
	case int64(len(text)) > rangeEnd:
		o.Ledger.Lengths.Learn(o.Learns, int64(len(text)))
	case err == nil && text != "":
		return answers[:1]
	case err == nil && answers[1].Error() == nil && exists == 0:
		return []rueidis.RedisResult{{}}
	}
	return nil // a refusal is worded by the master
}
