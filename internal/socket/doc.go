// Package socket reads from and writes to sockets with system calls that never wait for the peer,
// without telling the Go scheduler about them.
//
// The runtime's own reads and writes tell the scheduler. Then a thread of its own watches each call
// that takes more than 20 µs, as most sends on a loopback interface do. That thread wakes up some
// 7,000 times a second, and each time displaces the others.
//
// Receive and Transmit are the calls, for an event loop; NonBlocking wraps a connection so that its
// Read and Write use them. The kernel may still take time to copy, or to find memory. The race
// detector does not see these calls, so it cannot check who hands a buffer to them.
//
// On systems other than Linux on amd64 and arm64 there is only NonBlocking, which returns the
// connection unchanged.
package socket
