package chart

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

const (
	root = "../../.."
	dir  = root + "/deploy/chart"
)

var update = flag.Bool("update", false, "write the golden files and the schema of the stack file anew")

// load reads the chart.
func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render returns the output of 'helm template shop' for some values, by the template's name.
func render(c *chart.Chart, values string) (map[string]string, error) {
	parsed, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return nil, err
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}
	all, err := chartutil.ToRenderValues(c, parsed, chartutil.ReleaseOptions{Name: "shop", Namespace: "default", Revision: 1, IsInstall: true}, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// object is an object of Kubernetes.
type object = map[string]any

// objects returns the objects in a text of several documents, by kind and name.
func objects(t *testing.T, text string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(part+"\n"), &o); err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		if len(o) == 0 {
			continue
		}
		name := fmt.Sprintf("%v %v", o["kind"], at(o, "metadata", "name"))
		if all[name] != nil {
			t.Errorf("there are two of %s", name)
		}
		all[name] = o
	}
	return all
}

// rendered returns the objects of a release with some values, without its test.
func rendered(t *testing.T, values string) map[string]object {
	t.Helper()
	files, err := render(load(t), values)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for name, content := range files {
		if strings.HasSuffix(name, ".yaml") && !strings.Contains(name, "/tests/") {
			text.WriteString("\n---\n" + content)
		}
	}
	return objects(t, text.String())
}

// at returns what is at a path of keys; nil: nothing.
func at(o any, keys ...string) any {
	for _, key := range keys {
		m, _ := o.(object)
		o = m[key]
	}
	return o
}

// program builds this tree's holdfast and returns its path.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "chart")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-pgo=off", "-o", path, "./cmd/holdfast")
	build.Dir, build.Env = root, append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// TestMain removes the program.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if path, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// holdfast runs this tree's holdfast and returns what it printed.
func holdfast(t *testing.T, args ...string) []byte {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("holdfast %v: %v\n%s", args, err, complaint.Bytes())
	}
	return out
}
