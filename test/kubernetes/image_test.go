//go:build linux

package kubernetes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"holdfast/test/kube"
)

const (
	image = "localhost/holdfast-stack:test"
	// nextImage is another image with the same programs.
	nextImage = "localhost/holdfast-stack:next"
)

// loadImage loads images with this tree's holdfast and this machine's HAProxy and Redis on all
// nodes, once.
var loadImage = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-pgo=off", "-o", program, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return &os.PathError{Op: "build", Path: string(out), Err: err}
	}
	files := map[string][]byte{"etc/passwd": []byte("stack:x:10001:10001::/:/none\n"), "etc/group": []byte("stack:x:10001:\n")}
	if files["usr/bin/holdfast"], err = os.ReadFile(program); err != nil {
		return err
	}
	for _, name := range []string{"haproxy", "redis-server"} {
		if err := addProgram(files, name); err != nil {
			return err
		}
	}

	for _, reference := range []string{image, nextImage} {
		files["etc/release"] = []byte(reference)
		archive, err := kube.Image(reference, "/usr/bin/holdfast", files)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "image.tar")
		if err := os.WriteFile(path, archive, 0o644); err != nil {
			return err
		}
		if err := cluster.Load(context.Background(), path); err != nil {
			return err
		}
	}
	return nil
})

var library = regexp.MustCompile(`(/\S+) \(0x`)

// addProgram adds a program of this machine, with the libraries that it needs.
func addProgram(files map[string][]byte, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return err
		}
	}
	needs, err := exec.Command("ldd", path).Output()
	if err != nil {
		return err
	}
	paths := []string{path}
	for _, match := range library.FindAllSubmatch(needs, -1) {
		paths = append(paths, string(match[1]))
	}
	for _, path := range paths {
		if files[strings.TrimPrefix(path, "/")], err = os.ReadFile(path); err != nil {
			return err
		}
	}
	return nil
}
