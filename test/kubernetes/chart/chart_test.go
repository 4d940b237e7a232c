package chart

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	autoscaling "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"
)

// variant is values of the chart, and the equivalent options of 'holdfast export kubernetes'.
type variant struct {
	name, values string
	options      []string
}

// withSecret returns the values with the name of a Secret, so that the chart makes none.
func (v variant) withSecret() string {
	if strings.Contains(v.values, "secret:") {
		return v.values
	}
	return v.values + "secret: {existing: shop}\n"
}

var variants = []variant{
	{name: "default", values: "image: {repository: holdfast-stack, tag: \"1\"}\n", options: []string{"--image", "holdfast-stack:1"}},
	{
		name: "large",
		values: `
image: {repository: registry.example/holdfast-stack, tag: "2"}
service: {type: NodePort, nodePort: 30063}
storageClass: fast
redis: {storage: 20Gi}
web: {autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 12}}
metrics: {podMonitor: {enabled: true}, dashboard: {enabled: true}}
stack:
  entry: {listen: "0.0.0.0:8080", limits: {connections: 1000000}}
  balancers: 3
  apps:
    web: {kv: {admin: false}, nodes: 3, grace: 1m30s}
    sessions: {kv: true, grace: 500ms}
    legacy: {servers: ["10.0.0.1:80"]}
  routes:
  - {path-prefix: /sessions/, app: sessions}
  - {path-prefix: /old/, app: legacy}
  - {app: web}
  redis: {memory: 1500mb, replicas: 3, sentinels: 5, failover-timeout: 1500ms}
  timeouts: {queue: 30s}
`,
		options: []string{"--image", "registry.example/holdfast-stack:2", "--service", "NodePort", "--node-port", "30063",
			"--storage-class", "fast", "--storage", "20Gi", "--autoscale", "3-12", "--monitor"},
	},
	{
		name: "plain",
		values: `
image: {repository: holdfast-stack, tag: "1"}
networkPolicy: {enabled: false}
service: {type: LoadBalancer}
stack:
  apps: {web: {kv: {}, nodes: 1}}
  redis: {memory: 1073741824, replicas: 1}
  metrics: {enabled: false}
`,
		options: []string{"--image", "holdfast-stack:1", "--service", "LoadBalancer", "--network-policies=false"},
	},
}

// longRequests are variants whose balancers wait longer for a request than timeouts.server.
var longRequests = []variant{
	{
		name: "held",
		values: `
image: {repository: holdfast-stack, tag: "1"}
stack:
  apps: {web: {kv: {hold: 1m59500ms}}, quick: {kv: true}}
  timeouts: {server: 90s}
  routes: [{path-prefix: /quick, app: quick}, {app: web}]
`,
		options: []string{"--image", "holdfast-stack:1"},
	},
	{
		name: "slow",
		values: `
image: {repository: holdfast-stack, tag: "1"}
stack:
  apps: {web: {kv: {}}, legacy: {servers: ["10.0.0.1:80"], timeouts: {server: 3m}}}
  routes: [{path-prefix: /old, app: legacy}, {app: web}]
`,
		options: []string{"--image", "holdfast-stack:1"},
	},
}

func TestTheChartMakesWhatExportPrints(t *testing.T) {
	for _, v := range slices.Concat(variants, longRequests, []variant{programs, alone}) {
		t.Run(v.name, func(t *testing.T) {
			chart := rendered(t, v.withSecret())
			file := filepath.Join(t.TempDir(), "holdfast.yaml")
			stack, _ := at(chart["ConfigMap shop"], "data", "holdfast.yaml").(string)
			if err := os.WriteFile(file, []byte(stack), 0o644); err != nil {
				t.Fatal(err)
			}
			export := objects(t, string(holdfast(t, append([]string{"export", "kubernetes", "--file", file}, v.options...)...)))
			if len(export) < 9 {
				t.Errorf("export prints %d objects alone", len(export))
			}
			for name, want := range export {
				if v.name == programs.name || v.name == alone.name {
					// Each makes this digest from its own writing of the file.
					for _, o := range []object{chart[name], want} {
						if annotations, ok := at(o, "spec", "template", "metadata", "annotations").(object); ok {
							delete(annotations, "holdfast/stack-file")
						}
					}
				}
				for _, difference := range differences(name, plain(chart[name]), plain(want)) {
					t.Error(difference)
				}
				delete(chart, name)
			}
			for name := range chart {
				t.Errorf("the chart has %s, and export does not", name)
			}
		})
	}
}

// plain returns an object without the labels that only Helm adds.
func plain(o object) any {
	if labels, ok := at(o, "metadata", "labels").(object); ok {
		for _, label := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"} {
			delete(labels, label)
		}
	}
	if metadata, ok := at(o, "metadata").(object); ok {
		delete(metadata, "namespace")
	}
	containers, _ := at(o, "spec", "template", "spec", "containers").([]any)
	for _, c := range containers {
		delete(c.(object), "imagePullPolicy")
	}
	return o
}

