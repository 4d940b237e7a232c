package containers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/needtest"
)

// label marks what these tests create in the engine.
const label = "holdfast-test"

// patience limits how long a test waits for what takes only a moment on an idle machine.
const patience = 2 * time.Minute

// needEngine skips a test if no container engine answers; with CI=true it fails.
func needEngine(t *testing.T) {
	t.Helper()
	out, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput()
	if err == nil {
		return
	}
	needtest.Skip(t, fmt.Sprintf("no container engine answers here (make test-containers starts one): %v\n%s", err, out))
}

// needDebian skips a test where images cannot be made; with CI=true it fails.
func needDebian(t *testing.T) {
	t.Helper()
	for _, program := range []string{"apt-get", "dpkg-deb", "make"} {
		if _, err := exec.LookPath(program); err != nil {
			needtest.Skip(t, fmt.Sprintf("images are made on Debian and Ubuntu: %v", err))
		}
	}
}

// root returns the directory of the module.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// made are the images of this run, in a directory that 'make image' wrote.
var made = struct {
	sync.Once
	dir string
	err error
}{}

// imageDir returns the directory with the images, for all architectures. They are made once for all
// tests of a run, or taken from HOLDFAST_IMAGES, a directory that 'make image' has written.
func imageDir(t *testing.T) string {
	t.Helper()
	needDebian(t)
	made.Do(func() {
		if made.dir = os.Getenv("HOLDFAST_IMAGES"); made.dir != "" {
			return
		}
		made.dir = filepath.Join(root(t), "bin/image")
		out, err := command(root(t), "make", "image")
		if err != nil {
			made.err = fmt.Errorf("make image: %w\n%s", err, out)
		}
	})
	if made.err != nil {
		t.Fatal(made.err)
	}
	return made.dir
}

// loaded are the images that were loaded into the engine, by name.
var loaded sync.Map

// loadedImage loads an image of this machine's architecture into the engine. It returns its ID, by
// which containers are started: the name could be another run's image by now.
func loadedImage(t *testing.T, name string) string {
	t.Helper()
	needEngine(t)
	return loadImage(t, filepath.Join(imageDir(t), name+"-"+runtime.GOARCH+".tar"))
}

func loadImage(t *testing.T, archive string) string {
	t.Helper()
	load, _ := loaded.LoadOrStore(archive, sync.OnceValues(func() (string, error) {
		out, err := exec.Command("docker", "load", "-i", archive).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("docker load -i %s: %w\n%s", archive, err, out)
		}
		_, _, config, err := readImage(archive)
		return config, err
	}))
	id, err := load.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// instance is a running container.
type instance struct {
	t    *testing.T
	id   string
	port string // of this machine, where its entry is published
}

// start starts a container of an image, with additional options of docker run and, after "--", a
// command that replaces the image's. The container is removed when the test ends, and its log is
// shown if the test failed.
func start(t *testing.T, image string, options ...string) *instance {
	t.Helper()
	args := []string{"run", "--detach", "--label", label, "--publish", "127.0.0.1::6301"}
	var words []string
	for i, o := range options {
		if o == "--" {
			options, words = options[:i], options[i+1:]
			break
		}
	}
	args = append(append(append(args, options...), image), words...)
	c := &instance{t: t, id: docker(t, args...)}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("docker", "logs", "--tail", "60", c.id).CombinedOutput()
			t.Logf("the container's log ends with:\n%s", out)
		}
		exec.Command("docker", "rm", "--force", "--volumes", c.id).Run()
	})
	c.findPort()
	return c
}

// findPort finds the port again after a restart of the container.
func (c *instance) findPort() {
	c.t.Helper()
	_, c.port, _ = strings.Cut(docker(c.t, "port", c.id, "6301/tcp"), ":")
}

// docker runs the engine's client and returns what it prints.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command("", "docker", args...)
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// command runs a program and returns its standard output. If it fails, the error has its standard
// error output, too.
func command(dir, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	var out, said bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &said
	if err := cmd.Run(); err != nil {
		return out.String() + said.String(), err
	}
	return strings.TrimSpace(out.String()), nil
}

// run runs holdfast in the container.
func (c *instance) run(args ...string) string {
	c.t.Helper()
	return docker(c.t, append([]string{"exec", c.id, "holdfast"}, args...)...)
}

// inspect returns a field of the container's state, by a Go template.
func (c *instance) inspect(format string) string {
	c.t.Helper()
	return docker(c.t, "inspect", "--format", format, c.id)
}

// get returns the status and the body of a request to the entry.
func (c *instance) get(path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:"+c.port+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// node is a node in the output of status.
type node struct {
	Name, Kind, Role, State string
	Pid, Restarts           int
}

// status returns what 'holdfast status' reports in the container; an error if it cannot report yet.
func (c *instance) status() (ready bool, nodes []node, err error) {
	out, err := command("", "docker", "exec", c.id, "holdfast", "status", "--json")
	if err != nil {
		return false, nil, fmt.Errorf("%w: %s", err, out)
	}
	var s struct {
		Ready bool
		Nodes []node
	}
	err = json.Unmarshal([]byte(out), &s)
	return s.Ready, s.Nodes, err
}

// awaitReady waits until the whole stack is up and answers at the entry.
func (c *instance) awaitReady() {
	c.t.Helper()
	await(c.t, "the stack is up", func() error {
		ready, _, err := c.status()
		if err == nil && !ready {
			err = fmt.Errorf("it is not ready")
		}
		if err == nil {
			var code int
			if code, _, err = c.get("/healthz/ready"); err == nil && code != http.StatusOK {
				err = fmt.Errorf("the entry replies %d", code)
			}
		}
		return err
	})
}

// await polls until a condition holds.
func await(t *testing.T, what string, holds func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		}
	}
}
