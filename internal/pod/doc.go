// Package pod is what the pods of a stack in Kubernetes tell each other, and what has to be
// agreed on before one of them starts its node: whether the stack has had its first boot, and
// who was the master. Everything else a pod's supervisor finds out by the nodes' own protocols
// (package supervise). Names are resolved once, here, at a pod's start.
package pod
