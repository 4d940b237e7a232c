package redis

import (
	"github.com/redis/rueidis"
)

// ReplyType is the type of a reply in the protocol RESP2 (Redis manual, "Redis
// serialization protocol specification").
type ReplyType int

// The types of a reply. What RESP3 adds comes as RESP2 has it: a map as a flat
// array, a double as a string.
const (
	Null ReplyType = iota // of both kinds
	Text                  // a string, simple or bulk
	Integer
	Array
	Failure // an error inside an array, such as a transaction's
)

// Reply is what Redis answered to one command.
type Reply struct {
	m rueidis.RedisMessage
	// number: an Integer that came as text, being too big for a script's
	// numbers.
	number bool
	// made, when it is not nil, is the reply.
	made *madeReply
}

// madeReply is a reply that was not read by the client library: no single
// server gave it, or it came to an Express.
type madeReply struct {
	kind   ReplyType
	text   string
	simple bool // see Reply.Simple
	int    int64
	items  []Reply
}

// Type is the type of the reply.
func (r *Reply) Type() ReplyType {
	switch {
	case r.made != nil:
		return r.made.kind
	case r.number:
		return Integer
	case r.m.IsString():
		return Text
	case r.m.IsNil():
		return Null
	case r.m.IsInt64():
		return Integer
	case r.m.IsArray():
		return Array
	}
	if r.m.Error() == nil {
		return Null // no reply at all
	}
	return Failure
}

// Text is a Text's bytes, or a Failure's words. They live as long as the
// reply.
func (r *Reply) Text() string {
	if r.made != nil {
		return r.made.text
	}
	s, _ := r.m.ToString() // of an error, too, with its code
	return s
}

// Simple says that a Text is a simple string (a status, such as +OK) and not a
// bulk string. It is slow.
func (r *Reply) Simple() bool {
	if r.made != nil {
		return r.made.simple
	}
	if !r.m.IsString() {
		return false
	}
	// The type's byte follows seven of the time to live; there is no other
	// way to learn it.
	return r.m.CacheMarshal(nil)[7] == '+'
}

// Int is an Integer's value.
func (r *Reply) Int() int64 {
	if r.made != nil {
		return r.made.int
	}
	n, _ := r.m.AsInt64()
	return n
}

// Len is the length of an Array.
func (r *Reply) Len() int {
	if r.made != nil {
		return len(r.made.items)
	}
	a, _ := r.m.ToArray()
	return len(a)
}

// At is an element of an Array.
func (r *Reply) At(i int) Reply {
	if r.made != nil {
		return r.made.items[i]
	}
	a, _ := r.m.ToArray()
	return Reply{m: a[i]}
}
