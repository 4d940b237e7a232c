//go:build linux

package kubernetes

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/test/kube"
)

// names is a StatefulSet of web servers, one on each node, that answer with their pod's name.
var names = strings.ReplaceAll(`
apiVersion: v1
kind: Service
metadata: {name: names}
spec:
  type: NodePort
  selector: {app: names}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: each}
spec:
  clusterIP: None
  selector: {app: names}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: names}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: names}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: names}
spec:
  replicas: 3
  serviceName: each
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: names}}
  template:
    metadata: {labels: {app: names}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: names}}}
      containers:
      - name: pod
        image: IMAGE
        args: [serve, $(NAME), /data]
        env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
`, "IMAGE", kube.PodImage)

func TestCluster(t *testing.T) {
	const space = "cluster"
	namespace(t, space)
	apply(t, space, names)

	pods := []string{"names-0", "names-1", "names-2"}
	where := make(map[string]string) // the pod of each node
	for _, pod := range pods {
		eventually(t, pod+" is ready", func() error {
			_, err := podAddress(t.Context(), space, pod)
			return err
		})
		where[kubectl(t, "-n", space, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")] = pod
	}
	if len(where) != nodes {
		t.Fatalf("the pods are not on %d nodes: %v", nodes, where)
	}

	// Every pod can be reached by the port of every node, and a name leads to every pod.
	everyPort := func() error {
		for node := 1; node <= nodes; node++ {
			seen := make(map[string]bool)
			for deadline := time.Now().Add(20 * time.Second); len(seen) < nodes; {
				name, err := get(inside, nodePort(node))
				if err != nil {
					return fmt.Errorf("node %d: %w", node, err)
				}
				seen[name] = true
				if time.Now().After(deadline) {
					return fmt.Errorf("node %d leads to %v alone", node, seen)
				}
			}
		}
		return nil
	}
	eventually(t, "the port of each node", everyPort)

	t.Run("a NodePort answers from this machine", func(t *testing.T) {
		address, err := cluster.Forward(t.Context(), kube.NodeAddress(1)+":30080")
		if err != nil {
			t.Fatal(err)
		}
		name, err := get(http.DefaultClient, "http://"+address)
		if err != nil || !slices.Contains(pods, name) {
			t.Errorf("answered %q, %v", name, err)
		}
	})

	t.Run("a pod resolves the names of the others", func(t *testing.T) {
		for _, pod := range pods {
			address, err := podAddress(t.Context(), space, pod)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "names in "+pod, func() error {
				own, err := get(inside, fmt.Sprintf("http://%s:8080/address/%s.each", address, pod))
				if err == nil && own != address {
					err = fmt.Errorf("%s has the address %s and resolves to %q", pod, address, own)
				}
				return err
			})
			all, err := get(inside, fmt.Sprintf("http://%s:8080/address/each.%s.svc.cluster.local", address, space))
			if err != nil || len(strings.Fields(all)) != nodes {
				t.Errorf("all pods, asked in %s: %q, %v", pod, all, err)
			}
		}
	})

	t.Run("a node is cut off and comes back", func(t *testing.T) {
		address, err := podAddress(t.Context(), space, where["node2"])
		if err != nil {
			t.Fatal(err)
		}
		if err := cluster.Cut(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if name, err := get(inside, "http://"+address+":8080"); err == nil {
			t.Errorf("%s answers over a network that is cut", name)
		}
		if err := cluster.Heal(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pod behind the cut", func() error {
			_, err := get(inside, "http://"+address+":8080")
			return err
		})
		eventually(t, "the port of each node", everyPort)
	})

	t.Run("a node is killed and comes back", func(t *testing.T) {
		pod := where["node3"]
		if err := cluster.Kill(3); err != nil {
			t.Fatal(err)
		}
		if name, err := get(inside, nodePort(3)); err == nil {
			t.Errorf("%s answers by a node that is off", name)
		}
		if err := cluster.Start(3); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the node's pod is started again", func() error {
			if _, err := podAddress(t.Context(), space, pod); err != nil {
				return err
			}
			restarts, err := tryKubectl(t.Context(), "-n", space, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
			if err == nil && restarts == "0" {
				err = fmt.Errorf("it is the old one still")
			}
			return err
		})
		eventually(t, "the port of each node", everyPort)
	})

	t.Run("a claim's data outlive the pod, and not the claim", func(t *testing.T) {
		before, err := podAddress(t.Context(), space, "names-0")
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+before+":8080/note", strings.NewReader("kept"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := inside.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()

		kubectl(t, "-n", space, "delete", "pod", "names-0")
		eventually(t, "the note after the pod's deletion", func() error {
			note, err := note(t, space, "names-0")
			if err == nil && note != "kept" {
				err = fmt.Errorf("it is %q", note)
			}
			return err
		})

		kubectl(t, "-n", space, "delete", "pvc", "data-names-0", "--wait=false")
		kubectl(t, "-n", space, "delete", "pod", "names-0")
		eventually(t, "no note in a new claim", func() error {
			note, err := note(t, space, "names-0")
			if err == nil && !strings.Contains(note, "404") {
				err = fmt.Errorf("it is %q", note)
			}
			return err
		})
	})

	t.Run("a disruption budget bounds evictions", func(t *testing.T) {
		evict := func(pod string) error {
			file := filepath.Join(t.TempDir(), "eviction.json")
			text := fmt.Sprintf(`{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": %q, "namespace": %q}}`, pod, space)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := tryKubectl(t.Context(), "create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", space, pod), "-f", file)
			return err
		}
		// The evicted pod does not come back while its node takes no pods.
		node := kubectl(t, "-n", space, "get", "pod", "names-1", "-o", "jsonpath={.spec.nodeName}")
		kubectl(t, "cordon", node)
		defer kubectl(t, "uncordon", node)
		eventually(t, "all pods count as healthy", func() error {
			allowed, err := tryKubectl(t.Context(), "-n", space, "get", "pdb", "names", "-o", "jsonpath={.status.disruptionsAllowed}")
			if err == nil && allowed != "1" {
				err = fmt.Errorf("%s evictions are allowed", allowed)
			}
			return err
		})
		eventually(t, "the first eviction", func() error { return evict("names-1") })
		if err := evict("names-2"); err == nil || !strings.Contains(err.Error(), "disruption budget") {
			t.Errorf("the second eviction: %v", err)
		}
	})
}

