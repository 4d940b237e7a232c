package chart

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

const schemaFile = dir + "/values.schema.json"

func TestTheSchemaHasTheStackFiles(t *testing.T) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var whole, want object
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(holdfast(t, "config", "schema"), &want); err != nil {
		t.Fatal(err)
	}
	forPods(want)
	properties := whole["properties"].(object)
	if reflect.DeepEqual(properties["stack"], any(want)) {
		return
	}
	if !*update {
		t.Fatal("values.schema.json has not the schema that 'holdfast config schema' prints: go test -update")
	}
	properties["stack"] = want
	text, err = json.MarshalIndent(whole, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(schemaFile, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// forPods turns the schema of stack files into that of stack files for pods; see plan.CheckPods.
// 'holdfast pod' refuses what the schema cannot express.
func forPods(s object) {
	delete(s, "$schema")
	remove(s, "hosts", "backup", "tcp")
	stack := s["properties"].(object)
	// Names in Kubernetes cannot end with a hyphen.
	at(stack, "name").(object)["pattern"] = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"
	entry := stack["entry"].(object)
	remove(entry, "on", "virtual")
	entry["required"] = []any{"listen"}
	at(entry, "properties", "errors", "additionalProperties").(object)["pattern"] = "^\\s*<" // no pod has a file
	entry["type"] = "object"
	s["required"] = []any{"entry"}
	listen := at(entry, "properties", "listen").(object)
	listen["not"] = object{"pattern": `^(127\.|localhost:|\[::1\])`}
	redis := stack["redis"].(object)
	remove(redis, "on", "ports", "sentinel-ports", "sentinels-on")
	at(redis, "properties", "replicas").(object)["minimum"] = 1.0
	at(redis, "properties", "sentinels").(object)["minimum"] = 3.0
	remove(stack["metrics"].(object), "listen", "auth")
	app := at(stack, "apps", "additionalProperties").(object)
	app["oneOf"] = []any{object{"required": []any{"kv"}}, object{"required": []any{"servers"}}, object{"required": []any{"image"}}}
	remove(app, "command", "at", "files", "dir", "keep-releases", "release", "stop-signal", "sticky", "on", "ports")
	remove(at(app, "properties", "kv").(object), "tokens-file")
	older(s)
}

// remove removes properties of an object, which are then refused.
func remove(s object, names ...string) {
	properties := s["properties"].(object)
	for _, name := range names {
		delete(properties, name)
		for _, others := range asObject(s["dependentSchemas"]) {
			delete(asObject(at(others, "properties")), name)
		}
		delete(asObject(s["dependentSchemas"]), name)
	}
}

func asObject(v any) object {
	o, _ := v.(object)
	return o
}

// older replaces keywords of draft 2020-12 of JSON Schema by those of draft 7, which every Helm 3
// supports.
func older(s any) {
	switch s := s.(type) {
	case object:
		if d, is := s["dependentSchemas"]; is {
			s["dependencies"] = d
			delete(s, "dependentSchemas")
		}
		for _, v := range s {
			older(v)
		}
	case []any:
		for _, v := range s {
			older(v)
		}
	}
}

func TestTheSchemaRefusesWrongValues(t *testing.T) {
	for values, want := range map[string]string{
		// Values of the chart.
		"images: {}":                               "images",
		"image: {tag: \"a b\"}":                    "tag",
		"image: {digest: sha1:00}":                 "digest",
		"image: {pullPolicy: Sometimes}":           "pullPolicy",
		"image: {repository: \"\"}":                "repository",
		"imagePullSecrets: [registry]":             "imagePullSecrets",
		"service: {type: Headless}":                "type",
		"service: {nodePort: 0}":                   "nodePort",
		"service: {externalTrafficPolicy: local}":  "externalTrafficPolicy",
		"secret: {existing: \"a b\"}":              "existing",
		"secret: shop":                             "secret",
		"redis: {storage: lots}":                   "storage",
		"redis: {replicas: 3}":                     "replicas",
		"redis: {resources: {request: {}}}":        "request",
		"web: {lingerSeconds: -1}":                 "lingerSeconds",
		"web: {lingerSeconds: 10s}":                "lingerSeconds",
		"web: {autoscaling: {maxReplicas: 51}}":    "maxReplicas",
		"web: {autoscaling: {minReplicas: 0}}":     "minReplicas",
		"web: {nodeSelector: [a]}":                 "nodeSelector",
		"apps: {web: {replicas: 3}}":               "replicas",
		"program: {startSeconds: 0}":               "startSeconds",
		"program: {envFrom: {secretRef: a}}":       "envFrom",
		"apps: {shop: {user: 1}}":                  "user",
		"tolerations: {a: b}":                      "tolerations",
		"networkPolicy: {enabled: \"yes\"}":        "enabled",
		"ingress: {hosts: [{host: a}]}":            "paths",
		"metrics: {podMonitor: {interval: often}}": "interval",
		"podDisruptionBudget: {maxUnavailable: 2}": "maxUnavailable",
		"commonLabels: {a: 1}":                     "commonLabels",
		// Values of the stack file.
		"stack: {balancer: 3}":                               "balancer",
		"stack: {balancers: two}":                            "balancers",
		"stack: {name: shop-}":                               "name",
		"stack: {name: Shop}":                                "name",
		"stack: {entry: null}":                               "entry",
		"stack: {entry: {listen: \"127.0.0.1:6301\"}}":       "listen",
		"stack: {entry: {listen: \"localhost:6301\"}}":       "listen",
		"stack: {entry: {listen: null}}":                     "listen",
		"stack: {entry: {virtual: {address: 10.0.0.9/24}}}":  "virtual",
		"stack: {hosts: {one: {address: 10.0.0.1}}}":         "hosts",
		"stack: {backup: {to: /backup}}":                     "backup",
		"stack: {tcp: [{listen: \"0.0.0.0:1\", app: web}]}":  "tcp",
		"stack: {redis: {replicas: 0}}":                      "replicas",
		"stack: {redis: {sentinels: 1}}":                     "sentinels",
		"stack: {redis: {memory: 1 GB}}":                     "memory",
		"stack: {apps: {web: {nodes: 2}}}":                   "web",
		"stack: {apps: {web: {command: [./shop]}}}":          "web",
		"stack: {apps: {web: {image: \"a b\"}}}":             "image",
		"stack: {apps: {web: {image: shop, port: 0}}}":       "port",
		"stack: {apps: {web: {image: shop, at: [\"a:1\"]}}}": "at",
		"stack: {apps: {web: {image: a, env: {HOST: b}}}}":   "HOST",
		"stack: {apps: {web: {image: a, stop-signal: b}}}":   "stop-signal",
		"stack: {apps: {web: {image: a, kv: {}}}}":           "web",
		"stack: {apps: {web: {files: site}}}":                "web",
		"stack: {apps: {web: {kv: {}, sticky: node}}}":       "sticky",
		"stack: {apps: {web: {kv: {tokens-file: a}}}}":       "tokens-file",
		"stack: {apps: {redis: {kv: {}}}}":                   "redis",
		"stack: {apps: {web: {kv: {}, servers: [\"a:1\"]}}}": "web",
	} {
		_, err := render(load(t), values)
		if err == nil {
			t.Errorf("%s is taken", values)
			continue
		}
		if text := err.Error(); !strings.Contains(text, "values don't meet") || !strings.Contains(text, want) {
			t.Errorf("%s: %v", values, err)
		}
	}
}

func TestANameThatIsNoneIsRefused(t *testing.T) {
	c := load(t)
	if _, err := render(c, "stack: {name: a-name-that-is-longer-than-thirty-two-characters}"); err == nil {
		t.Error("a name that is too long is taken")
	}
}
