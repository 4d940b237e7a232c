// Package attack is clients that ask too much of the service, for a drill: slow
// commands one after the other, huge answers that are read slowly, streams and
// requests without an end. It knows the service by HTTP alone. What they ask for,
// for how long, and what became of all others, is package drill's affair.
//
// Each client is bounded: it has one request under way at a time, and begins at
// most as many a second as it is told, so that the service is tried and not the
// machine.
package attack
