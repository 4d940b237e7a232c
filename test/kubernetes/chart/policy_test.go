package chart

import (
	"strings"
	"testing"

	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// The policies are applied to a table of connections, as the API's documentation describes. The
// tests in holdfast/test/kubernetes show that a cluster enforces them.
func TestWhoMayConnectToWhom(t *testing.T) {
	connections(t, watched, 4, []connection{
		{"stranger", "balancer", 6301, true},
		{"prometheus", "balancer", 6301, true},
		{"stranger", "balancer", 9633, false},
		{"stranger", "balancer", 6378, false},
		{"balancer", "web", 5001, true},
		{"stranger", "web", 5001, false},
		{"redis", "web", 5001, false},
		{"web", "redis", 6379, true},
		{"balancer", "redis", 6379, true},
		{"sentinel", "redis", 6379, true},
		{"redis", "redis", 6379, true},
		{"redis", "redis", 6300, true},
		{"sentinel", "redis", 6300, true},
		{"other redis", "redis", 6379, false},
		{"stranger", "redis", 6379, false},
		{"stranger", "redis", 6300, false},
		{"stranger", "sentinel", 26379, false},
		{"web", "sentinel", 26379, true},
		{"redis", "sentinel", 26379, true},
		{"sentinel", "sentinel", 26379, true},
		{"prometheus", "redis", 9633, true},
		{"prometheus", "web", 5002, true},
		{"prometheus", "web", 5001, false},
		{"prometheus", "redis", 6379, false},
		{"stranger", "redis", 9633, false},
		{"redis", "stranger", 80, true}, // no pod of the stack; outgoing connections are allowed
	})
}

func TestWhoMayConnectToWhomWithPrograms(t *testing.T) {
	connections(t, watched+programs.values, 6, []connection{
		{"stranger", "balancer", 6301, true},
		{"stranger", "balancer", 6378, false},
		{"stranger", "shop", 8000, false},
		{"balancer", "shop", 8000, true},
		{"balancer", "raw", 8080, true},
		{"shop", "balancer", 6378, true},
		{"raw", "balancer", 6378, true},
		{"web", "balancer", 6378, false},
		{"balancer", "balancer", 6378, true},
		{"other redis", "balancer", 6378, false},
		{"shop", "balancer", 9633, false},
		{"shop", "redis", 6379, false},
		{"shop", "redis", 6300, false},
		{"shop", "sentinel", 26379, false},
		{"shop", "web", 5001, false},
		{"shop", "raw", 8080, false},
		{"raw", "shop", 8000, false},
		{"prometheus", "shop", 8000, false},
		{"balancer", "redis", 6379, true},
		{"web", "redis", 6379, true},
		{"redis", "redis", 6300, true},
		{"sentinel", "redis", 6379, true},
		{"redis", "sentinel", 26379, true},
		{"web", "sentinel", 26379, true},
		{"balancer", "sentinel", 26379, true},
	})
}

const watched = "metrics: {podMonitor: {enabled: true}}\nnetworkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]}\n"

// connection is whether pods of one kind may connect to a port of another one's.
type connection struct {
	from, to string
	port     int32
	may      bool
}

// connections checks the policies of a release, of which there are count.
func connections(t *testing.T, values string, count int, all []connection) {
	t.Helper()
	chart := rendered(t, values)
	var policies []networking.NetworkPolicy
	pods := map[string]map[string]string{ // the labels of pods, by what they are
		"stranger":   {"app": "shop"},
		"prometheus": {"app": "prometheus"},
		// A pod of another release.
		"other redis": {"app.kubernetes.io/name": "holdfast", "app.kubernetes.io/instance": "other", "app.kubernetes.io/component": "redis"},
	}
	for name, o := range chart {
		switch o["kind"] {
		case "NetworkPolicy":
			text, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			var p networking.NetworkPolicy
			if err := yaml.UnmarshalStrict(text, &p); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			policies = append(policies, p)
		case "Deployment", "StatefulSet":
			set := map[string]string{}
			for k, v := range at(o, "spec", "template", "metadata", "labels").(object) {
				set[k] = v.(string)
			}
			pods[strings.TrimPrefix(at(o, "metadata", "name").(string), "shop-")] = set
		}
	}
	if len(policies) != count {
		t.Fatalf("there are %d policies", len(policies))
	}
	outside := map[string]string{"prometheus": "monitoring"}

	for _, c := range all {
		if pods[c.from] == nil || pods[c.to] == nil {
			t.Fatalf("there is no %s or no %s", c.from, c.to)
		}
		if got := allowed(t, policies, pods[c.from], pods[c.to], outside[c.from], c.port); got != c.may {
			t.Errorf("from %s to %s at port %d: allowed %v", c.from, c.to, c.port, got)
		}
	}
}

func allowed(t *testing.T, policies []networking.NetworkPolicy, from, to map[string]string, namespace string, port int32) bool {
	isolated := false
	for _, p := range policies {
		for _, kind := range p.Spec.PolicyTypes {
			if kind != networking.PolicyTypeIngress {
				t.Fatalf("%s is about %s", p.Name, kind)
			}
		}
		if !matches(t, &p.Spec.PodSelector, to) {
			continue
		}
		isolated = true
		for _, rule := range p.Spec.Ingress {
			hasPort, isPeer := len(rule.Ports) == 0, len(rule.From) == 0
			for _, each := range rule.Ports {
				hasPort = hasPort || each.Port == nil || each.Port.IntVal == port
			}
			for _, peer := range rule.From {
				inSpace := namespace == ""
				if peer.NamespaceSelector != nil {
					inSpace = matches(t, peer.NamespaceSelector, map[string]string{"name": namespace})
				}
				isPeer = isPeer || inSpace && (peer.PodSelector == nil || matches(t, peer.PodSelector, from))
			}
			if hasPort && isPeer {
				return true
			}
		}
	}
	return !isolated
}

func matches(t *testing.T, s *meta.LabelSelector, set map[string]string) bool {
	selector, err := meta.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(labels.Set(set))
}
