// Package kube runs a real Kubernetes cluster for tests, on this machine alone: without a
// registry, without systemd, and without a change to the machine that outlives it.
//
// The control plane is one process with namespaces of its own (network, mounts, processes),
// in which etcd, the API server and the other programs run. Each node is one more network
// and mount namespace inside, with a containerd, a kubelet and a kube-proxy. A bridge in the
// control plane's network connects them; nothing connects it with the machine's. Whoever
// wants to talk to the cluster enters its network (Cluster.Forward, Cluster.Kubectl).
//
// Kubernetes, etcd and CoreDNS are compiled from the module in programs; what came of it is
// kept below the user's cache directory, by a hash of its inputs. containerd, runc and the
// CNI plugins are Debian's (scripts/setup --kubernetes). Everything that a cluster starts is
// in one control group, by which a later command finds and ends it, whatever had been killed.
//
// It needs Linux, root, and version 1 of control groups. It is no way to run Kubernetes for
// anything but tests: every program of it has all rights, and etcd never waits for the disk.
package kube
