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

	// MetricsPort is the port of the control plane's metrics-server.
	MetricsPort = 4443

	volumes = 40
)

// NodeAddress returns the address of a node, 1 to 9.
func NodeAddress(node int) string { return fmt.Sprintf("198.19.99.%d", node) }

// NodePods returns the network of a node's pods.
func NodePods(node int) string { return fmt.Sprintf("198.18.%d.0/24", node) }

func (c *Cluster) volume(n int) string { return fmt.Sprintf("%s/volumes/%02d", c.dir(), n) }

// storage returns the manifests of the default storage class and of its volumes. The volumes are
// folders that every node sees, like network storage. A claim gets a volume that no claim has used
// before, so a claim that is deleted and made again is empty. The scheduler itself binds a claim when
// it has a node for its pod. Otherwise it gives a pod up that it sees before the claim is bound, and
// tries it again later.
func (c *Cluster) storage() string {
	var all strings.Builder
	all.WriteString(`apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: folders
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
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

// metrics returns the manifests that add the API of metrics-server to the API server's.
func metrics() string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {ports: [{port: 443, targetPort: %[1]d}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: metrics-server, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}
addressType: IPv4
endpoints: [{addresses: [%[2]q], conditions: {ready: true}}]
ports: [{port: %[1]d}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: metrics-server, namespace: kube-system}
`, MetricsPort, ControlPlane)
}
