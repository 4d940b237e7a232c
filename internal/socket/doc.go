// Package socket reads from sockets and writes to them by system calls that wait
// for no peer, and of which the scheduler therefore need not be told. What the
// runtime does by itself it has to be told of, and a thread of its own then looks
// after each call that takes more than 20 µs, as one that sends to a loopback
// interface mostly does: that thread wakes up some 7,000 times a second, and takes
// the others' place each time.
//
// The kernel may still take its time to copy, or for memory. And the race detector
// learns nothing from these calls: who hands a buffer to them is not seen.
//
// On systems other than Linux on amd64 and arm64, Swift is all there is, and it
// changes nothing.
package socket
