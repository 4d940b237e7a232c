package resp

import (
	"github.com/redis/rueidis"
)

// Type is the type of a reply in the protocol RESP2 (Redis manual, "Redis
// serialization protocol specification").
type Type int

// The types of a reply. What RESP3 adds comes as RESP2 has it: a map as a flat
// array, a double as a string.
const (
	Null Type = iota // of both kinds
	Text             // a string, simple or bulk
	Integer
	Array
	Failure // an error inside an array, such as a transaction's
)

// Reply is what Redis answered to one command.
type Reply struct {
	m rueidis.RedisMessage
	// number is true for an Integer that came as text, since it was too large for a
	// script's numbers.
	number bool
	// made is the reply, unless it is nil.
	made *Value
}

// FromMessage returns the reply that the client library has read.
func FromMessage(m rueidis.RedisMessage) Reply { return Reply{m: m} }

// FromScript is FromMessage for a reply that came through a script. A counter is an Integer
// that comes as text, since it may be too large for a script's numbers.
func FromScript(m rueidis.RedisMessage, counter bool) Reply { return Reply{m: m, number: counter} }

// Message returns what the client library has read. It is empty for a Value.
func (r *Reply) Message() *rueidis.RedisMessage { return &r.m }

// Value is a reply that the client library has not read: no single server gave it, or
// it came on a connection of ours.
type Value struct {
	Kind   Type
	Text   string
	simple bool // see Reply.Simple
	Int    int64
	Items  []Reply
}

// Reply returns the value as a reply.
func (r *Value) Reply() Reply { return Reply{made: r} }

// Type returns the type of the reply.
func (r *Reply) Type() Type {
	switch {
	case r.made != nil:
		return r.made.Kind
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

// Text returns the bytes of a Text, or the words of a Failure. They live as long as the
// reply.
func (r *Reply) Text() string {
	if r.made != nil {
		return r.made.Text
	}
	s, _ := r.m.ToString() // of an error, too, with its code
	return s
}

// Simple reports whether a Text is a simple string (a status, such as +OK) and not a bulk
// string. It is slow.
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

// Int returns the value of an Integer.
func (r *Reply) Int() int64 {
	if r.made != nil {
		return r.made.Int
	}
	n, _ := r.m.AsInt64()
	return n
}

// Len returns the length of an Array.
func (r *Reply) Len() int {
	if r.made != nil {
		return len(r.made.Items)
	}
	a, _ := r.m.ToArray()
	return len(a)
}

// At returns an element of an Array.
func (r *Reply) At(i int) Reply {
	if r.made != nil {
		return r.made.Items[i]
	}
	a, _ := r.m.ToArray()
	return Reply{m: a[i]}
}
