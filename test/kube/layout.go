//go:build linux

package kube

import (
	"fmt"
	"strings"
)

// The cluster's network is below 198.18.0.0/15, which is reserved for benchmarks (RFC 2544), and in
// namespaces of its own.
const (
	// ControlPlane is the address of the API server and of DNS.
	ControlPlane = "198.19.99.100"
	// Services contains the addresses of Services, and Pods those of all pods.
	Services = "198.19.0.0/18"
	Pods     = "198.18.0.0/16"

	firstService = "198.19.0.1" // Kubernetes gives it to the API server

	// PluginDir is where Debian installs the CNI plugins.
	PluginDir = "/usr/lib/cni"
	// PodImage is the image of the program in test/kube/pod. It holds the network of each pod, and
	// is a small web server for tests.
	PodImage = "localhost/pod:1"

	volumes = 40
)

// NodeAddress returns the address of a node, 1 to 9.
func NodeAddress(node int) string { return fmt.Sprintf("198.19.99.%d", node) }

// NodePods returns the network of a node's pods.
func NodePods(node int) string { return fmt.Sprintf("198.18.%d.0/24", node) }

func (c *Cluster) volume(n int) string { return fmt.Sprintf("%s/volumes/%02d", c.dir(), n) }

// storage returns the manifests of the default storage class and of its volumes. The volumes are
// folders that every node sees, like network storage. A claim gets a volume that no claim has used
// before, so a claim that is deleted and made again is empty.
func (c *Cluster) storage() string {
	var all strings.Builder
	all.WriteString(`apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: folders
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
`)
	for n := 1; n <= volumes; n++ {
		fmt.Fprintf(&all, `---
apiVersion: v1
kind: PersistentVolume
metadata: {name: folder-%02d}
spec:
  capacity: {storage: 100Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: folders
  persistentVolumeReclaimPolicy: Retain
  local: {path: %q}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]
`, n, c.volume(n))
	}
	return all.String()
}
