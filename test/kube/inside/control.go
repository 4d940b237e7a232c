//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"holdfast/test/kube"
)

// controlPlane is process 1 of the cluster.
func (c cluster) controlPlane() error {
	// The process that starts this one moves it to its control group before it sends a line. If it
	// was killed before that, this process must not run either.
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return errors.New("the one that started this has ended")
	}
	if err := c.surroundings(); err != nil {
		return err
	}
	if err := c.network(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir, "Corefile"), []byte(c.corefile()), 0o644); err != nil {
		return err
	}
	for node := 1; node <= c.nodes; node++ {
		if err := os.MkdirAll(c.nodeDir(node), 0o755); err != nil {
			return err
		}
	}
	// Cluster.Kubectl finds the programs by the working directory of this process.
	if err := os.Chdir(c.programs); err != nil {
		return err
	}

	k := keeper{logs: filepath.Join(c.dir, "log")}
	return k.run(append(c.controllers(), c.nodePrograms()...)...)
}

func (c cluster) nodeDir(node int) string { return filepath.Join(c.dir, fmt.Sprintf("node%d", node)) }

// surroundings hides what belongs to the machine and not to the cluster.
func (c cluster) surroundings() error {
	if err := syscall.Sethostname([]byte("control-plane")); err != nil {
		return err
	}
	err := mountAll(
		mount{target: "/", flags: syscall.MS_REC | syscall.MS_PRIVATE},
		mount{source: "proc", target: "/proc", kind: "proc"},
		// Hides the sockets of this machine's services.
		mount{source: "tmpfs", target: "/run", kind: "tmpfs"},
	)
	if err != nil {
		return err
	}

	// The kubelet would change these settings for the whole machine. So it gets files that
	// already have the values it wants.
	fakes := filepath.Join(c.dir, "sysctl")
	if err := os.Mkdir(fakes, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	} {
		real, fake := filepath.Join("/proc/sys", name), filepath.Join(fakes, strings.ReplaceAll(name, "/", "."))
		if _, err := os.Stat(real); err != nil {
			continue // this kernel has no such setting
		}
		if err := os.WriteFile(fake, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(fake, real, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("hide %s: %w", real, err)
		}
	}
	return nil
}

// network makes the bridge to which the nodes' cables are connected.
func (c cluster) network() error {
	err := commands(`
ip link set lo up
ip link add bridge type bridge
ip addr add ` + kube.ControlPlane + `/24 dev bridge
ip link set bridge up`)
	if err != nil {
		return err
	}
	// Only the nodes' own rules apply to packets that cross the bridge.
	if err := setting("net/bridge/bridge-nf-call-iptables", "0"); err != nil {
		return fmt.Errorf("%w (modprobe br_netfilter)", err)
	}
	return nil
}

// corefile returns the configuration of DNS. No name outside the cluster resolves.
func (c cluster) corefile() string {
	return `cluster.local in-addr.arpa {
	bind ` + kube.ControlPlane + `
	errors
	kubernetes cluster.local in-addr.arpa {
		kubeconfig ` + c.key("kubeconfig") + `
		pods insecure
		ttl 5
	}
	cache 5
	loadbalance
}
. {
	bind ` + kube.ControlPlane + `
	template ANY ANY {
		rcode NXDOMAIN
	}
}
`
}

// controllers returns the programs of the control plane.
func (c cluster) controllers() []program {
	kubeconfig := `
kubeconfig=` + c.key("kubeconfig") + `
authentication-kubeconfig=` + c.key("kubeconfig") + `
authorization-kubeconfig=` + c.key("kubeconfig") + `
leader-elect=false
bind-address=127.0.0.1`

	options := map[string]string{
		"etcd": `
data-dir=` + filepath.Join(c.dir, "etcd") + `
listen-client-urls=http://127.0.0.1:2379
advertise-client-urls=http://127.0.0.1:2379
listen-peer-urls=http://127.0.0.1:2380
unsafe-no-fsync
log-level=warn`,

		"kube-apiserver": `
etcd-servers=http://127.0.0.1:2379
advertise-address=` + kube.ControlPlane + `
service-cluster-ip-range=` + kube.Services + `
client-ca-file=` + c.key("ca.crt") + `
tls-cert-file=` + c.key("server.crt") + `
tls-private-key-file=` + c.key("server.key") + `
kubelet-certificate-authority=` + c.key("ca.crt") + `
kubelet-client-certificate=` + c.key("admin.crt") + `
kubelet-client-key=` + c.key("admin.key") + `
kubelet-preferred-address-types=InternalIP
service-account-issuer=https://kubernetes.default.svc.cluster.local
service-account-key-file=` + c.key("accounts.key") + `
service-account-signing-key-file=` + c.key("accounts.key") + `
authorization-mode=RBAC
requestheader-client-ca-file=` + c.key("ca.crt") + `
requestheader-allowed-names=front-proxy
requestheader-username-headers=X-Remote-User
requestheader-group-headers=X-Remote-Group
requestheader-extra-headers-prefix=X-Remote-Extra-
proxy-client-cert-file=` + c.key("proxy.crt") + `
proxy-client-key-file=` + c.key("proxy.key") + `
enable-aggregator-routing`,

		"kube-controller-manager": kubeconfig + `
service-account-private-key-file=` + c.key("accounts.key") + `
root-ca-file=` + c.key("ca.crt") + `
horizontal-pod-autoscaler-sync-period=5s`,

		// The resolution is the shortest that it accepts.
		"metrics-server": `
kubeconfig=` + c.key("kubeconfig") + `
authentication-kubeconfig=` + c.key("kubeconfig") + `
authorization-kubeconfig=` + c.key("kubeconfig") + `
bind-address=` + kube.ControlPlane + `
secure-port=` + strconv.Itoa(kube.MetricsPort) + `
tls-cert-file=` + c.key("server.crt") + `
tls-private-key-file=` + c.key("server.key") + `
kubelet-certificate-authority=` + c.key("ca.crt") + `
kubelet-preferred-address-types=InternalIP
kubelet-request-timeout=5s
metric-resolution=10s`,

		"kube-scheduler": kubeconfig,
	}

	programs := []program{{
		name: "dns",
		path: filepath.Join(c.programs, "dns"),
		args: []string{"-conf", filepath.Join(c.dir, "Corefile")},
	}}
	for name, lines := range options {
		programs = append(programs, program{name: name, path: filepath.Join(c.programs, name), args: flags(lines)})
	}
	return programs
}

// nodePrograms returns the nodes as programs, each with namespaces of its own.
func (c cluster) nodePrograms() (programs []program) {
	for node := 1; node <= c.nodes; node++ {
		programs = append(programs, program{
			name:   fmt.Sprintf("node%d", node),
			path:   filepath.Join(c.dir, "inside"),
			args:   []string{"node", c.dir, strconv.Itoa(node), c.programs, c.group, strconv.Itoa(c.nodes)},
			spaces: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS,
			off:    kube.PowerSwitch(c.dir, node),
		})
	}
	return programs
}
