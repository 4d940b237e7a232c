// Package attack is clients that ask too much of the service, for a drill: slow commands one after
// another, huge answers that are read slowly, streams and requests without an end. A Client sends
// requests (client.go). Repeat sends many of them, and Hold keeps many connections open (crowd.go).
//
// The package knows the service by HTTP alone. Package drill decides what the clients ask for and
// how long, and observes what happens to all others.
//
// Each client is limited: it has one request under way at a time, and starts at most as many per
// second as it is told, so that the service is tested and not the machine.
package attack
