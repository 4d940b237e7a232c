// Package redis is the way to the replicated store: it finds the master and follows it,
// reads, and writes durably, so that an acknowledged write is on the master and on every
// in-sync replica, and on one at least. With the packages below it, it is the only importer
// of the Redis client library. Its callers need none of those (names.go).
//
// Here are the Client (client.go, start.go), the group commit (writer.go, follow.go,
// session.go, operation.go), how writes are repeated safely (script.go, transaction.go,
// guard.go, onceset.go), turns for what is slow (slow.go, fair.go, lease.go), long answers
// (answers.go, lengths.go, bounded.go), replicas (readers.go), reads on a connection that its
// caller polls (express.go), and a Redis Cluster (cluster*.go).
//
// Below are, each in a package of its own: when operations are answered (ack), who the
// master is (election, discovery), connections (conn, resp, meter, cache, pubsub), what is
// known of commands (command, cost), and what became of them (outcome). How Redis itself is
// started or failed over does not live here; what the control plane asks of one process does
// (admin).
package redis
