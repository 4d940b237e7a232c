// Package redis is the way to the replicated store: it finds the master and
// follows it, reads, and writes durably, so that an acknowledged write is on
// the master and on every in-sync replica, and on one at least. It is the only
// importer of the Redis client library.
//
// monitor.go asks the nodes and the Sentinels, decide.go (pure) says from their
// answers who is the master, writer.go is the group commit, client.go what
// callers see, errors.go the kinds of failure. commands.go and keyspec.go are
// what Redis says of its commands; stream.go and changes.go are what it pushes,
// over a connection (raw.go) that all listeners share (hub.go). cluster.go (pure)
// says who owns the slots of a Redis Cluster. How Redis itself is started or
// failed over does not live here.
package redis
