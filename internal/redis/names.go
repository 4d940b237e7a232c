package redis

import "holdfast/internal/redis/resp"

// What callers of this package use of package resp.
type (
	// Reply is what Redis answered to one command.
	Reply = resp.Reply
	// ReplyType is the type of a reply in the protocol RESP2.
	ReplyType = resp.Type
)

// The types of a reply.
const (
	Null    = resp.Null // of both kinds
	Text    = resp.Text // a string, simple or bulk
	Integer = resp.Integer
	Array   = resp.Array
	Failure = resp.Failure // an error inside an array, such as a transaction's
)
