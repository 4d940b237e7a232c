//go:build linux

package kubernetes

import (
	"fmt"
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

// holdfast builds the program and returns its path.
func holdfast(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "holdfast")
	build := exec.Command("go", "build", "-pgo=off", "-o", program, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// startStack starts a stack in a namespace, with the manifests that the program exports. It returns
// its URL on this machine.
func startStack(t *testing.T, space string, nodePort int) string {
	t.Helper()
	return startStackOf(t, space, nodePort, stackFile)
}

// startStackOf is startStack for another stack file.
func startStackOf(t *testing.T, space string, nodePort int, text string) string {
	t.Helper()
	return startStackWith(t, space, nodePort, text, func(manifests string) string { return manifests })
}

// startStackWith is startStackOf with changed manifests.
func startStackWith(t *testing.T, space string, nodePort int, text string, changed func(string) string) string {
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
	program := holdfast(t)
	export := func(args ...string) string {
		out, err := exec.Command(program, append([]string{"export", "kubernetes", "--file", file}, args...)...).Output()
		if err != nil {
			t.Fatalf("holdfast export kubernetes %v: %v", args, err)
		}
		return string(out)
	}
	apply(t, space, export("--secret"))
	apply(t, space, changed(export("--image", image, "--service", "NodePort", "--node-port", fmt.Sprint(nodePort), "--storage", "1Gi")))
	allReady(t, space)

	address, err := cluster.Forward(t.Context(), fmt.Sprintf("%s:%d", kube.NodeAddress(1), nodePort))
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + address
}

// allReady waits until exactly the ten pods of a stack exist and are ready.
func allReady(t *testing.T, space string) {
	t.Helper()
	areReady(t, space, 10)
}

// areReady is allReady for a stack with that many pods.
func areReady(t *testing.T, space string, count int) {
	t.Helper()
	eventually(t, "all pods are ready", func() error {
		out, err := tryKubectl(t.Context(), "-n", space, "get", "pods", "-o",
			`jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{.metadata.deletionTimestamp}{"\n"}{end}`)
		if err != nil {
			return err
		}
		if ready := strings.Count(out+"\n", "=True\n"); ready != count || len(strings.Fields(out)) != count {
			return fmt.Errorf("%d of %d pods are ready:\n%s", ready, count, out)
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
			// The command fails, since a pod does not see the other pods' processes.
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

// statusOf returns the arguments with which kubectl asks a pod for its status.
func statusOf(space, pod string) []string {
	return []string{"-n", space, "exec", pod, "--request-timeout=10s", "--", "holdfast", "status", "--json", "--here",
		"--file", "/etc/holdfast/stack/holdfast.yaml", "--state", "/var/lib/holdfast/shop"}
}
