// Package drill breaks a stack under load and judges what its clients saw.
//
// Run is the way in. It takes the lock of the state directory (place.go), finds the stack or stands
// one up (own.go), and carries out one course for each drill (course.go). A course starts the load,
// injects its faults one after the other, undoes each of them, and waits until the stack is well
// again before it goes on. Meanwhile a watcher notes what happens to the nodes (watch.go).
//
// Each fault has a file of its own, such as kill_master.go; fault.go lists them. A fault acts on a
// scene (scene.go). Before it does harm, it writes into the journal what undoes the harm (undo.go).
// A second process, the undertaker, carries the journal out if the drill is killed (undertaker.go).
//
// The course reaches the stack through the interface ground: a target is a stack that a supervisor
// looks after (target.go), a podStack one in Kubernetes (pods.go). A target may have several hosts:
// network namespaces that the drill makes (hosts.go), or a user's machines (afar.go).
//
// The load is in package load, the judgement in package history, and the report in package report.
package drill
