//go:build linux

package kube

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// version is the release of Kubernetes that programs/go.mod names. The linker puts it into the
// programs, which report it to each other.
const version = "v1.34.4"

// These are compiled as the packages of test/kubernetes/chart are, which have the same versions:
// what both need is compiled once.
var buildArgs = []string{"build", "-buildvcs=false",
	"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=" + version +
		" -X k8s.io/client-go/pkg/version.gitVersion=" + version}

// names are the programs that the program kubernetes contains. It runs the one by whose name it is
// started.
var names = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet",
	"metrics-server", "network-policies"}

// Build returns the directory with the compiled programs. If their inputs have changed it compiles
// them, which takes minutes.
func (c *Cluster) Build(ctx context.Context) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	source := filepath.Join(root, "test", "kube", "programs")
	digest, err := digestOf(source)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cacheDir(), "programs-"+digest)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}

	c.say("compiling Kubernetes %s, etcd and CoreDNS; the first time this takes minutes", version)
	began := time.Now()
	unfinished, err := makeUnfinished()
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(unfinished)
	if err := c.compile(ctx, source, buildArgs, "-o", unfinished+"/", "./kubernetes", "./dns"); err != nil {
		return "", fmt.Errorf("compile the programs of Kubernetes: %w", err)
	}
	for _, name := range names {
		if err := os.Symlink("kubernetes", filepath.Join(unfinished, name)); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(unfinished, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(unfinished, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	c.say("compiled in %.0f s, kept in %s", time.Since(began).Seconds(), dir)
	return dir, nil
}

// makeUnfinished makes a directory for programs that are being compiled. It is in the directory where
// they are kept, so that they can be renamed into their place.
func makeUnfinished() (string, error) {
	if err := os.MkdirAll(cacheDir(), 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(cacheDir(), "building-")
}

// compile runs the go command in the directory of a module, independently of any workspace.
func (c *Cluster) compile(ctx context.Context, source string, args []string, more ...string) error {
	cmd := exec.CommandContext(ctx, "go", slices.Concat(args, more)...)
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = c.Progress, c.Progress
	return cmd.Run()
}

// digestOf returns a hash of everything that the programs are made from.
func digestOf(source string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOARCH, buildArgs)
	err := filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintln(hash, strings.TrimPrefix(path, source), len(text))
		hash.Write(text)
		return err
	})
	return fmt.Sprintf("%x", hash.Sum(nil)[:6]), err
}

// moduleRoot returns the directory of Holdfast's own go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module holdfast\n")) {
			return dir, nil
		}
	}
	return "", errors.New("not inside Holdfast's sources")
}

// compile builds a package of Holdfast's module as a static program.
func compile(ctx context.Context, pkg, to string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// podImage makes the image PodImage and returns the archive's path.
func (c *Cluster) podImage(ctx context.Context) (string, error) {
	program := filepath.Join(c.dir(), "pod")
	if err := compile(ctx, "./test/kube/pod", program); err != nil {
		return "", err
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	archive, err := Image(PodImage, "/pod", map[string][]byte{"pod": text})
	if err != nil {
		return "", err
	}
	path := program + ".tar"
	return path, os.WriteFile(path, archive, 0o644)
}

// Image returns an image with some files, by path, in the format of 'docker save'. program is the
// one that it starts. All files are executable.
func Image(reference, program string, files map[string][]byte) ([]byte, error) {
	return ImageAs("", reference, program, files)
}

// ImageAs is Image for a program that runs as a user, such as 65534, unless its pod names another.
func ImageAs(user, reference, program string, files map[string][]byte) ([]byte, error) {
	layer, err := archiveOf(files, 0o755)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": map[string]any{
			"User": user, "Entrypoint": []string{program}, "WorkingDir": "/", "Env": []string{"PATH=/usr/sbin:/usr/bin"},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "config.json", "RepoTags": []string{reference}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return nil, err
	}
	return archiveOf(map[string][]byte{"manifest.json": manifest, "config.json": config, "layer.tar": layer}, 0o644)
}

func archiveOf(files map[string][]byte, mode int64) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}
