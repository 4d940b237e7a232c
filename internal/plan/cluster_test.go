package plan

import (
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/stack"
)

// The tests on a cluster start the real servers with what a plan contains.

// cluster is the running servers of a plan.
type cluster struct {
	t       *testing.T
	dir     string
	plan    Plan
	secrets Secrets

	running map[string]*exec.Cmd
}

// newCluster writes the plan of a stack on free ports, and starts nothing. ports are those of the
// web nodes that the test serves itself.
func newCluster(t *testing.T, s stack.Stack, ports map[string]int) *cluster {
	t.Helper()
	dir := shortDir(t)
	secrets, err := NewSecrets(rand.Reader, s)
	if err != nil {
		t.Fatal(err)
	}
	m := machine(s, dir, secrets)
	m.HAProxyUser, m.Files = haproxyUser(), 20_000
	for node := range m.Ports {
		m.Ports[node] = redistest.FreePort(t)
	}
	for node, port := range ports {
		m.Ports[node] = port
	}
	p := mustMake(t, s, m)
	write(t, dir, p)
	c := &cluster{t: t, dir: dir, plan: p, secrets: secrets, running: map[string]*exec.Cmd{}}
	t.Cleanup(func() {
		for node := range c.running {
			c.kill(node)
		}
	})
	return c
}

func (c *cluster) process(node string) Process {
	c.t.Helper()
	for _, p := range c.plan.Hosts[0].Processes {
		if p.Node == node {
			return p
		}
	}
	c.t.Fatalf("no process %s", node)
	return Process{}
}

// start starts a node as the supervisor would, with additional arguments.
func (c *cluster) start(node string, more ...string) {
	c.t.Helper()
	p := c.process(node)
	cmd := exec.Command(program(c.t, string(p.Program)), append(p.Args, more...)...)
	cmd.Dir = filepath.Join(c.dir, "nodes", node)
	log, err := os.OpenFile(filepath.Join(c.dir, "logs", node+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.running[node] = cmd
}

// haproxyUser returns the user that HAProxy switches to when the tests run as root, so that the
// tests also cover HAProxy in its empty directory.
func haproxyUser() string {
	if os.Getuid() != 0 {
		return ""
	}
	for _, name := range []string{"haproxy", "daemon"} {
		_, err := user.Lookup(name)
		_, err2 := user.LookupGroup(name)
		if err == nil && err2 == nil {
			return name
		}
	}
	return ""
}

func (c *cluster) kill(node string) {
	cmd := c.running[node]
	delete(c.running, node)
	cmd.Process.Kill()
	cmd.Wait()
	if c.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(c.dir, "logs", node+".log"))
		c.t.Logf("%s:\n%s", node, log)
	}
}

func eventually(t *testing.T, within time.Duration, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(5 * within) // the machine may be busy
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ports returns the ports that the plan was made with.
func (c *cluster) ports() map[string]int {
	ports := map[string]int{}
	for _, p := range c.plan.Hosts[0].Processes {
		_, port, _ := net.SplitHostPort(p.Address)
		ports[p.Node], _ = strconv.Atoi(port)
		for _, v := range p.Env {
			if url, ok := strings.CutPrefix(v, "REDIS_URL="); ok {
				port := url[strings.LastIndex(url, ":")+1 : strings.LastIndex(url, "/")]
				ports[PortRedisMaster], _ = strconv.Atoi(port)
			}
		}
	}
	return ports
}
