package chart

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// programs is a variant with programs of the user's own. Its env has what Holdfast replaces, and
// what Kubernetes and a shell would.
var programs = variant{
	name: "programs",
	values: `
image: {repository: holdfast-stack, tag: "1"}
secret: {existing: shop}
program: {autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 12}}
web: {autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 12}}
stack:
  network: trusted
  apps:
    web: {kv: {}}
    shop:
      image: registry.example/shop:1
      port: 8000
      nodes: 3
      grace: 1m30s
      args: [serve, "--as=${HOLDFAST_NODE}", "$PORT of $HOSTNAME", "$(id) $$HOST $$$PORT"]
      env:
        DSN: "${REDIS_URL}?x=$$1"
        TEXT: "'a' \"b\" <c> & $(HOST) $HOST"
        NUMBER: 1000000
        REDIS_URL: "${REDIS_URL}#own"
      health: {path: "/up?x=1", host: shop.example, interval: 1500ms, fall: 4, start: 3m500ms}
    raw: {image: "raw@sha256:0000000000000000000000000000000000000000000000000000000000000000", send-proxy: true}
  routes:
  - {path-prefix: /raw, app: raw}
  - {path-prefix: /web, app: web, strip-prefix: true}
  - {app: shop}
  timeouts: {check: 3s}
  redis: {memory: 100mb}
`,
	options: []string{"--image", "holdfast-stack:1", "--autoscale", "3-12"},
}

// alone is a variant with a program that has no Redis.
var alone = variant{
	name: "alone",
	values: `
image: {repository: holdfast-stack, tag: "1"}
secret: {existing: shop}
stack:
  apps: {shop: {image: shop, health: {path: none}}}
  redis: {enabled: false}
`,
	options: []string{"--image", "holdfast-stack:1"},
}

// stackFileOf returns the digest by which the pods of a set change with the stack file.
func stackFileOf(o object) any {
	return at(o, "spec", "template", "metadata", "annotations", "holdfast/stack-file")
}

func TestANewVersionOfAProgramReplacesNoOtherPod(t *testing.T) {
	before := rendered(t, programs.values)
	for _, c := range []struct {
		old, new string
		all      bool // whether all pods change
	}{
		{"shop:1", "shop:2", false},
		{"serve", "serve-all", false},
		{"NUMBER: 1000000", "NUMBER: 1000001", false},
		{"/up?x=1", "/up?x=2", true},
		{"100mb", "101mb", true},
	} {
		after := rendered(t, strings.Replace(programs.values, c.old, c.new, 1))
		for name, o := range before {
			if kind := o["kind"]; kind != "Deployment" && kind != "StatefulSet" {
				continue
			}
			same := len(differences(name, at(o, "spec", "template"), at(after[name], "spec", "template"))) == 0
			switch name {
			case "Deployment shop-shop":
				if same != (c.old == "100mb") {
					t.Errorf("%s to %s: the program's pods stay: %v", c.old, c.new, same)
				}
			case "Deployment shop-raw":
				if !same {
					t.Errorf("%s to %s: another program's pods change", c.old, c.new)
				}
			default:
				if same == c.all {
					t.Errorf("%s to %s: %s stays: %v", c.old, c.new, name, same)
				}
			}
		}
	}
}

func TestTheChartMakesThePasswordsOfPrograms(t *testing.T) {
	values := strings.Replace(programs.values, "secret: {existing: shop}\n", "", 1)
	seen := map[string]bool{}
	for range 2 {
		all := rendered(t, values)
		for name, key := range map[string]string{"shop": "seed", "shop-shop": "password", "shop-raw": "password"} {
			o := all["Secret "+name]
			text, err := base64.StdEncoding.DecodeString(fmt.Sprint(at(o, "data", key)))
			kept := at(o, "metadata", "annotations", "helm.sh/resource-policy") == "keep"
			if err != nil || !regexp.MustCompile(`^[A-Za-z0-9]{64}$`).Match(text) || at(o, "immutable") != true || !kept {
				t.Errorf("%s: %v, %v", name, o, err)
			}
			seen[string(text)] = true
		}
	}
	if len(seen) != 6 {
		t.Errorf("of six random texts %d differ", len(seen))
	}

	for name := range maps.Keys(rendered(t, programs.values)) {
		if strings.HasPrefix(name, "Secret ") {
			t.Errorf("there is %s, although secret.existing says that the user makes the Secrets", name)
		}
	}
	if all := rendered(t, strings.Replace(alone.values, "secret: {existing: shop}\n", "", 1)); all["Secret shop-shop"] != nil || all["Secret shop"] == nil {
		t.Error("a program without Redis has a password for it")
	}
}

func TestAProgramsPodHasNoSecretButItsPassword(t *testing.T) {
	all := rendered(t, programs.values)
	pod := at(all["Deployment shop-shop"], "spec", "template", "spec").(object)
	text := fmt.Sprint(pod)
	if n := strings.Count(text, "ecret"); n != 1 || !strings.Contains(text, "secretKeyRef:map[key:password name:shop-shop]") {
		t.Errorf("it names %d Secrets: %s", n, text)
	}
	if pod["automountServiceAccountToken"] != false || strings.Contains(text, "configMap") {
		t.Errorf("it may ask the cluster, or has the stack file: %s", text)
	}
	if raw := fmt.Sprint(at(all["Deployment shop-raw"], "spec", "template")); strings.Contains(raw, "shop-shop") {
		t.Errorf("another program has its password: %s", raw)
	}
}

