// Package kube runs a real Kubernetes cluster for tests, on this machine alone: without a registry,
// without systemd, and without any lasting change to the machine.
//
// The control plane is one process with namespaces of its own (network, mounts, processes), in
// which etcd, the API server and the other programs run. Each node is another network and mount
// namespace inside, with a containerd, a kubelet, a kube-proxy, and a program that enforces network
// policies. A bridge in the control plane's network connects them. Nothing connects it with the
// machine's network: to talk to the cluster, a program enters its network (Cluster.Forward,
// Cluster.Kubectl).
//
// Kubernetes, etcd, CoreDNS, metrics-server and kube-router's controller of network policies are
// compiled from the module in programs. The results are stored below the user's cache directory, by
// a hash of their inputs. containerd, runc and the CNI plugins are Debian's (scripts/setup
// --kubernetes). Everything that a cluster starts is in one control group. By it a later command
// finds and ends the cluster, whatever was killed before.
//
// It needs Linux, root, and version 1 of control groups. It is for tests only: every program has
// all rights, and etcd never waits for the disk.
package kube
