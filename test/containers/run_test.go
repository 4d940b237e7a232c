package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// walk does the README's walk-through, as far as it uses the entry.
func walk(t *testing.T, c *instance) {
	t.Helper()
	c.awaitReady()
	for _, step := range []struct {
		path string
		code int
		body string
	}{
		{"/set?key=imooc&value=imooc.com", 200, "OK. We have set imooc to be imooc.com"},
		{"/get?key=imooc", 200, "imooc.com"},
		{"/set/greeting/hello", 200, `{"result":"OK"}`},
		{"/get/greeting", 200, `{"result":"hello"}`},
		{"/get?key=nobody", 404, ""},
	} {
		code, body, err := c.get(step.path)
		if err != nil || code != step.code || step.body != "" && strings.TrimSpace(body) != step.body {
			t.Errorf("%s: %d %q, %v; want %d %q", step.path, code, body, err, step.code, step.body)
		}
	}
	if code, body, err := c.get("/web-app"); err != nil || code != 200 || !strings.Contains(body, "Statistics Report") {
		t.Errorf("the statistics: %d, %v", code, err)
	}
}

func TestAStackInAContainer(t *testing.T) {
	stack := loadedImage(t, "holdfast-stack")
	for name, options := range map[string][]string{
		"as it is":      nil,
		"locked down":   {"--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"},
		"read only":     {"--read-only"},
		"another user":  {"--user", "12345", "--read-only", "--cap-drop", "ALL"},
		"another group": {"--user", "12345:12345"},
		"root":          {"--user", "0"},
		"little memory": {"--memory", "256m", "--cpus", "1"},
		"with an init":  {"--init", "--", "up", "--log-format", "json", "--contained"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, stack, options...)
			walk(t, c)

			docker(t, "stop", c.id)
			if code := c.inspect("{{.State.ExitCode}}"); code != "0" {
				t.Errorf("docker stop: exit code %s (137: it did not stop in time)", code)
			}
		})
	}
}

func TestWhatDiesInAContainerComesBack(t *testing.T) {
	volume := docker(t, "volume", "create", "--label", label)
	t.Cleanup(func() { command("", "docker", "volume", "rm", "--force", volume) })
	c := start(t, loadedImage(t, "holdfast-stack"), "--volume", volume+":/var/lib/holdfast")
	walk(t, c)

	for _, name := range []string{"redis-1", "web-1", "balancer-1", "sentinel-1"} {
		c.run("kill", name)
		key := "after-" + name
		await(t, "a write after "+name+" died", func() error {
			code, body, err := c.get("/set?key=" + key + "&value=holds")
			if err == nil && code != 200 {
				err = fmt.Errorf("%d %s", code, body)
			}
			return err
		})
		await(t, name+" is back", func() error {
			_, nodes, err := c.status()
			for _, n := range nodes {
				if n.Name == name && n.State == "up" && n.Restarts > 0 {
					return nil
				}
			}
			return fmt.Errorf("%v, %v", nodes, err)
		})
	}
	c.awaitReady()

	// The container is killed and started again, with its volume.
	docker(t, "kill", c.id)
	docker(t, "start", c.id)
	c.findPort()
	c.awaitReady()
	docker(t, "rm", "--force", c.id)
	again := start(t, loadedImage(t, "holdfast-stack"), "--volume", volume+":/var/lib/holdfast")
	again.awaitReady()
	for _, key := range []string{"imooc", "after-redis-1", "after-sentinel-1"} {
		if code, body, err := again.get("/get?key=" + key); err != nil || code != 200 {
			t.Errorf("%s in the next container: %d %s, %v", key, code, body, err)
		}
	}
}

func TestTheProgramAloneInAContainer(t *testing.T) {
	plain := loadedImage(t, "holdfast")
	out := docker(t, "run", "--rm", "--label", label, "--read-only", "--cap-drop", "ALL", "--network", "none", plain, "version")
	if !strings.Contains(out, "holdfast") {
		t.Errorf("holdfast version: %s", out)
	}
}

func TestAStackFileOfOnesOwn(t *testing.T) {
	c := start(t, loadedImage(t, "holdfast-stack"), "--volume", write(t, "holdfast.yaml", `
name: mine
entry: {listen: "0.0.0.0:6301"}
apps:
  web:
    kv:
      tokens: [{name: a, hash: "466fca752d5b44bffa3f4fc372c9db660d74b29f5afb5118fa395d90014eea8e"}]
`)+":/etc/holdfast/holdfast.yaml:ro")
	await(t, "the entry answers", func() error {
		code, _, err := c.get("/get?key=a")
		if err == nil && code != 401 {
			err = fmt.Errorf("status %d without a token", code)
		}
		return err
	})
	if out := c.run("status"); !strings.Contains(out, "mine: ready") {
		t.Errorf("status: %s", out)
	}
}

func TestAStackWithValkey(t *testing.T) {
	needEngine(t)
	dir, out := imageDir(t), t.TempDir()
	said, err := command(root(t), "go", "-C", "deploy/image", "run", ".", "-root", root(t), "-programs", dir, "-out", out, "-archs", runtime.GOARCH,
		"-server", "valkey", "-version", "test", "-epoch", "0", "-cache", filepath.Join(dir, "debian"))
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	c := start(t, loadImage(t, filepath.Join(out, "holdfast-stack-"+runtime.GOARCH+".tar")))
	walk(t, c)
	await(t, "status names the server", func() error {
		if out := c.run("status"); !strings.Contains(out, "Valkey 8") {
			return fmt.Errorf("status: %s", out)
		}
		return nil
	})
}

// write writes a file that containers may read, and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