func TestWhatAProgramMayDoIsDifferentForOne(t *testing.T) {
	all := rendered(t, programs.values+`
apps:
  raw:
    podSecurityContext: {runAsUser: 1234}
    securityContext: {readOnlyRootFilesystem: false}
    envFrom: [{secretRef: {name: keys}}]
    startSeconds: 9
    lingerSeconds: 0
`)
	raw := at(all["Deployment shop-raw"], "spec", "template", "spec").(object)
	container := raw["containers"].([]any)[0].(object)
	for what, got := range map[string][2]any{
		"user":      {at(raw, "securityContext", "runAsUser"), 1234.0},
		"not root":  {at(raw, "securityContext", "runAsNonRoot"), true},
		"its files": {at(container, "securityContext", "readOnlyRootFilesystem"), false},
		"start":     {at(container, "startupProbe", "failureThreshold"), 9.0},
		"preStop":   {container["lifecycle"], nil},
		"envFrom":   {fmt.Sprint(container["envFrom"]), "[map[secretRef:map[name:keys]]]"},
		"grace":     {raw["terminationGracePeriodSeconds"], 15.0},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %v, want %v", what, got[0], got[1])
		}
	}
	shop := at(all["Deployment shop-shop"], "spec", "template", "spec").(object)
	if at(shop, "securityContext", "runAsUser") != nil || shop["terminationGracePeriodSeconds"] != 130.0 {
		t.Errorf("the other program has changed: %v", shop)
	}
}

func TestStacksWhoseProgramsCannotRunAreRefused(t *testing.T) {
	for old, want := range map[string]string{
		"network: trusted":   "stack.apps.raw.image: a program has no certificate",
		"image: {repository": "", // nothing of it changes
	} {
		_, err := render(load(t), strings.Replace(programs.values, old, map[bool]string{true: old, false: "network: encrypted"}[want == ""], 1))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("without %q: %v", old, err)
		}
	}
	const entry = "stack: {entry: {listen: \"0.0.0.0:%s\"}"
	for values, want := range map[string]string{
		fmt.Sprintf(entry, "6300") + "}":                                                                       "stack.entry.listen: in Kubernetes the port 6300 is where a pod reports its state",
		fmt.Sprintf(entry, "9633") + "}":                                                                       "stack.entry.listen: in Kubernetes the port 9633 is where a pod has its metrics",
		fmt.Sprintf(entry, "6378") + "}":                                                                       "stack.entry.listen, stack.redis.master-port: both are the port 6378",
		fmt.Sprintf(entry, "6301") + ", redis: {master-port: 6300}}":                                           "stack.redis.master-port: in Kubernetes the port 6300",
		fmt.Sprintf(entry, "6378") + ", redis: {master-port: 6377}}":                                           "",
		fmt.Sprintf(entry, "6378") + ", network: trusted, apps: {a: {image: a}}, redis: {enabled: false}}":     "",
		strings.Replace(programs.values, "$HOSTNAME", "$HOSTNAME $REDIS_SENTINELS", 1):                         "", // in args no variable of Redis is replaced
		strings.Replace(programs.values, "NUMBER: 1000000", "LATER: \"a ${REDIS_SENTINELS}\"", 1):              "stack.apps.shop.env.LATER: in Kubernetes a program has no ${REDIS_SENTINELS}",
		strings.Replace(programs.values, "NUMBER: 1000000", "LATER: $REDIS_MASTER_NAME", 1):                    "stack.apps.shop.env.LATER: in Kubernetes a program has no $REDIS_MASTER_NAME",
		strings.Replace(programs.values, "NUMBER: 1000000", "LATER: $$REDIS_MASTER_NAME $REDIS_SENTINELS_", 1): "",
	} {
		if _, err := render(load(t), values); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", values, err, want)
		}
	}
	_, err := render(load(t), "apps: {web: {envFrom: [{secretRef: {name: a}}]}}")
	if err == nil || !strings.Contains(err.Error(), "apps.web.envFrom is for applications with an image") {
		t.Errorf("envFrom of a kv: %v", err)
	}

	parsed, err := chartutil.ReadValues([]byte(programs.values))
	if err != nil {
		t.Fatal(err)
	}
	old := chartutil.DefaultCapabilities.Copy()
	old.KubeVersion = chartutil.KubeVersion{Version: "v1.29.9", Major: "1", Minor: "29"}
	values, err := chartutil.ToRenderValues(load(t), parsed, chartutil.ReleaseOptions{Name: "shop", Namespace: "default"}, old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Render(load(t), values); err == nil || !strings.Contains(err.Error(), "takes 1.30") {
		t.Errorf("an old cluster: %v", err)
	}
}

func TestTheChartsTestIsForAKV(t *testing.T) {
	for values, want := range map[string]bool{"": true, programs.values: false, alone.values: false} {
		files, err := render(load(t), values)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if strings.Contains(name, "/tests/") && (strings.TrimSpace(text) != "") != want {
				t.Errorf("%s is\n%s", name, text)
			}
		}
	}
}
