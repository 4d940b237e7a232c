// Package redis is the client of the replicated store. It finds the master and follows it, reads,
// and writes durably: an acknowledged write is on the master and on every in-sync replica, and on
// one at least. With the packages below it, it is the only importer of the Redis client library. Its
// callers need no other package of these, because names.go has the names that they need.
//
// Here is the Client: it chooses the way that a request takes (client.go, start.go), cuts pipelines
// into parts (slices.go), and has what subscribers hear (subscribe.go). A request goes to the group
// commit (commit), to replicas and the cache (replica), on a connection that its caller polls
// (readpipe), or to a Redis Cluster (cluster). On its way it is an operation; below that package are
// records of writes that happen once (once), scripts of clients (scripts), the acknowledgement
// of writes (ack), who the master is (election, discovery), connections (conn, resp, meter, cache,
// pubsub), and what is known of commands (command, cost). How Redis itself is started or failed over
// does not live here; what the control plane asks of one process does (admin).
package redis
