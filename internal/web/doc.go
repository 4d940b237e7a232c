// Package web is the web node: Redis over HTTP. It keeps no data of its own. What it knows is in
// the store, so any node can answer any request, and any node may die. It knows neither how it was
// started nor what balances it.
//
// A connection is served in one of two ways, and engine.go moves it between them:
//
//   - An event loop (loop.go; Linux on amd64 and arm64) reads short, complete, unambiguous requests,
//     which simple.go parses. quick.go answers the commands among them without a goroutine for
//     each. A loop sends reads on a connection of its own to the master (lane.go).
//   - The HTTP server (fasthttp) has all other requests. route.go calls their handlers: rest.go for
//     commands, pipelines and transactions, source.go for the tutorial's /get and /set, keys*.go and
//     watch*.go for /v1/keys, pubsub.go and events.go for streams, health.go for health checks.
//
// Both ways share the rules: access.go (what a token may do), site.go and cors.go (which pages may
// ask), trust.go (consistency and idempotency), arguments.go and encode.go (the two ends of a
// command). limits.go, room.go, shares.go, streams.go and bodies.go bound what one client can take.
// metrics.go, accesslog.go, trace.go and admin.go are for those who run the node.
//
// Not here: finding the master, acknowledging writes and caching reads (package redis), reading
// tokens (package token), flags and environment (package cli).
package web
