// Package pod is how the pods of a stack in Kubernetes talk to each other, and what they have
// to agree on before one of them starts its node: whether the stack has had its first boot, and
// which node was the master (agree.go). Each pod serves the other pods and the kubelet at one
// port (server.go, port.go, limit.go), with a certificate that it issues to itself
// (identity.go). The names of the stack's Services are resolved here, at a pod's start
// (services.go). Everything else a pod's supervisor learns through the nodes' own protocols
// (package supervise).
package pod
