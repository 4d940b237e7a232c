package containers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/needtest"
	"holdfast/internal/supervise"
)

// The network of the built-in stack's containers, and the first address that the machine publishes.
const (
	subnet = "198.18.63.0/24"
	first  = "http://127.0.0.1:6301"
)

var entries = []string{first, "http://127.0.0.1:6302", "http://127.0.0.1:6303"}

// hosts are the hosts of the built-in stack, one container each.
var hosts = []string{"one", "two", "three"}

// project is a stack as a Compose project.
type project struct {
	t   *testing.T
	dir string
	// file is the stack file; empty: the built-in stack.
	file string
}

// image returns the image of the stack.
func image() string {
	if name := os.Getenv("HOLDFAST_STACK_IMAGE"); name != "" {
		return name
	}
	return "holdfast-stack"
}

// needCompose skips a test if there is no dockerd or no compose. In continuous integration it fails
// instead.
func needCompose(t *testing.T) {
	t.Helper()
	why := ""
	for _, words := range [][]string{{"docker", "info"}, {"docker", "compose", "version"}, {"docker", "image", "inspect", image()}} {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			why = fmt.Sprintf("%s: %v: %s", strings.Join(words, " "), err, out)
			break
		}
	}
	if why != "" {
		needtest.Skip(t, why)
	}
}

// export writes the built-in stack as a Compose project.
func export(t *testing.T) *project {
	t.Helper()
	needCompose(t)
	return exported(t, "")
}

// exported writes a stack as a Compose project; the built-in one if file is empty.
func exported(t *testing.T, file string) *project {
	t.Helper()
	p := &project{t: t, dir: filepath.Join(t.TempDir(), "web"), file: file}
	p.export()
	return p
}

// export runs the program in the image, as a user does who has nothing else.
func (p *project) export() {
	p.t.Helper()
	out := filepath.Dir(p.dir)
	args := []string{"run", "--rm", "--user", "0:0", "--entrypoint", "holdfast", "-v", out + ":/out", image(),
		"export", "compose", "--out", "/out/web", "--image", image(), "--subnet", subnet}
	if p.file != "" {
		if err := os.WriteFile(filepath.Join(out, "holdfast.yaml"), []byte(p.file), 0o644); err != nil {
			p.t.Fatal(err)
		}
		args = append(args, "--file", "/out/holdfast.yaml")
	}
	p.docker(args...)
}

// compose runs docker compose in the project's folder.
func (p *project) compose(args ...string) (out string, err error) {
	cmd := exec.Command("docker", append([]string{"compose"}, args...)...)
	cmd.Dir = p.dir
	text, err := cmd.CombinedOutput()
	return string(text), err
}

