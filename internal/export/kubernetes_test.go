package export

import (
	"path/filepath"
	"strings"
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

// withPrograms is a stack with programs of the user's own.
const withPrograms = `name: shop
network: trusted
entry:
  listen: 0.0.0.0:6301
  auth: none
apps:
  web: {kv: {}}
  cart:
    image: registry.example/cart:1
    port: 8000
    args: [serve, "--as=${HOLDFAST_NODE}", "$(id) of $HOME", "$$PORT"]
    env: {DSN: "${REDIS_URL}?x=1", TEXT: "'a' $(HOST) $HOST"}
    health: {path: /up, host: cart.example}
  raw: {image: raw, send-proxy: true}
routes:
  - {path-prefix: /raw, app: raw}
  - {path-prefix: /web, app: web}
  - {app: cart}
`

// exported returns the manifests of a stack file.
func exported(t *testing.T, text string) Kubernetes {
	t.Helper()
	s := parsed(t, text)
	if err := plan.CheckPods(s); err != nil {
		t.Fatal(err)
	}
	return Kubernetes{Stack: s, File: text, Image: "holdfast-stack:1", ServiceType: "NodePort", NodePort: 30063}
}

func TestManifests(t *testing.T) {
	const random = "0123456789abcdef0123456789abcdef"
	k, programs := exported(t, shop), exported(t, withPrograms)
	for name, got := range map[string]string{
		"kubernetes.yaml": k.Manifests(), "kubernetes-secret.yaml": k.Secrets(random, nil),
		"programs.kubernetes.yaml":        programs.Manifests(),
		"programs.kubernetes-secret.yaml": programs.Secrets(random, map[string]string{"cart": "a" + random, "raw": "b" + random}),
	} {
		goldentest.Check(t, filepath.Join("testdata", name), got)
	}
}

func TestADeployOfAProgramChangesItsOwnPodsAlone(t *testing.T) {
	before := exported(t, withPrograms).digest()
	for _, c := range []struct {
		old, new string
		same     bool
	}{
		{"cart:1", "cart:2", true},
		{"serve", "all", true},
		{"?x=1", "?x=2", true},
		{"# none", "# a comment", true},
		{"/up", "/well", false},
		{"port: 8000", "port: 8001", false},
		{"{kv: {}}", "{kv: {}, nodes: 3}", false},
	} {
		if after := exported(t, strings.Replace(withPrograms+"# none\n", c.old, c.new, 1)).digest(); (after == before) != c.same {
			t.Errorf("%s to %s: the other pods stay as they are: %v", c.old, c.new, !c.same)
		}
	}
}

// The digest must not change with the words of a comment: Kubernetes would replace all pods of Holdfast.
func TestTheDigestOfAStackWithPrograms(t *testing.T) {
	k := exported(t, withPrograms)
	if got, want := k.digest(), `"7b8dff453ba7a252"`; got != want {
		t.Errorf("it is %s, want %s: it may change only with what the stack file says, or with a new key", got, want)
	}
	text := string(withoutComments(k.Stack.Show()))
	if strings.Contains(text, "# ") || !strings.Contains(text, "\n  web:\n") {
		t.Errorf("it is made from\n%s", text)
	}
}

func TestAProgramHasAsLongToStartAsItsHealthSays(t *testing.T) {
	for start, want := range map[string]string{"10s": "failureThreshold: 120}", "200500ms": "failureThreshold: 201}"} {
		text := exported(t, strings.Replace(withPrograms, "{path: /up,", "{start: "+start+", path: /up,", 1)).Manifests()
		_, pod, _ := strings.Cut(text, `image: "registry.example/cart:1"`+"\n        args")
		_, probe, _ := strings.Cut(pod, "startupProbe: {tcpSocket: {port: http}, periodSeconds: 1, ")
		if !strings.HasPrefix(probe, want) {
			t.Errorf("%s: the probe goes on with %.40q", start, probe)
		}
	}
}

func TestKubernetesReplacesNoTextOfAProgram(t *testing.T) {
	known := map[string]string{"HOST": "0.0.0.0", "HOLDFAST_NODE": reference("HOLDFAST_NODE")}
	for text, want := range map[string]string{
		"plain":             "plain",
		"$HOST":             "0.0.0.0",
		"${HOLDFAST_NODE}x": "$(HOLDFAST_NODE)x",
		"$$HOST":            "$$HOST", // $HOST, once Kubernetes has read it
		"$(HOST)":           "$$(HOST)",
		"$HOSTNAME $":       "$$HOSTNAME $$",
		"$$$HOST":           "$$0.0.0.0",
	} {
		if got := podText(text, known); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
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
