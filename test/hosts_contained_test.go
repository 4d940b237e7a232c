package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/supervise"
)

// hostsWithPasses is three hosts with passes, whose nodes end with their processes: containers
// without an image.
type hostsWithPasses struct {
	*threeHosts
	folder string
	lives  map[string]*hostRun
}

// hostRun is a host's process from its start to its end.
type hostRun struct {
	cmd   *exec.Cmd
	said  *syncBuffer
	ended chan struct{}
}

func newHostsWithPasses(t *testing.T) *hostsWithPasses {
	t.Helper()
	p := &hostsWithPasses{threeHosts: &threeHosts{t: t, hosts: newNetnsHosts(t)}, lives: map[string]*hostRun{}}
	one := p.hosts["one"]
	p.plug(one)
	p.folder = filepath.Join(one.dir, "web")
	text := "name: boxed\nnetwork: trusted\nentry: {listen: \"0.0.0.0:6301\", auth: none}\nbalancers: 3\nhosts:\n"
	for _, name := range []string{"one", "two", "three"} {
		text += fmt.Sprintf("  %s: {address: %s}\n", name, p.hosts[name].address)
	}
	file := filepath.Join(one.dir, "boxed.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	one.must("export", "compose", "--file", file, "--out", p.folder, "--user", "0:0")
	t.Cleanup(func() {
		for name := range p.lives {
			if t.Failed() {
				t.Logf("host %s said:\n%s", name, p.lives[name].said)
			}
			_ = p.lives[name].cmd.Process.Kill() // whatever else runs ends with the network
			<-p.lives[name].ended
		}
	})
	return p
}

// begin starts hosts.
func (p *hostsWithPasses) begin(names ...string) {
	p.t.Helper()
	for _, name := range names {
		h := p.hosts[name]
		cmd := exec.Command("ip", "netns", "exec", h.netns, binary, "up", "--contained", "--log-format", "json", "--state", h.state,
			"--pass", filepath.Join(p.folder, "secrets", name+".pass"), "--file", filepath.Join(p.folder, "stack", "holdfast.yaml"))
		cmd.Dir = h.dir
		l := &hostRun{cmd: cmd, said: &syncBuffer{}, ended: make(chan struct{})}
		cmd.Stdout, cmd.Stderr = l.said, l.said
		cmd.WaitDelay = time.Second // nodes that it leaves behind have its output open
		if err := cmd.Start(); err != nil {
			p.t.Fatal(err)
		}
		go func() {
			defer close(l.ended)
			_ = l.cmd.Wait()
		}()
		p.lives[name] = l
	}
}

// end stops hosts, all at once, as an orchestrator does.
func (p *hostsWithPasses) end(names ...string) {
	p.t.Helper()
	for _, name := range names {
		if err := p.lives[name].cmd.Process.Signal(syscall.SIGTERM); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, name := range names {
		l := p.lives[name]
		select {
		case <-l.ended:
		case <-time.After(90 * time.Second):
			p.t.Fatalf("host %s does not end", name)
		}
		if code := l.cmd.ProcessState.ExitCode(); code != 0 {
			p.t.Errorf("host %s ended with %d, and said:\n%s", name, code, l.said)
		}
		for _, text := range strings.Fields(shell(p.t, "ip", "netns", "pids", p.hosts[name].netns)) {
			if pid, err := strconv.Atoi(text); err != nil || !zombie(pid) {
				p.t.Errorf("host %s leaves process %s behind", name, text)
			}
		}
	}
}

func (p *hostsWithPasses) ask(host, path, want string) {
	p.t.Helper()
	resp, err := http.Get("http://" + p.hosts[host].address + ":6301" + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != want {
		p.t.Errorf("%s at host %s: %q, %v; want %q", path, host, body, err, want)
	}
}

// masterOf returns the host of the Redis master.
func masterOf(st supervise.Status) string {
	for _, n := range st.Nodes {
		if n.Role == "master" {
			return n.Host
		}
	}
	return ""
}

func TestHostsWithPassesComeAndGoAsContainersDo(t *testing.T) {
	beside(t, severalHosts)
	p := newHostsWithPasses(t)
	p.begin("two", "three")
	p.begin("one")
	st := p.hosts["one"].awaitReady()
	p.ask("one", "/set?key=imooc&value=imooc.com", "OK. We have set imooc to be imooc.com")

	// The host of the master is told to end: another host has the master before it does.
	gone := masterOf(st)
	other := "two"
	if gone == other {
		other = "three"
	}
	p.end(gone)
	p.ask(other, "/get?key=imooc", "imooc.com")
	if st, ok := p.hosts[other].status(); !ok || masterOf(st) == gone || len(st.Resting) != 1 {
		t.Errorf("without host %s: %v, master on %s, resting %v", gone, ok, masterOf(st), st.Resting)
	}

	// It comes back without its disk.
	if err := os.RemoveAll(p.hosts[gone].state); err != nil {
		t.Fatal(err)
	}
	p.begin(gone)
	p.hosts[gone].eventually("host "+gone+" has its nodes again", func() bool {
		st, ok := p.hosts[gone].status()
		if !ok || !st.Ready || len(st.Resting) > 0 {
			return false
		}
		for _, n := range st.Nodes {
			if n.State != supervise.Up {
				return false
			}
		}
		return true
	})
	p.ask(gone, "/get?key=imooc", "imooc.com")

	// All hosts end at once, and start again.
	p.end("one", "two", "three")
	p.begin("one", "two", "three")
	p.hosts["one"].awaitReady()
	p.ask("two", "/get?key=imooc", "imooc.com")
	p.end("one", "two", "three")
}
