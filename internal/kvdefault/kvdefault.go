// Package kvdefault has the defaults of a web node's settings that stand in more than one place: the
// keys below kv in the stack file, the flags of 'holdfast web', and the packages that serve.
// Defaults that only one of them has are with that one.
package kvdefault

import "time"

// The defaults. The keys in package stack have a comment on each.
const (
	Reads  = "master"
	Writes = "in-sync"

	MaxLag   = time.Second
	Hold     = 5 * time.Second
	Remember = 30 * time.Second // at least; a longer hold makes it more

	MaxBody     = 10 << 20 // bytes of a request
	MaxAnswer   = 64 << 20 // bytes of an answer
	MaxKey      = 64 << 10 // bytes of a key
	MaxPipeline = 10_000   // commands of one request
	Connections = 16_384   // of one node, at once
)
