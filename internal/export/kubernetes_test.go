package export

import (
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/goldentest"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

const shop = `name: shop
entry:
  listen: 0.0.0.0:6301
  auth: none

# A second application.
apps:
  web: {kv: {}}
  sessions: {kv: {}, nodes: 3}
routes:
  - {path-prefix: /sessions/, app: sessions}
  - {app: web}
redis:
  memory: 256MB
`

func TestManifests(t *testing.T) {
	s, _, err := stack.Parse("holdfast.yaml", []byte(shop))
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.CheckPods(s); err != nil {
		t.Fatal(err)
	}
	k := Kubernetes{Stack: s, File: shop, Image: "holdfast-stack:1", ServiceType: "NodePort", NodePort: 30063}
	for name, got := range map[string]string{"kubernetes.yaml": k.Manifests(), "kubernetes-secret.yaml": k.Secret("0123456789abcdef0123456789abcdef")} {
		goldentest.Check(t, filepath.Join("testdata", name), got)
	}
}

func TestABalancersPodWaitsForTheLongestRequest(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"apps: {web: {kv: {}}}\n":                                 time.Minute,
		"apps: {web: {kv: {}, grace: 2m}}\n":                      2 * time.Minute,
		"apps: {web: {kv: {hold: 3m}}}\n":                         3*time.Minute + 5*time.Second,
		"apps: {web: {kv: {hold: 3m}}}\ntimeouts: {server: 4m}\n": 4 * time.Minute,
		"apps: {web: {kv: {}}, old: {servers: ['h:1'], timeouts: {server: 5m}}}\nroutes: [{path-prefix: /old, app: old}, {app: web}]\n": 5 * time.Minute,
	} {
		s, _, err := stack.Parse("holdfast.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		sets := Kubernetes{Stack: s}.deployments()
		if got := sets[len(sets)-1].grace; got != seconds(want+balancerLinger+endMargin) {
			t.Errorf("%s: %v s, want %v", text, got, seconds(want+balancerLinger+endMargin))
		}
	}
}
