// Package eventloop decides where a connection of a web node is served, and serves it. While its
// requests are short, complete and unambiguous, an event loop does (loop.go; Linux on amd64 and
// arm64): it takes no goroutine, timer or buffer for each connection. Everything else is for the HTTP
// server (fasthttp), and manager.go moves connections between the two. handler.go is the border: the
// Handler that answers requests on loops, a request under way, and scratch memory.
//
//   - read_conn.go has a loop's own connection to the master, for reads.
//   - deferred_read_conn.go and conn.go have the connections of the HTTP server: the one holds no buffer
//     while it idles and may go back to a loop, the other waits for its client when it closes.
//   - chan_listener.go gives the HTTP server the connections that loops hand off; listener_set.go has
//     the listeners of all.
//   - room.go chooses which connections are closed when there are too many.
//
// Not here: what a request asks for (package fasthandler), HTTP as bytes (package httpfast), and how
// system calls are made that never wait (package socket).
package eventloop
