//go:build linux

package kubernetes

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/test/kube"
)

const nodes = 3

// cluster is the cluster of all tests here. A test uses a namespace of its own, and leaves the
// nodes as it found them. HOLDFAST_KUBE gives the cluster another name, so that several can exist.
var (
	clusterName = cmp.Or(os.Getenv("HOLDFAST_KUBE"), "test")
	cluster     = kube.Open(clusterName)
)

func TestMain(m *testing.M) {
	// The cluster's programs take minutes to compile, and need root, which is too much for a plain
	// 'go test ./...'.
	if os.Getenv("HOLDFAST_TEST_KUBERNETES") == "" {
		fmt.Println("left to 'make test-kubernetes', which sets HOLDFAST_TEST_KUBERNETES")
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	interrupted := context.AfterFunc(ctx, func() {
		cluster.Down()
		os.Exit(1)
	})
	defer interrupted() // deferred after stop, so that it runs before ctx ends

	cluster.Progress = os.Stderr
	if err := cluster.Up(ctx, nodes); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := cluster.Down(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// tryKubectl runs kubectl and returns what it printed.
func tryKubectl(ctx context.Context, args ...string) (string, error) {
	cmd, err := cluster.Kubectl(ctx, args...)
	if err != nil {
		return "", err
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, complaint.Bytes())
	}
	return strings.TrimSpace(out.String()), nil
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// namespace makes a namespace that is removed after the test. If the test has failed, it logs what
// was in it.
func namespace(t *testing.T, name string) {
	t.Helper()
	kubectl(t, "create", "namespace", name)
	t.Cleanup(func() {
		ctx := context.Background()
		if t.Failed() {
			for _, what := range []string{"pods,pvc,services", "events"} {
				out, err := tryKubectl(ctx, "-n", name, "get", what, "-o", "wide")
				t.Logf("%s of %s: %v\n%s", what, name, err, out)
			}
		}
		// Do not wait for pods that keep serving for a while after they were told to end.
		for _, args := range [][]string{
			{"-n", name, "delete", "deployments,statefulsets", "--all", "--cascade=orphan"},
			{"-n", name, "delete", "pods", "--all", "--force", "--grace-period=0"},
			{"delete", "namespace", name, "--timeout=2m"},
		} {
			if _, err := tryKubectl(ctx, args...); err != nil {
				t.Error(err)
			}
		}
	})
}

// apply applies manifests.
func apply(t *testing.T, space, manifests string) {
	t.Helper()
	cmd, err := cluster.Kubectl(t.Context(), "-n", space, "apply", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(manifests)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

// eventually repeats a step until it succeeds, for at most four minutes: Kubernetes itself takes
// two to give up an eviction.
func eventually(t *testing.T, what string, step func() error) {
	t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for {
		err := step()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// inside is a client whose connections begin in the cluster's network. Each request has a new
// connection, so that it may reach another pod.
var inside = &http.Client{
	Timeout: 3 * time.Second,
	Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return cluster.Dial(ctx, address)
		},
	},
}

// get returns the body of a successful answer.
func get(client *http.Client, url string) (string, error) {
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}

// podAddress returns the address of a ready pod.
func podAddress(ctx context.Context, space, pod string) (string, error) {
	out, err := tryKubectl(ctx, "-n", space, "get", "pod", pod, "-o",
		`jsonpath={.metadata.deletionTimestamp} {.status.podIP} {.status.conditions[?(@.type=="Ready")].status}`)
	if err != nil {
		return "", err
	}
	if words := strings.Fields(out); len(words) == 2 && words[1] == "True" {
		return words[0], nil
	}
	return "", fmt.Errorf("pod %s is not ready: %q", pod, out)
}
