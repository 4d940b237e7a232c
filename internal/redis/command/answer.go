package command

import (
	"hash/maphash"
	"strings"
)

// AnswerKind tells by which of its words the length of a command's answer is remembered.
type AnswerKind uint8

// The kinds of answers.
const (
	ByNothing AnswerKind = iota // it is short, or not that of another command
	ByKey
	ByField // the key and the word behind it
	ByKeys  // an answer for each key
	ByHash  // the key; there is an answer for each word behind it
)

// answerKinds has the commands whose answers may be long, by their names.
var answerKinds = func() map[string]AnswerKind {
	kinds := map[string]AnswerKind{"hget": ByField, "lindex": ByField, "mget": ByKeys, "hmget": ByHash}
	for _, name := range strings.Fields(`get getex getdel lpop rpop spop lmove rpoplpush zpopmin zpopmax
		lrange zrange zrevrange zrangebyscore zrevrangebyscore zrangebylex zrevrangebylex
		hgetall hvals hkeys smembers sinter sunion sdiff srandmember hrandfield zrandmember
		sort sort_ro dump xrange xrevrange`) {
		kinds[name] = ByKey
	}
	return kinds
}()

var lengthSeed = maphash.MakeSeed()

// Key returns a number that stands for the answer to a command; 0 if there is none.
func (kind AnswerKind) Key(cmd Command) uint64 {
	if len(cmd) < 2 || kind == ByField && len(cmd) < 3 {
		return 0
	}
	h := maphash.String(lengthSeed, cmd[1])
	if kind == ByField {
		h = h*31 + maphash.String(lengthSeed, cmd[2])
	}
	return h | 1
}