// differences returns the paths at which two values differ, with both values.
func differences(path string, got, want any) (all []string) {
	g, gotMap := got.(object)
	w, wantMap := want.(object)
	if gotMap && wantMap {
		keys := map[string]bool{}
		for key := range g {
			keys[key] = true
		}
		for key := range w {
			keys[key] = true
		}
		for key := range keys {
			all = append(all, differences(path+"."+key, g[key], w[key])...)
		}
		slices.Sort(all)
		return all
	}
	gl, gotList := got.([]any)
	wl, wantList := want.([]any)
	if gotList && wantList && len(gl) == len(wl) {
		for i := range gl {
			all = append(all, differences(fmt.Sprintf("%s[%d]", path, i), gl[i], wl[i])...)
		}
		return all
	}
	if !reflect.DeepEqual(got, want) {
		return []string{fmt.Sprintf("%s is %v in the chart, and %v by export", path, got, want)}
	}
	return nil
}

func TestRenderedManifestsAreTheGoldenOnes(t *testing.T) {
	for _, v := range slices.Concat(variants, []variant{programs}) {
		files, err := render(load(t), v.withSecret())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name, content := range files {
			if strings.TrimSpace(content) != "" && !strings.HasSuffix(name, ".tpl") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		var got strings.Builder
		for _, name := range names {
			fmt.Fprintf(&got, "---\n# Source: %s\n%s\n", name, strings.TrimSpace(files[name]))
		}
		golden := filepath.Join("testdata", v.name+".yaml")
		if *update {
			if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || got.String() != string(want) {
			t.Errorf("%s differs: look at it with 'go test -update' and git diff (%v)", golden, err)
		}
	}
}

func TestHelmsLinterHasNothingToSay(t *testing.T) {
	for _, v := range slices.Concat(variants, []variant{programs, alone}) {
		var values map[string]any
		for _, o := range objects(t, v.values) {
			values = o
		}
		result := lint.AllWithKubeVersion(dir, values, "default", &chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"})
		for _, m := range result.Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", v.name, m)
			}
		}
	}
}

func TestTheSeedIsMadeByTheChart(t *testing.T) {
	seed := func() string {
		o := rendered(t, "")["Secret shop"]
		if at(o, "metadata", "annotations", "helm.sh/resource-policy") != "keep" || at(o, "immutable") != true {
			t.Errorf("the Secret does not stay as it is: %v", o)
		}
		text, err := base64.StdEncoding.DecodeString(fmt.Sprint(at(o, "data", "seed")))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	one, two := seed(), seed()
	if !regexp.MustCompile(`^[A-Za-z0-9]{64}$`).MatchString(one) || one == two {
		t.Errorf("the seed is %q and then %q", one, two)
	}
	if o := rendered(t, "secret: {existing: mine}")["Secret shop"]; o != nil {
		t.Errorf("there is a Secret beside the one that exists: %v", o)
	}
	volumes, _ := at(rendered(t, "secret: {existing: mine}")["StatefulSet shop-redis"], "spec", "template", "spec", "volumes").([]any)
	if text := fmt.Sprint(volumes); !strings.Contains(text, "secretName:mine") {
		t.Errorf("the pods have other secrets than those that exist: %s", text)
	}
}

func TestTheDashboardIsTheOneInTheDocs(t *testing.T) {
	own, err := os.ReadFile(dir + "/files/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	if docs, err := os.ReadFile(root + "/docs/grafana.json"); err != nil || string(docs) != string(own) {
		t.Errorf("copy docs/grafana.json to deploy/chart/files (%v)", err)
	}
}

func TestTheAutoscalersBehaviorIsTheOneOfTheValues(t *testing.T) {
	const values = `
web: {autoscaling: {enabled: true, behavior: {scaleDown: {stabilizationWindowSeconds: 60}}}}
stack: {apps: {web: {kv: {}}, sessions: {kv: {}}}, routes: [{path-prefix: /sessions, app: sessions}, {app: web}]}
apps: {sessions: {autoscaling: {behavior: {scaleDown: {stabilizationWindowSeconds: 120}}}}}
`
	for app, want := range map[string]int32{"web": 60, "sessions": 120} {
		text, err := yaml.Marshal(rendered(t, values)["HorizontalPodAutoscaler shop-"+app])
		if err != nil {
			t.Fatal(err)
		}
		var scaler autoscaling.HorizontalPodAutoscaler
		if err := yaml.UnmarshalStrict(text, &scaler); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if got := scaler.Spec.Behavior; got == nil || got.ScaleDown == nil || *got.ScaleDown.StabilizationWindowSeconds != want {
			t.Errorf("the autoscaler of %s has the behavior %v", app, got)
		}
	}
}
