//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"holdfast/test/kube"
)

// node is one machine of the cluster.
func (c cluster) node(n int) error {
	if err := kube.JoinNode(c.group, n); err != nil {
		return err
	}
	if err := syscall.Unshare(syscall.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("a namespace of control groups: %w", err)
	}
	if err := syscall.Sethostname(fmt.Appendf(nil, "node%d", n)); err != nil {
		return err
	}
	if err := c.nodeMounts(n); err != nil {
		return err
	}
	if err := c.nodeNetwork(n); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"/var/lib/net/cluster.conflist": c.plugins(n),
		"/var/lib/containerd.toml":      containerdConfig,
		"/var/lib/kubelet.yaml":         c.kubeletConfig(n),
		"/var/lib/proxy.yaml":           c.proxyConfig(n),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}

	k := keeper{logs: filepath.Join(c.dir, "log")}
	return k.run(
		program{
			name: fmt.Sprintf("node%d-containerd", n),
			path: "containerd",
			args: flags("config=/var/lib/containerd.toml"),
		},
		program{
			name: fmt.Sprintf("node%d-kubelet", n),
			path: filepath.Join(c.programs, "kubelet"),
			args: flags(fmt.Sprintf("config=/var/lib/kubelet.yaml\nkubeconfig=%s\nhostname-override=node%d\nnode-ip=%s",
				c.key("kubeconfig"), n, kube.NodeAddress(n))),
		},
		program{
			name: fmt.Sprintf("node%d-proxy", n),
			path: filepath.Join(c.programs, "kube-proxy"),
			args: flags("config=/var/lib/proxy.yaml"),
		},
		program{
			name: fmt.Sprintf("node%d-policies", n),
			path: filepath.Join(c.programs, "network-policies"),
			args: flags(fmt.Sprintf("kubeconfig=%s\nservice-cluster-ip-range=%s", c.key("kubeconfig"), kube.Services)),
		},
	)
}

// nodeMounts gives the node directories of its own where the programs expect them. Later mounts are
// shared among the node's programs, as a container's volumes must be.
func (c cluster) nodeMounts(n int) error {
	disk := c.nodeDir(n)
	for _, sub := range []string{"lib", "log"} {
		if err := os.MkdirAll(filepath.Join(disk, sub), 0o755); err != nil {
			return err
		}
	}
	err := mountAll(
		mount{target: "/", flags: syscall.MS_REC | syscall.MS_PRIVATE},
		mount{target: "/", flags: syscall.MS_REC | syscall.MS_SHARED},
		mount{source: "tmpfs", target: "/run", kind: "tmpfs"},
		mount{source: filepath.Join(disk, "lib"), target: "/var/lib", flags: syscall.MS_BIND},
		mount{source: filepath.Join(disk, "log"), target: "/var/log", flags: syscall.MS_BIND},
		mount{source: "sysfs", target: "/sys", kind: "sysfs"}, // of the node's network
		mount{source: "cgroup", target: "/sys/fs/cgroup", kind: "tmpfs", options: "mode=755"},
	)
	if err != nil {
		return err
	}

	mine, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mine)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 || fields[1] == "" { // version 2
			continue
		}
		kind, named := strings.CutPrefix(fields[1], "name=")
		options := kind
		if named {
			options = "none,name=" + kind
		}
		err := mountAll(mount{source: "cgroup", target: "/sys/fs/cgroup/" + kind, kind: "cgroup", options: options})
		if err != nil {
			return err
		}
	}
	return nil
}

// nodeNetwork connects the node with the bridge. The control plane and each node know the routes to
// its pods, as a cloud's network would.
func (c cluster) nodeNetwork(n int) error {
	cable, address := kube.Cable(n), kube.NodeAddress(n)
	const outside = "nsenter --net=/proc/1/ns/net "
	// After the node was killed, its old cable may exist for another moment.
	_ = commands(outside + "ip link delete " + cable)
	lines := `
ip link set lo up
ip link add eth0 type veth peer name ` + cable + ` netns 1
ip addr add ` + address + `/24 dev eth0
ip link set eth0 up
ip route add ` + kube.Services + ` dev eth0
` + outside + `ip link set ` + cable + ` master bridge up
` + outside + `ip route replace ` + kube.NodePods(n) + ` via ` + address
	for other := 1; other <= c.nodes; other++ {
		if other != n {
			lines += "\nip route add " + kube.NodePods(other) + " via " + kube.NodeAddress(other)
		}
	}
	if err := commands(lines); err != nil {
		return err
	}
	for _, name := range []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"} {
		if err := setting(name, "1"); err != nil {
			return err
		}
	}
	return nil
}

// plugins returns the configuration of the network of the node's pods.
func (c cluster) plugins(n int) string {
	return `{"cniVersion": "1.0.0", "name": "cluster", "plugins": [{
  "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni",
    "ranges": [[{"subnet": "` + kube.NodePods(n) + `"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`
}

const containerdConfig = `version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + kube.PodImage + `"
  # Lower than this process' own is refused where it has not all of root's rights.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + kube.PluginDir + `"
    conf_dir = "/var/lib/net"
`

func (c cluster) kubeletConfig(n int) string {
	return `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: ` + c.key("ca.crt") + `}}
tlsCertFile: ` + c.key("server.crt") + `
tlsPrivateKeyFile: ` + c.key("server.key") + `
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [` + kube.ControlPlane + `]
resolvConf: ""
imageGCHighThresholdPercent: 100
# The disk is this machine's: how full it is says nothing of the pods.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
`
}

func (c cluster) proxyConfig(n int) string {
	return `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: ` + c.key("kubeconfig") + `}
hostnameOverride: ` + fmt.Sprintf("node%d", n) + `
mode: iptables
clusterCIDR: ` + kube.Pods + `
# The kernel's table of connections is the whole machine's.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 100ms}
`
}
