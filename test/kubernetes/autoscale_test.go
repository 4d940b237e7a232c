//go:build linux

package kubernetes

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scaled are values with which web nodes are added and removed soon. A node that is told to end
// serves on for a little longer than DNS answers are cached in this cluster.
const scaled = `
web:
  lingerSeconds: 15
  resources: {requests: {cpu: 100m}}
  autoscaling:
    enabled: true
    minReplicas: 2
    maxReplicas: 3
    targetCPUUtilizationPercentage: 75
    behavior:
      scaleUp: {stabilizationWindowSeconds: 0}
      scaleDown: {stabilizationWindowSeconds: 10, policies: [{type: Pods, value: 4, periodSeconds: 15}]}
`

// autoscaling turns the autoscaler of web nodes on in a running stack. It checks that the
// autoscaler adds nodes under load and removes them afterwards, that an upgrade does not change the
// number, and that no request fails. The watcher may read metrics.
func autoscaling(t *testing.T, space, url string, watcher visitor) {
	more := filepath.Join(t.TempDir(), "autoscaling.yaml")
	if err := os.WriteFile(more, []byte(scaled), 0o644); err != nil {
		t.Fatal(err)
	}
	upgrade := func(args ...string) {
		t.Helper()
		helm(t, space, append([]string{"upgrade", "shop", chartDir, "--reuse-values", "--values", more, "--wait", "--timeout", "4m"}, args...)...)
	}
	began := time.Now()
	step := func(what string) { t.Logf("%v: %s", time.Since(began).Round(time.Second), what) }

	few := startLoad(t, url, 1)
	upgrade()
	eventually(t, "the autoscaler knows how busy two web nodes are", func() error {
		out, err := tryKubectl(t.Context(), "-n", space, "get", "hpa", "shop-web", "-o",
			`jsonpath={.status.currentReplicas} {.status.currentMetrics[0].resource.current.averageUtilization}%`)
		if err == nil && (!strings.HasPrefix(out, "2 ") || strings.HasSuffix(out, " %")) {
			err = fmt.Errorf("it knows %q", out)
		}
		if err == nil {
			step("a few requests: " + out)
		}
		return err
	})
	first := podsOf(t, space, "web")

	many := startLoad(t, url, 32)
	webNodes(t, space, 3)
	step("many requests, and three web nodes")
	for _, ip := range podsOf(t, space, "web") {
		eventually(t, "requests at "+ip, func() error {
			count, err := watcher.requests(ip)
			if err == nil && count < 100 {
				err = fmt.Errorf("it had %d", count)
			}
			return err
		})
	}
	if now := podsOf(t, space, "web"); strings.Join(now, " ") == strings.Join(first, " ") {
		t.Error("no web node is new")
	}
	step("each of them has answered some")

	// The generation shows a change that the autoscaler has undone at once.
	before := kubectl(t, "-n", space, "get", "deployment", "shop-web", "-o", "jsonpath={.metadata.generation} {.spec.replicas}")
	upgrade("--set", "metrics.dashboard.enabled=false")
	after := kubectl(t, "-n", space, "get", "deployment", "shop-web", "-o", "jsonpath={.metadata.generation} {.spec.replicas}")
	if before != after {
		t.Errorf("an upgrade makes %q of the Deployment %q", after, before)
	}
	many.end()
	webNodes(t, space, 2)
	step("few requests again, and two web nodes")
	few.serves(t, "all of it")
	for _, l := range []*load{few, many} {
		if len(l.failed) > 0 {
			t.Errorf("%d of %d requests failed, the first ones: %q", len(l.failed), len(l.failed)+len(l.acknowledged), l.failed[:min(3, len(l.failed))])
		}
	}
	few.check(t)
}

// webNodes waits until the stack has exactly so many web nodes, all of them ready.
func webNodes(t *testing.T, space string, count int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d web nodes", count), func() error {
		want, err := tryKubectl(t.Context(), "-n", space, "get", "deployment", "shop-web", "-o", "jsonpath={.spec.replicas} {.status.readyReplicas}")
		if err != nil {
			return err
		}
		pods, err := tryKubectl(t.Context(), "-n", space, "get", "pods", "-l", "app.kubernetes.io/component=web", "-o", "name")
		if err == nil && (want != fmt.Sprintf("%d %[1]d", count) || len(strings.Fields(pods)) != count) {
			hpa, _ := tryKubectl(t.Context(), "-n", space, "get", "hpa", "shop-web")
			err = fmt.Errorf("wanted and ready: %s; there are %s\n%s", want, pods, hpa)
		}
		return err
	})
}

// requests returns how many requests a web node has served. The visitor reads its metrics.
func (v visitor) requests(ip string) (count uint64, err error) {
	text, err := get(inside, fmt.Sprintf("http://%s:8080/get/%s/metrics", v.address, net.JoinHostPort(ip, "5002")))
	if err != nil {
		return 0, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text + "\n"))
	for _, m := range families["holdfast_http_request_seconds"].GetMetric() {
		count += m.GetHistogram().GetSampleCount()
	}
	return count, err
}
