package export

import (
	"os"
	"path/filepath"
	"testing"

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
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || got != string(want) {
			t.Errorf("%s differs (go test ./internal/export -update):\n%s\n%v", name, got, err)
		}
	}
}
