//go:build linux

package kubernetes

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/kube"
)

const stackFile = `name: shop
entry:
  listen: 0.0.0.0:6301
  auth: none
`

// startStack brings a stack up in a namespace, by the manifests that the program exports, and
// returns its URL at this machine.
func startStack(t *testing.T, space string, nodePort int) string {
	t.Helper()
	return startStackOf(t, space, nodePort, stackFile)
}

// startStackOf is startStack of another stack file.
func startStackOf(t *testing.T, space string, nodePort int, text string) string {
	t.Helper()
	if err := loadImage(); err != nil {
		t.Fatal(err)
	}
	namespace(t, space)
	kubectl(t, "label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")
	dir := t.TempDir()
	file := filepath.Join(dir, "holdfast.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "holdfast")
	if out, err := exec.Command("go", "build", "-tags", "grpcnotrace", "-o", program, "holdfast/cmd/holdfast").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	export := func(args ...string) string {
		out, err := exec.Command(program, append([]string{"export", "kubernetes", "--file", file}, args...)...).Output()
		if err != nil {
			t.Fatalf("holdfast export kubernetes %v: %v", args, err)
		}
		return string(out)
	}
	apply(t, space, export("--secret"))
	apply(t, space, export("--image", image, "--service", "NodePort", "--node-port", fmt.Sprint(nodePort), "--storage", "1Gi"))
	allReady(t, space)

	address, err := cluster.Forward(t.Context(), fmt.Sprintf("%s:%d", kube.NodeAddress(1), nodePort))
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + address
}

// allReady waits until all pods of the stack are there and ready.
func allReady(t *testing.T, space string) {
	t.Helper()
	eventually(t, "all pods are ready", func() error {
		out, err := tryKubectl(t.Context(), "-n", space, "get", "pods", "-o",
			`jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{.metadata.deletionTimestamp}{"\n"}{end}`)
		if err != nil {
			return err
		}
		if ready := strings.Count(out+"\n", "=True\n"); ready != 10 || len(strings.Fields(out)) != 10 {
			return fmt.Errorf("%d of 10 pods are ready:\n%s", ready, out)
		}
		return nil
	})
}

// masterPod returns the pod whose redis node is the master.
func masterPod(t *testing.T, space string) (pod string) {
	t.Helper()
	eventually(t, "one master", func() error {
		pod = ""
		for i := range 3 {
			name := fmt.Sprintf("shop-redis-%d", i)
			// It fails, since a pod sees nothing of the others' processes.
			out, _ := tryKubectl(t.Context(), statusOf(space, name)...)
			if strings.Contains(strings.ReplaceAll(out, " ", ""), `"role":"master"`) {
				pod = name
			}
		}
		if pod == "" {
			return fmt.Errorf("no pod calls itself master")
		}
		return nil
	})
	return pod
}

// statusOf is kubectl's way to ask a pod for its status.
func statusOf(space, pod string) []string {
	return []string{"-n", space, "exec", pod, "--request-timeout=10s", "--", "holdfast", "status", "--json", "--here",
		"--file", "/etc/holdfast/stack/holdfast.yaml", "--state", "/var/lib/holdfast/shop"}
}

func TestStack(t *testing.T) {
	const space = "stack"
	url := startStack(t, space, 30063)

	t.Run("answers by the NodePort", func(t *testing.T) {
		for _, path := range []string{"/set/greeting/hello", "/get/greeting"} {
			answer, err := http.Post(url+path, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", path, answer.Status)
			}
		}
	})

	l := startLoad(t, url, 4)
	faults := []struct {
		what string
		do   func(t *testing.T)
	}{
		{"the master's pod is deleted", func(t *testing.T) {
			kubectl(t, "-n", space, "delete", "pod", masterPod(t, space))
		}},
		{"the master's pod is deleted by force", func(t *testing.T) {
			kubectl(t, "-n", space, "delete", "pod", masterPod(t, space), "--force", "--grace-period=0")
		}},
		{"a web node's pods are deleted", func(t *testing.T) {
			kubectl(t, "-n", space, "delete", "pod", "-l", "app.kubernetes.io/component=web", "--wait=false")
		}},
		{"all pods are deleted by force", func(t *testing.T) {
			kubectl(t, "-n", space, "delete", "pod", "--all", "--force", "--grace-period=0")
		}},
		{"a replica's volume is lost", func(t *testing.T) {
			pod := "shop-redis-0"
			if masterPod(t, space) == pod {
				pod = "shop-redis-1"
			}
			kubectl(t, "-n", space, "delete", "pvc", "state-"+pod, "--wait=false")
			kubectl(t, "-n", space, "delete", "pod", pod)
		}},
		{"the master's volume is lost", func(t *testing.T) {
			pod := masterPod(t, space)
			kubectl(t, "-n", space, "delete", "pvc", "state-"+pod, "--wait=false")
			kubectl(t, "-n", space, "delete", "pod", pod, "--force", "--grace-period=0")
		}},
		{"Redis is scaled to zero and back", func(t *testing.T) {
			kubectl(t, "-n", space, "scale", "statefulset", "shop-redis", "--replicas=0")
			kubectl(t, "-n", space, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=redis", "--timeout=3m")
			kubectl(t, "-n", space, "scale", "statefulset", "shop-redis", "--replicas=3")
		}},
	}
	for _, fault := range faults {
		t.Run(fault.what, func(t *testing.T) {
			l.since()
			fault.do(t)
			l.serves(t, fault.what)
			allReady(t, space)
			l.serves(t, fault.what+", and all is well")
		})
	}
	l.check(t)
}
