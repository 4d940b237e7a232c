// Package sse streams server-sent events. feed.go keeps what waits for one client, and drops a client
// that falls behind; subscribe.go streams messages of channels, and the commands of MONITOR.
//
// Not here: events about keys (package keyspace), and how many streams a client may have (package
// fair).
package sse