func (p *project) must(args ...string) string {
	p.t.Helper()
	out, err := p.compose(args...)
	if err != nil {
		p.t.Fatalf("docker compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// docker runs docker.
func (p *project) docker(args ...string) {
	p.t.Helper()
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		p.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// container returns the name of a host's container.
func container(host string) string { return "holdfast-" + host + "-1" }

// up stands the stack up, and removes it when the test ends.
func (p *project) up() {
	p.t.Helper()
	p.t.Cleanup(func() {
		if p.t.Failed() {
			out, _ := p.compose("logs", "--tail", "60")
			p.t.Logf("the containers' logs:\n%s", out)
		}
		if out, err := p.compose("down", "--volumes", "--timeout", "20"); err != nil {
			p.t.Errorf("docker compose down: %v\n%s", err, out)
		}
	})
	p.must("up", "-d")
	p.well()
}

// status returns what one of the hosts reports.
func (p *project) status() (st supervise.Status, err error) {
	for _, host := range hosts {
		cmd := exec.Command("docker", "exec", container(host), "holdfast", "status", "--json")
		var out bytes.Buffer
		cmd.Stdout = &out
		_ = cmd.Run() // exit code 1: not ready
		if err = json.Unmarshal(out.Bytes(), &st); err == nil && st.Host != "" {
			return st, nil
		}
	}
	return st, fmt.Errorf("no host says how the stack is: %w", err)
}

// well waits until all of the stack is up, and every entry answers.
func (p *project) well() (st supervise.Status) {
	p.t.Helper()
	why := ""
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
		var err error
		if st, err = p.status(); err != nil {
			why = err.Error()
			continue
		}
		if why = ill(st); why == "" {
			return st
		}
	}
	p.t.Fatalf("the stack is not well: %s", why)
	return st
}

// ill returns what is wrong with a stack; empty: nothing.
func ill(st supervise.Status) string {
	var wrong []string
	masters := 0
	for _, n := range st.Nodes {
		if n.State != supervise.Up {
			wrong = append(wrong, fmt.Sprintf("%s is %s (%s)", n.Name, n.State, n.Detail))
		}
		if n.Role == "master" {
			masters++
		}
	}
	if !st.Ready || st.Phase != supervise.PhaseRunning || masters != 1 || len(st.Nodes) != 11 || len(st.Resting) > 0 {
		wrong = append(wrong, fmt.Sprintf("ready %v, phase %s, %d masters, %d nodes, resting %v", st.Ready, st.Phase, masters, len(st.Nodes), st.Resting))
	}
	for _, entry := range entries {
		if _, err := ask(entry + "/healthz/ready"); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	return strings.Join(wrong, "; ")
}

// ask returns the body of a successful answer.
func ask(url string) (string, error) {
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", url, resp.Status, body)
	}
	return string(body), err
}

// hostOf returns the host of the redis node with a role.
func hostOf(t *testing.T, st supervise.Status, role string) string {
	t.Helper()
	for _, n := range st.Nodes {
		if n.Role == role {
			return n.Host
		}
	}
	t.Fatalf("no redis node is a %s", role)
	return ""
}

func TestTheComposeFileIsOne(t *testing.T) {
	p := export(t)
	p.must("config", "--quiet")
	for _, host := range hosts {
		info, err := os.Stat(filepath.Join(p.dir, "secrets", host+".pass"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the pass of %s: %v, %v", host, info, err)
		}
	}
}

func TestTheStackServesFromContainersWhateverBecomesOfOne(t *testing.T) {
	p := export(t)
	p.up()

	p.walkThrough()
	p.isClosed()
	p.isHealthy()
	p.saysJSON()

	p.loses("kill-master", "master", func(host string) { p.docker("kill", container(host)); p.docker("start", container(host)) })
	p.loses("stop-master", "master", func(host string) { p.must("stop", host); p.must("start", host) })
	p.loses("recreate-replica", "replica", func(host string) { p.must("up", "-d", "--force-recreate", "--no-deps", host) })
	p.loses("lose-volume-of-master", "master", func(host string) {
		p.must("rm", "--force", "--stop", host)
		p.docker("volume", "rm", "holdfast_"+host)
		p.must("up", "-d", "--no-deps", host)
	})
	p.loses("new-image", "master", func(host string) {
		next := image() + "-next"
		p.docker("tag", image(), next)
		defer p.docker("rmi", next)
		for _, host := range hosts {
			cmd := exec.Command("docker", "compose", "up", "-d", "--force-recreate", "--no-deps", host)
			cmd.Dir, cmd.Env = p.dir, append(os.Environ(), "HOLDFAST_IMAGE="+next)
			if out, err := cmd.CombinedOutput(); err != nil {
				p.t.Fatalf("move %s to another image: %v\n%s", host, err, out)
			}
			p.well()
		}
		for _, host := range hosts {
			p.must("up", "-d", "--no-deps", host) // back, so that the image can be removed
			p.well()
		}
	})
	p.loses("disconnect-master", "master", func(host string) {
		st := p.well()
		p.docker("network", "disconnect", "holdfast_stack", container(host))
		time.Sleep(10 * time.Second) // long enough for another master
		p.docker("network", "connect", "--ip", addressOf(st, host), "holdfast_stack", container(host))
	})
	p.loses("kill-all", "master", func(string) { p.must("kill"); p.must("start") })

	p.restarts()
}

func addressOf(st supervise.Status, host string) string {
	for _, n := range st.Nodes {
		if at, _, ok := strings.Cut(n.Address, ":"); ok && n.Host == host {
			return at
		}
	}
	return ""
}

// loses does something to the container of a redis node with a role, under load.
func (p *project) loses(name, role string, do func(host string)) {
	p.t.Helper()
	host := hostOf(p.t, p.well(), role)
	load := begin(p.t, name, entries)
	do(host)
	p.well()
	load.judge()
}

// walkThrough is the walk-through of the source, byte for byte.
func (p *project) walkThrough() {
	p.t.Helper()
	for _, step := range [][2]string{
		{"http://localhost:5001/set?key=imooc&value=imooc.com", "OK. We have set imooc to be imooc.com"},
		{"http://localhost:5002/get?key=imooc", "imooc.com"},
		{"http://localhost:6301/get?key=imooc", "imooc.com"},
	} {
		if got, err := ask(step[0]); err != nil || got != step[1] {
			p.t.Errorf("%s: %q, %v; want %q", step[0], got, err, step[1])
		}
	}
	if page, err := ask(first + "/web-app"); err != nil || !strings.Contains(page, "Statistics Report") {
		p.t.Errorf("the statistics: %v", err)
	}
}

// isClosed checks the rights of a container.
func (p *project) isClosed() {
	p.t.Helper()
	out, err := exec.Command("docker", "inspect", "--format", "{{.HostConfig.ReadonlyRootfs}} {{.State.Pid}}", container("one")).Output()
	if err != nil {
		p.t.Fatal(err)
	}
	readOnly, pid, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if readOnly != "true" {
		p.t.Error("the root file system is not read-only")
	}
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t10001", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), line) {
			p.t.Errorf("a container's first process lacks %q:\n%s", line, status)
		}
	}
}

// isHealthy waits until docker reports all containers as healthy.
func (p *project) isHealthy() {
	p.t.Helper()
	for _, host := range hosts {
		state := ""
		for deadline := time.Now().Add(time.Minute); state != "healthy"; time.Sleep(500 * time.Millisecond) {
			out, err := exec.Command("docker", "inspect", "--format", "{{.State.Health.Status}}", container(host)).CombinedOutput()
			if state = strings.TrimSpace(string(out)); err != nil || time.Now().After(deadline) {
				p.t.Errorf("container %s is %s (%v)", host, state, err)
				break
			}
		}
	}
}

// saysJSON checks the output of a container: lines of JSON, from its own nodes.
func (p *project) saysJSON() {
	p.t.Helper()
	out, err := exec.Command("docker", "logs", container("one")).Output()
	if err != nil {
		p.t.Fatal(err)
	}
	nodes := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		var said struct{ Host, Node string }
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			p.t.Errorf("no line of JSON: %q", line)
		}
		if said.Host == "one" {
			nodes[said.Node] = true
		}
	}
	for _, node := range []string{"supervisor", "redis-1", "sentinel-1", "web-1"} {
		if !nodes[node] {
			p.t.Errorf("the log of container one has no line of %s: %v", node, nodes)
		}
	}
}

// restarts stops all containers at once, and starts them again. The data is still there.
func (p *project) restarts() {
	p.t.Helper()
	if _, err := ask(first + "/set?key=before&value=restart"); err != nil {
		p.t.Fatal(err)
	}
	p.must("stop")
	p.must("start")
	p.well()
	if got, err := ask(first + "/get?key=before"); err != nil || got != "restart" {
		p.t.Errorf("after all containers were stopped: %q, %v", got, err)
	}
}
