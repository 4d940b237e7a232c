// Package socket reads from sockets and writes to them by system calls that never
// wait, and of which the scheduler therefore need not be told. What the runtime
// does by itself it has to be told of, and a thread of its own then looks after
// each call that takes more than 20 µs, as one that sends to a loopback interface
// mostly does: that thread wakes up some 7,000 times a second, and takes the
// others' place each time. They wait for no peer, that is: the kernel may still take
// its time to copy, or for memory. The race detector, too, learns nothing from them:
// who hands a buffer to them is not seen.
//
// On systems other than Linux on amd64 and arm64, what is here does nothing.
package socket
