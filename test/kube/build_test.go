//go:build linux

package kube

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// What Kubernetes' programs and Helm both need is compiled once, if it has the same version in
// both modules. With two versions the tests still pass, and take minutes longer the first time.
func TestHelmHasTheVersionsOfTheClustersPrograms(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	programs := versionsOf(t, filepath.Join(root, "test", "kube", "programs"))
	helm := versionsOf(t, filepath.Join(root, "test", "kubernetes", "chart"))
	shared := 0
	for path, version := range helm {
		other, is := programs[path]
		if !is {
			continue
		}
		shared++
		if other != version {
			t.Errorf("%s is %s for Helm and %s for Kubernetes: 'go get' the newer in both modules", path, version, other)
		}
	}
	if shared < 50 {
		t.Errorf("the two modules share %d modules, so this test compares the wrong files", shared)
	}
}

// versionsOf returns the versions of the modules that a go.mod names, by path.
func versionsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = dir
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("read %s/go.mod: %v", dir, err)
	}
	var mod struct {
		Require []struct{ Path, Version string }
		Replace []struct {
			Old, New struct{ Path, Version string }
		}
	}
	if err := json.Unmarshal(text, &mod); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, m := range mod.Require {
		versions[m.Path] = m.Version
	}
	for _, r := range mod.Replace {
		versions[r.Old.Path] = r.New.Version
	}
	return versions
}
