// Package fair divides what a node has among its clients, so that no client takes all of it.
// shares.go has the rule. sender.go tells whose share a request takes. places.go divides streams and
// long polls, and bodies.go the memory for large bodies that are still arriving.
//
// Not here: the room for connections (package web) and for long answers (package redis).
package fair
