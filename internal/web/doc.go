// Package web is the web node: Redis over HTTP. It keeps no data of its own. What it knows is in
// the store, so any node can answer any request, and any node may die. It knows neither how it was
// started nor what balances it.
//
// A connection is served in one of two ways, and package eventloop moves it between them:
//
//   - An event loop (Linux on amd64 and arm64) reads short, complete, unambiguous requests, which
//     package httpfast parses. Package fasthandler answers the commands among them without a goroutine
//     for each. A loop sends reads on a connection of its own to the master.
//   - The HTTP server (fasthttp) has all other requests. handlers.go calls their handlers: package
//     command for commands, pipelines and transactions, package keyspace for /v1/keys, package sse for
//     streams, package observe for health checks.
//
// Both ways find the route of a request in the table of package routes, and share the rules, each in
// a package below this one: auth (who may do what, and which pages may ask), consistency (what the
// options of a request mean), fair (what one client can take) and response (how results and errors are
// written). None of these packages knows this one: server.go puts them together. limits.go bounds
// requests.
//
// Not here: finding the master, acknowledging writes and caching reads (package redis), reading
// tokens (package token), flags and environment (package cli).
package web
