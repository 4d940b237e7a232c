// Package keyspace serves /v1/keys. keys.go has a key as a resource with an entity tag, whose state
// keys_state.go reads and writes by scripts; keys_condition.go has If-Match and If-None-Match.
// keys_list.go lists keys. watch.go tells watchers of changes, of which they hear through one
// listener, and watch_http.go serves them: long polls, and streams of events.
//
// Not here: commands (package command) and streams in general (package sse).
package keyspace
