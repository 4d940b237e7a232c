//go:build linux

package kubernetes

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"holdfast/test/kube"
)

// visitor is a pod that is not part of a stack. It connects to the addresses that a test gives it.
type visitor struct{ space, address string }

// newVisitor starts a visitor in an existing namespace. The test's end deletes it.
func newVisitor(t *testing.T, space string) visitor {
	t.Helper()
	t.Cleanup(func() {
		_, err := tryKubectl(context.Background(), "-n", space, "delete", "pod", "visitor", "--force", "--grace-period=0", "--ignore-not-found")
		if err != nil {
			t.Error(err)
		}
	})
	apply(t, space, `
apiVersion: v1
kind: Pod
metadata: {name: visitor, labels: {app: visitor}}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
  - name: pod
    image: `+kube.PodImage+`
    args: [serve, visitor, /tmp]
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
    securityContext:
      runAsUser: 1000
      runAsNonRoot: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
`)
	v := visitor{space: space}
	eventually(t, "a visitor in "+space, func() (err error) {
		v.address, err = podAddress(t.Context(), space, "visitor")
		return err
	})
	return v
}

// connects returns nil if the visitor gets a connection to an address of the cluster.
func (v visitor) connects(address string) error {
	_, err := get(inside, fmt.Sprintf("http://%s:8080/connect/%s", v.address, address))
	return err
}

// podsOf returns the addresses of a component's pods.
func podsOf(t *testing.T, space, component string) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "-n", space, "get", "pods", "-l", "app.kubernetes.io/component="+component,
		"-o", "jsonpath={.items[*].status.podIP}"))
}

// closedPorts are the ports of each component that only the stack's own pods may connect to.
var closedPorts = map[string][]string{
	"redis":    {"6379", "6300", "9633"},
	"sentinel": {"26379", "6300", "9633"},
	"web":      {"5001", "5002", "6300", "9633"},
	"balancer": {"6300", "9633"},
}

// entryAlone checks that strangers reach the entry of a stack, and no other port of it.
func entryAlone(t *testing.T, space string, strangers ...visitor) {
	t.Helper()
	entries := []string{fmt.Sprintf("shop.%s.svc.cluster.local:6301", space)}
	for _, ip := range podsOf(t, space, "balancer") {
		entries = append(entries, net.JoinHostPort(ip, "6301"))
	}
	for _, v := range strangers {
		for _, address := range entries {
			eventually(t, fmt.Sprintf("a pod in %s reaches the entry at %s", v.space, address), func() error { return v.connects(address) })
		}
		for _, address := range closed(t, space) {
			eventually(t, fmt.Sprintf("a pod in %s does not reach %s", v.space, address), func() error {
				if err := v.connects(address); err == nil {
					return fmt.Errorf("it does")
				}
				return nil
			})
		}
	}
}

// closed returns the addresses that strangers must not reach: of each pod, and of some Services.
func closed(t *testing.T, space string) (addresses []string) {
	t.Helper()
	for component, ports := range closedPorts {
		ips := podsOf(t, space, component)
		if len(ips) < 2 {
			t.Fatalf("the pods of %s are %v", component, ips)
		}
		for _, ip := range ips {
			for _, port := range ports {
				addresses = append(addresses, net.JoinHostPort(ip, port))
			}
		}
	}
	return append(addresses, fmt.Sprintf("shop-redis-0.%s.svc.cluster.local:6379", space),
		fmt.Sprintf("shop-sentinel-0.%s.svc.cluster.local:26379", space))
}

// open removes the network policies of a namespace, and waits until visitors reach every port.
func open(t *testing.T, space string, visitors ...visitor) {
	t.Helper()
	kubectl(t, "-n", space, "delete", "networkpolicies", "--all")
	for _, v := range visitors {
		for _, address := range closed(t, space) {
			eventually(t, fmt.Sprintf("without policies a pod in %s reaches %s", v.space, address), func() error { return v.connects(address) })
		}
	}
}

// These tests share one stack, since its start takes longer than most of them.
func TestAStack(t *testing.T) {
	const space, port = "tried", 30064
	url := startStack(t, space, port)
	strangers := []visitor{newVisitor(t, "default")}

	t.Run("strangers reach the entry alone", func(t *testing.T) {
		l := startLoad(t, url, 4)
		l.serves(t, "the start")
		entryAlone(t, space, strangers...)
		leadTo(t, space, "redis-2")
		l.serves(t, "a switchover")
		l.check(t)
	})
	t.Run("a failover restarts nobody", func(t *testing.T) { aFailoverRestartsNobody(t, space, url) })
	t.Run("two pods believe to be the master", func(t *testing.T) { aSplit(t, space, port) })

	near := newVisitor(t, space) // not earlier, since the tests above count the pods
	t.Run("a pod beside them is a stranger", func(t *testing.T) { entryAlone(t, space, near) })
	// This shows that the connections above failed because of the policies. After it only
	// certificates and passwords protect the stack.
	t.Run("without policies strangers reach all", func(t *testing.T) { open(t, space, append(strangers, near)...) })
	t.Run("the wire is encrypted", func(t *testing.T) { theWireIsEncrypted(t, space) })
}
