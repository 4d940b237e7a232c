// Package drill breaks a stack under load and judges what its clients saw.
//
// Run is the way in. It takes the lock of the state directory (drill_lock.go), finds the stack or
// stands one up (own_stack.go), and carries out one run for each drill (drill_run.go). A run starts
// the load, injects its faults one after the other, undoes each of them, and waits until the stack
// is well again before it goes on. Meanwhile a watcher notes what happens to the nodes (watch.go).
//
// Each fault has a file of its own, such as kill_master.go; fault.go lists them. A fault acts
// through a faultContext (fault_context.go). Before it does harm, it writes into the journal what
// undoes the harm (undo.go). A second process, the undo process, carries the journal out if the
// drill is killed (undo_process.go).
//
// The run reaches the stack through the interface drilledStack (drilled_stack.go): a
// supervisedStack is a stack that a supervisor looks after (supervised_stack.go), a podStack one in
// Kubernetes (pods.go). A supervisedStack may have several hosts: network namespaces that the drill
// makes (hosts.go), or a user's machines (user_hosts.go).
//
// The load is in package load, the judgement in package history, and the report in package report.
package drill
