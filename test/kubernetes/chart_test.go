//go:build linux

package kubernetes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/test/kube"
)

// chartDir is the directory of the Helm chart.
const chartDir = "../../deploy/chart"

// helm runs Helm in a namespace, and returns what it printed.
func helm(t *testing.T, space string, args ...string) string {
	t.Helper()
	out, err := tryHelm(t, space, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryHelm(t *testing.T, space string, args ...string) (string, error) {
	cmd, err := cluster.Helm(t.Context(), append(args, "--namespace", space)...)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	return out.String(), nil
}

// valuesFile writes values for the chart.
func valuesFile(t *testing.T, nodePort int, image, stack string) string {
	t.Helper()
	repository, tag, _ := strings.Cut(image, ":")
	text := fmt.Sprintf(`image: {repository: %s, tag: %s}
service: {type: NodePort, nodePort: %d}
redis: {storage: 1Gi}
ingress: {enabled: true, className: some, hosts: [{host: shop.example, paths: [/]}]}
metrics: {podMonitor: {enabled: true}, dashboard: {enabled: true}}
networkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: watchers}}}]}
stack:
%s`, repository, tag, nodePort, stack)
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestChart(t *testing.T) {
	const space, nodePort = "chart", 30064
	if err := loadImage(); err != nil {
		t.Fatal(err)
	}
	knowPodMonitors(t)
	namespace(t, space)
	kubectl(t, "label", "namespace", space, "pod-security.kubernetes.io/enforce=restricted")

	first := valuesFile(t, nodePort, image, "  redis: {memory: 64mb}\n")
	began := time.Now()
	notes := helm(t, space, "install", "shop", chartDir, "--values", first, "--wait", "--timeout", "4m")
	t.Logf("installed after %v", time.Since(began).Round(time.Second))
	if !strings.Contains(notes, "helm test shop") {
		t.Errorf("the notes do not say how to test:\n%s", notes)
	}
	if out := helm(t, space, "test", "shop", "--timeout", "3m"); !strings.Contains(out, "Succeeded") {
		t.Errorf("helm test:\n%s", out)
	}
	namespace(t, "watchers")
	watcher := newVisitor(t, "watchers")
	monitoring(t, space, watcher)
	address, err := cluster.Forward(t.Context(), fmt.Sprintf("%s:%d", kube.NodeAddress(1), nodePort))
	if err != nil {
		t.Fatal(err)
	}
	seed := kubectl(t, "-n", space, "get", "secret", "shop", "-o", "jsonpath={.data.seed}")

	// The log tells how many requests failed, and for how long none succeeded. The test checks that
	// no acknowledged write is lost. It does not check that no request fails, because a few
	// connections still end while a balancer's pod is replaced.
	l := startLoad(t, "http://"+address, 4)
	next := valuesFile(t, nodePort, nextImage, "  redis: {memory: 96mb}\n  apps: {web: {kv: {}, connections: 48}}\n")
	larger := valuesFile(t, nodePort, nextImage, "  balancers: 3\n  redis: {memory: 96mb, replicas: 3, sentinels: 4}\n  apps: {web: {kv: {}, nodes: 3}}\n")
	twoMore := valuesFile(t, nodePort, nextImage, "  redis: {memory: 96mb, sentinels: 5}\n")
	if out, err := tryHelm(t, space, "upgrade", "shop", chartDir, "--values", twoMore); err == nil || !strings.Contains(out, "by one at a time") {
		t.Errorf("two more Sentinels at once: %v\n%s", err, out)
	}
	for _, step := range []struct {
		what string
		pods int
		args []string
		to   string // the redis node that is made the master before
	}{
		{"an upgrade to another image", 10, []string{"upgrade", "shop", chartDir, "--reuse-values", "--set", "image.tag=next"}, ""},
		{"an upgrade to another stack file", 10, []string{"upgrade", "shop", chartDir, "--values", next}, ""},
		{"a rollback", 10, []string{"rollback", "shop", "1"}, ""},
		{"more nodes of each kind", 14, []string{"upgrade", "shop", chartDir, "--values", larger}, ""},
		{"fewer nodes of each kind and the master among them", 10, []string{"upgrade", "shop", chartDir, "--values", next}, "redis-4"},
	} {
		t.Run(step.what, func(t *testing.T) {
			if step.to != "" {
				leadTo(t, space, step.to)
			}
			l.since()
			began := time.Now()
			helm(t, space, append(step.args, "--wait", "--timeout", "8m")...)
			areReady(t, space, step.pods)
			l.serves(t, fmt.Sprintf("%s, in %v", step.what, time.Since(began).Round(time.Second)))
			if now := kubectl(t, "-n", space, "get", "secret", "shop", "-o", "jsonpath={.data.seed}"); now != seed {
				t.Error("the stack has another seed")
			}
		})
	}
	l.check(t)

	t.Run("an autoscaler", func(t *testing.T) { autoscaling(t, space, "http://"+address, watcher) })
}

// leadTo makes a redis node the master.
func leadTo(t *testing.T, space, node string) {
	t.Helper()
	pod := fmt.Sprintf("shop-redis-%d", strings.TrimPrefix(node, "redis-")[0]-'1')
	eventually(t, node+" is the master", func() error {
		_, err := tryKubectl(t.Context(), "-n", space, "exec", pod, "--request-timeout=40s", "--", "holdfast", "switchover", "--to", node,
			"--file", "/etc/holdfast/stack/holdfast.yaml", "--state", "/var/lib/holdfast/shop")
		if err != nil && strings.Contains(err.Error(), "is the master already") {
			return nil
		}
		return err
	})
}
