//go:build linux

package kube

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// helmArgs give Helm its version and that of Kubernetes, as its own makefile does.
var helmArgs = []string{"build", "-buildvcs=false", "-ldflags=-s -w" +
	" -X helm.sh/helm/v3/internal/version.version=v3.19.5" +
	" -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=34" +
	" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34"}

// BuildHelm returns the path of the helm program, in the version that test/kubernetes/chart/go.mod
// names. It compiles the program if that has changed.
func (c *Cluster) BuildHelm(ctx context.Context) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	source := filepath.Join(root, "test", "kubernetes", "chart")
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOARCH, helmArgs)
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(source, file))
		if err != nil {
			return "", err
		}
		hash.Write(text)
	}
	program := filepath.Join(cacheDir(), fmt.Sprintf("helm-%x", hash.Sum(nil)[:6]))
	if _, err := os.Stat(program); !errors.Is(err, fs.ErrNotExist) {
		return program, err
	}

	c.say("compiling Helm; the first time this takes minutes")
	began := time.Now()
	unfinished, err := makeUnfinished()
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(unfinished)
	built := filepath.Join(unfinished, "helm")
	if err := c.compile(ctx, source, helmArgs, "-o", built, "helm.sh/helm/v3/cmd/helm"); err != nil {
		return "", fmt.Errorf("compile Helm: %w", err)
	}
	if err := os.Rename(built, program); err != nil {
		return "", err
	}
	c.say("compiled in %.0f s, kept in %s", time.Since(began).Seconds(), program)
	return program, nil
}

// Helm returns a helm command for the cluster. It leaves nothing in the user's directories.
func (c *Cluster) Helm(ctx context.Context, args ...string) (*exec.Cmd, error) {
	program, err := c.BuildHelm(ctx)
	if err != nil {
		return nil, err
	}
	pid, err := c.controlPlane()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net", "--target", strconv.Itoa(pid), program}, args...)...)
	own := filepath.Join(c.dir(), "helm")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(c.dir(), "pki", "kubeconfig"),
		"HELM_CACHE_HOME="+own, "HELM_CONFIG_HOME="+own, "HELM_DATA_HOME="+own)
	return cmd, nil
}
