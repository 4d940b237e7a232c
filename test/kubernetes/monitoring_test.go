//go:build linux

package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// The definition of the kind PodMonitor is in the Go module of the Prometheus Operator.
const (
	operator    = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	operatorSum = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
)

// knowPodMonitors adds the kind PodMonitor to the API server until the test's end.
func knowPodMonitors(t *testing.T) {
	t.Helper()
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", operator)
	download.Dir = t.TempDir() // outside of any module
	out, err := download.Output()
	if err != nil {
		t.Fatalf("go mod download %s: %v\n%s", operator, err, out)
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil || module.Sum != operatorSum {
		t.Fatalf("%s has the sum %q, and not %q: %v", operator, module.Sum, operatorSum, err)
	}
	definition := filepath.Join(module.Dir, "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml")
	kubectl(t, "apply", "--server-side", "-f", definition)
	t.Cleanup(func() {
		if _, err := tryKubectl(context.Background(), "delete", "-f", definition); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, "wait", "--for=condition=Established", "crd/podmonitors.monitoring.coreos.com", "--timeout=1m")
}

// monitored is what a test reads of a PodMonitor.
type monitored struct {
	Spec struct {
		Selector            struct{ MatchLabels map[string]string }
		PodMetricsEndpoints []struct{ Port, Path string }
	}
}

// pod is what a test reads of a pod.
type pod struct {
	Metadata struct{ Name string }
	Spec     struct {
		Containers []struct {
			Ports []struct {
				Name          string
				ContainerPort int
			}
		}
	}
	Status struct{ PodIP, Phase string }
}

// read reads what kubectl prints as JSON.
func read(t *testing.T, into any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(kubectl(t, append(args, "-o", "json")...)), into); err != nil {
		t.Fatal(err)
	}
}

// targets returns the URLs, without a scheme, that Prometheus scrapes because of a PodMonitor: each
// selected pod's ports with the names that it lists. It checks that each pod has such a port, and
// that each name is a port of some pod.
func targets(t *testing.T, space string, m monitored) (urls []string) {
	t.Helper()
	var labels []string
	for name, value := range m.Spec.Selector.MatchLabels {
		labels = append(labels, name+"="+value)
	}
	var pods struct{ Items []pod }
	read(t, &pods, "-n", space, "get", "pods", "-l", strings.Join(labels, ","), "--field-selector=status.phase=Running")
	if len(pods.Items) < 10 {
		t.Fatalf("the PodMonitor selects %d pods alone", len(pods.Items))
	}
	found := map[string]bool{}
	for _, p := range pods.Items {
		before := len(urls)
		for _, e := range m.Spec.PodMetricsEndpoints {
			for _, port := range p.Spec.Containers[0].Ports {
				if port.Name == e.Port {
					found[e.Port] = true
					urls = append(urls, net.JoinHostPort(p.Status.PodIP, fmt.Sprint(port.ContainerPort))+e.Path)
				}
			}
		}
		if len(urls) == before {
			t.Errorf("%s has none of the PodMonitor's ports", p.Metadata.Name)
		}
	}
	for _, e := range m.Spec.PodMetricsEndpoints {
		if !found[e.Port] {
			t.Errorf("no pod has the PodMonitor's port %s", e.Port)
		}
	}
	return urls
}

// scrape adds the names of the metrics that a visitor reads at a URL without its scheme.
func (v visitor) scrape(names map[string]bool, url string) error {
	text, err := get(inside, fmt.Sprintf("http://%s:8080/get/%s", v.address, url))
	if err != nil {
		return err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text + "\n"))
	if err == nil && len(families) < 5 {
		err = fmt.Errorf("it has %d metrics alone", len(families))
	}
	for name := range families {
		names[name] = true
	}
	return err
}

// pastPods are metrics of the dashboard that no pod exports, since none knows the whole stack
// (docs/kubernetes.md).
var pastPods = []string{"holdfast_failovers_total", "holdfast_redis_lag_bytes", "holdfast_redis_linked_replicas",
	"holdfast_sentinels_agree", "holdfast_stack_ready", "holdfast_switchovers_total"}

// monitoring checks the PodMonitor, the dashboard and the Ingress of a stack against its pods. The
// watcher may read metrics.
func monitoring(t *testing.T, space string, watcher visitor) {
	t.Run("the API server accepts every object strictly", func(t *testing.T) {
		manifest := helm(t, space, "get", "manifest", "shop")
		for _, c := range []struct {
			text string
			good bool
		}{
			{manifest, true},
			{strings.Replace(manifest, "podMetricsEndpoints:", "podMetricEndpoints:", 1), false},
			{strings.Replace(manifest, "ingressClassName:", "className:", 1), false},
		} {
			cmd, err := cluster.Kubectl(t.Context(), "-n", space, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdin = strings.NewReader(c.text)
			if out, err := cmd.CombinedOutput(); (err == nil) != c.good {
				t.Errorf("%v\n%s", err, out)
			}
		}
	})

	names := map[string]bool{}
	t.Run("who may read metrics gets them from each port of the PodMonitor, and others do not", func(t *testing.T) {
		other := newVisitor(t, "default")
		var m monitored
		read(t, &m, "-n", space, "get", "podmonitor", "shop")
		for _, url := range targets(t, space, m) {
			eventually(t, "scrape "+url, func() error { return watcher.scrape(names, url) })
			if err := other.scrape(map[string]bool{}, url); err == nil {
				t.Errorf("a pod that may not read metrics reads %s", url)
			}
		}
		for _, address := range podsOf(t, space, "redis") {
			if err := watcher.connects(net.JoinHostPort(address, "6379")); err == nil {
				t.Errorf("who may read metrics reaches Redis at %s", address)
			}
		}
	})

	t.Run("each metric of the dashboard is there", func(t *testing.T) {
		var shown struct{ Data map[string]string }
		read(t, &shown, "-n", space, "get", "configmap", "shop-dashboard")
		asked := map[string]bool{}
		for _, name := range regexp.MustCompile(`\b(holdfast|haproxy)_[a-z_]+\b`).FindAllString(shown.Data["holdfast.json"], -1) {
			asked[strings.TrimSuffix(name, "_bucket")] = true
		}
		if len(asked) < 20 {
			t.Fatalf("the dashboard has %d metrics alone", len(asked))
		}
		for _, name := range slices.Sorted(maps.Keys(asked)) {
			if past := slices.Contains(pastPods, name); names[name] == past {
				t.Errorf("%s: some pod has it: %v, none is to have it: %v", name, names[name], past)
			}
		}
	})

	t.Run("the Ingress leads to ready balancers", func(t *testing.T) {
		backend := "jsonpath={.spec.rules[0].http.paths[0].backend.service."
		service := kubectl(t, "-n", space, "get", "ingress", "shop", "-o", backend+"name}")
		port := kubectl(t, "-n", space, "get", "ingress", "shop", "-o", backend+"port.name}")
		var slices struct {
			Items []struct {
				Ports     []struct{ Name string }
				Endpoints []struct {
					Addresses  []string
					Conditions struct{ Ready bool }
				}
			}
		}
		read(t, &slices, "-n", space, "get", "endpointslices", "-l", "kubernetes.io/service-name="+service)
		ready := 0
		for _, s := range slices.Items {
			for _, p := range s.Ports {
				for _, e := range s.Endpoints {
					if p.Name == port && e.Conditions.Ready {
						ready++
					}
				}
			}
		}
		if ready != 2 {
			t.Errorf("%d endpoints are ready at port %s of the Service %s", ready, port, service)
		}
	})
}