// note returns the note of a pod; the text contains 404 if there is none.
func note(t *testing.T, space, pod string) (string, error) {
	address, err := podAddress(t.Context(), space, pod)
	if err != nil {
		return "", err
	}
	answer, err := get(inside, "http://"+address+":8080/note")
	if err != nil && strings.Contains(err.Error(), "404") {
		return err.Error(), nil
	}
	return answer, err
}

func nodePort(node int) string { return fmt.Sprintf("http://%s:30080", kube.NodeAddress(node)) }

func TestNothingIsLeftOfAClusterWhoseStarterWasKilled(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kube")
	if out, err := exec.Command("go", "build", "-o", program, "holdfast/test/kube/run").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	left := kube.Open("left")
	t.Cleanup(func() { left.Down() })
	up := exec.Command(program, "up", "1")
	up.Env = append(os.Environ(), "HOLDFAST_KUBE=left")
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster's API", func() error {
		cmd, err := left.Kubectl(t.Context(), "get", "--raw=/readyz")
		if err != nil {
			return err
		}
		return cmd.Run()
	})
	if err := up.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = up.Wait()
	if !left.Runs() {
		t.Fatal("the cluster ended with its starter: nothing is left to find")
	}

	if err := left.Down(); err != nil {
		t.Fatal(err)
	}
	if left.Runs() {
		t.Error("something runs still")
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/holdfast-left-*")
	if err != nil || len(groups) > 0 {
		t.Errorf("control groups are left: %v, %v", groups, err)
	}
	if _, err := os.Stat(left.LogDir()); !os.IsNotExist(err) {
		t.Errorf("files are left: %v", err)
	}
}
