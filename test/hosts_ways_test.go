package test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"holdfast/internal/control"
	"holdfast/internal/host"
	"holdfast/internal/identity"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/supervise"
)

// The ways of a host into a stack of several and out of it. The parts of the test use one stack,
// one after the other.
func TestTheWaysOfAHostInAndOut(t *testing.T) {
	beside(t, severalHosts)
	hosts := newNetnsHosts(t)
	w := &joinStack{hosts: hosts, one: hosts["one"], two: hosts["two"], three: hosts["three"]}
	w.write(t, w.text("first"))
	for _, files := range []string{"first", "second"} {
		if err := os.MkdirAll(filepath.Join(w.one.dir, files, "docs"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.one.dir, files, "docs/which"), []byte(files), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.one.must("up", "-d")

	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"a token that does not fit is refused", w.tokens},
		{"a token of another authority is refused", w.otherAuthority},
		{"push says why a machine cannot be the host", w.pushRefused},
		{"push has a machine join by ssh", w.push},
		{"a bundle has a machine join", w.bundle},
		{"the service of a host that has joined", w.service},
		{"a host that is cut off refuses changes, and has those of the others when it is back", w.cutOff},
		{"a host with an empty disk begins nothing", w.emptyDisk},
		{"another machine takes the place of a host", w.replace},
		{"the stack is taken down", w.down},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			for _, h := range hosts {
				h.t = t
			}
			began := time.Now()
			step.do(t)
			t.Logf("%.1f s", time.Since(began).Seconds())
		}) {
			break // the others would fail for the same reason
		}
	}
	for _, h := range hosts {
		h.t = t
	}
}

// joinStack is the stack of the test.
type joinStack struct {
	hosts           map[string]*netnsHost
	one, two, three *netnsHost
	sshOptions      []string // with which host one reaches host two
}

// text returns the stack file, with a directory that is served only on host one, and with more.
func (w *joinStack) text(files string, more ...string) string {
	return fmt.Sprintf("name: shop\nentry: {listen: \"0.0.0.0:8080\", auth: none}\nhosts:\n  one: {address: %s}\n  two: {address: %s}\n  three: {address: %s, only: [sentinel]}\nredis: {replicas: 3}\n"+
		"apps:\n  web: {kv: {}}\n  docs: {files: %s, nodes: 2, on: [one]}\nroutes:\n  - {path-prefix: /docs/, app: docs}\n  - {app: web}\n%s",
		w.one.address, w.two.address, w.three.address, filepath.Join(w.one.dir, files), strings.Join(more, "\n"))
}

// write writes the stack file of host one.
func (w *joinStack) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.one.dir, "holdfast.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// withState gives a host another state directory while do runs.
func (h *netnsHost) withState(state string, do func()) {
	before := h.state
	defer func() { h.state = before }()
	h.state = state
	do()
}

// endProcess ends the process of a host as Ctrl-C does.
func (h *netnsHost) endProcess() {
	h.t.Helper()
	if err := syscall.Kill(h.list().PID, syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	h.eventually("the process of host "+h.name+" has ended", func() bool { return !host.Claimed(h.state) })
}

func (w *joinStack) tokens(t *testing.T) {
	requireWords(t, w.two.fails(2, "join", "--bundle", filepath.Join(w.two.dir, "nothing")), "no such file")
	requireWords(t, w.two.fails(2, "join", "-", "--passphrase-file", "x"), "--bundle")
	requireWords(t, w.one.fails(2, "host", "add", "two", "--for", "25h"), "from 1m to 24h")
	requireWords(t, w.one.fails(2, "export", "host", "two", "--for", "721h"), "from 1m to 720h")

	token := w.one.token("two")
	requireWords(t, w.two.fails(2, "join", token, "--as", "three"), "is for host two", "to be host three")
	requireWords(t, w.three.fails(1, "join", token), "for host two at "+w.two.address, "cannot listen there", "not used up")

	// Somebody writes another host's name into the token.
	parsed, err := identity.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Host, parsed.Address = "three", netip.MustParseAddr(w.three.address)
	requireWords(t, w.three.fails(1, "join", parsed.Encode()), "for host two and not for another")

	// The token has expired.
	late, err := control.NewClient(w.one.state).Invite(t.Context(), "two", netip.MustParseAddr(w.two.address), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	requireWords(t, w.two.fails(1, "join", token), "not known to this stack", "a newer one was made")
	time.Sleep(time.Until(late.Expires.Add(100 * time.Millisecond)))
	requireWords(t, w.two.fails(1, "join", late.Token), "ended at", "host add two")
	for _, h := range []*netnsHost{w.two, w.three} {
		if _, err := host.ReadSelf(h.state); !errors.Is(err, host.ErrNotJoined) {
			t.Errorf("host %s has joined: %v", h.name, err)
		}
	}
}

// Another stack of the same name, on host three, has an authority of its own.
func (w *joinStack) otherAuthority(t *testing.T) {
	token := w.one.token("two")
	other := filepath.Join(w.three.dir, "other")
	w.three.withState(other, func() {
		if err := os.WriteFile(filepath.Join(w.three.dir, "holdfast.yaml"), []byte(w.text("first")), 0o600); err != nil {
			t.Fatal(err)
		}
		requireWords(t, w.three.fails(1, "up", "-d"), "up already, on host one", "host replace three")
		shell(t, "ip", "-netns", w.three.netns, "link", "set", "eth0", "down") // so that it cannot find out
		w.three.must("up", "-d")
		shell(t, "ip", "-netns", w.three.netns, "link", "set", "eth0", "up")
	})
	parsed, err := identity.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Members[0] = netip.AddrPortFrom(netip.MustParseAddr(w.three.address), host.Port)
	requireWords(t, w.two.fails(1, "join", parsed.Encode()), "another authority", "the secret was not sent")
	w.three.withState(other, func() { w.three.endProcess() })
	for _, path := range []string{other, filepath.Join(w.three.dir, "holdfast.yaml")} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// sshd starts an ssh server on a host, at a port, and returns the options with which ssh reaches
// it. The server runs in a mount namespace of its own, in which the command hide runs first.
// Programs in the directory before take precedence there.
func (h *netnsHost) sshd(t *testing.T, port int, before, hide string) (options []string) {
	t.Helper()
	if _, err := exec.LookPath("sshd"); err != nil {
		t.Fatalf("%v: scripts/setup --test installs it", err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(h.dir, "ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"host", "user"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			shell(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", filepath.Join(dir, name))
		}
	}
	hostKey, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	known, config := filepath.Join(dir, "known"), filepath.Join(dir, fmt.Sprint("config-", port))
	for path, text := range map[string]string{
		known + fmt.Sprint(port): fmt.Sprintf("[%s]:%d %s", h.address, port, hostKey),
		config: fmt.Sprintf("Port %d\nHostKey %s/host\nPidFile none\nAuthorizedKeysFile %[2]s/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nSetEnv PATH=%s:/usr/bin:/bin\n",
			port, dir, before),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("ip", "netns", "exec", h.netns, "unshare", "--mount", "sh", "-c", hide+"exec /usr/sbin/sshd -D -e -f "+config)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed with everything that runs on the host
	}()
	h.eventually("sshd listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("sshd has ended: %s", said.Bytes())
		default:
		}
		conn, err := h.dial(fmt.Sprintf("%s:%d", h.address, port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	for _, option := range []string{
		"Port=" + fmt.Sprint(port), "IdentityFile=" + dir + "/user", "IdentitiesOnly=yes", "BatchMode=yes",
		"UserKnownHostsFile=" + known + fmt.Sprint(port), "GlobalKnownHostsFile=/dev/null",
	} {
		options = append(options, "--ssh-option", option)
	}
	return options
}

// dial connects from a host.
func (h *netnsHost) dial(address string) (conn net.Conn, err error) {
	err = process.Within(filepath.Join("/run/netns", h.netns), func() (err error) {
		conn, err = net.DialTimeout("tcp", address, 5*time.Second)
		return err
	})
	return conn, err
}

// program replaces a program by a script.
func program(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (w *joinStack) pushRefused(t *testing.T) {
	push := func(args ...string) []string {
		return append([]string{"push", "two", "--remote-state", w.two.state, "--remote-program", filepath.Join(w.two.dir, "bin/holdfast")}, args...)
	}
	requireWords(t, w.one.fails(2, push("--to", "-oProxyCommand=x")...), "--to", "HOST or USER@HOST")
	requireWords(t, w.one.fails(2, push("--ssh-option", "-p 22")...), "KEY=VALUE")
	requireWords(t, w.one.fails(2, push("--remote-state", "state")...), "begins with /")
	requireWords(t, w.one.fails(2, push("--program", filepath.Join(w.one.dir, "holdfast.yaml"))...), "no program for Linux")
	requireWords(t, w.one.fails(2, "push", "four"), "four", "one, two and three")
	requireWords(t, w.one.fails(1, "push", "one"), "one of the stack already")

	// ssh fails: no server, an unknown host key, no ssh.
	requireWords(t, w.one.fails(1, push("--ssh-option", "Port=2222")...), "host two is not reached, and nothing was changed", "Connection refused")
	before := filepath.Join(w.two.dir, "before")
	options := w.two.sshd(t, 2222, before, "")
	requireWords(t, w.one.fails(1, push(append([]string{"--ssh-option", "UserKnownHostsFile=/dev/null"}, options...)...)...), "Host key verification failed")
	requireWords(t, w.one.fails(1, push(append([]string{"--to", "nobody@" + w.two.address}, options...)...)...), "Permission denied")
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Fatal(err)
	}
	nothing := filepath.Join(w.one.dir, "nothing")
	if err := errors.Join(os.MkdirAll(nothing, 0o755), os.Symlink(ip, filepath.Join(nothing, "ip"))); err != nil {
		t.Fatal(err)
	}
	w.one.env = []string{"PATH=" + nothing}
	requireWords(t, w.one.fails(1, push(options...)...), "there is no ssh on this machine", "host add two")
	w.one.env = nil

	// The machine cannot be the host.
	program(t, filepath.Join(before, "uname"), `case $1 in -s) echo Linux;; *) echo riscv128;; esac`)
	requireWords(t, w.one.fails(1, push(options...)...), "host two is linux/riscv128", "--program FILE")
	if err := os.Remove(filepath.Join(before, "uname")); err != nil {
		t.Fatal(err)
	}
	program(t, filepath.Join(w.two.dir, "bin/holdfast"), "echo 'holdfast v0.1.0 (commit abc, go1.20 linux/amd64)'")
	requireWords(t, w.one.fails(1, push(options...)...), "holdfast v0.1.0", "--replace")
	if err := os.Remove(filepath.Join(w.two.dir, "bin/holdfast")); err != nil {
		t.Fatal(err)
	}
	hidden := w.two.sshd(t, 2223, before, "for p in haproxy redis-server; do mount --bind /dev/null $(readlink -f $(command -v $p)) || exit; done; ")
	requireWords(t, w.one.fails(1, push(hidden...)...), "host two has no HAProxy and no Redis", "apt-get install haproxy redis-server")
	if _, err := os.Stat(w.two.state); !errors.Is(err, os.ErrNotExist) {
		entries, _ := os.ReadDir(w.two.state)
		for _, e := range entries {
			if e.Name() == host.SelfFile {
				t.Error("host two has joined")
			}
		}
	}
	w.sshOptions = options
}

// A host joins by ssh, with the program that is copied to it, and no list of processes shows its
// token.
func (w *joinStack) push(t *testing.T) {
	stop, seen := make(chan struct{}), make(chan string, 1)
	go func() {
		found := ""
		for {
			select {
			case <-stop:
				seen <- found
				return
			case <-time.After(20 * time.Millisecond):
			}
			paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range paths {
				text, _ := os.ReadFile(path) // of this stack, as its paths show
				if bytes.Contains(text, []byte("hf1_")) && bytes.Contains(text, []byte(filepath.Dir(w.one.dir))) {
					found = string(text)
				}
			}
		}
	}()
	copied := filepath.Join(w.two.dir, "bin/holdfast")
	args := append([]string{"push", "two", "--remote-state", w.two.state, "--remote-program", copied}, w.sshOptions...)
	stdout, stderr, code := w.one.run(args...)
	close(stop)
	if text := <-seen; text != "" {
		t.Errorf("a command line has the token: %q", text)
	}
	if code != 0 {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	requireWords(t, stdout, "Host two ("+w.two.address+") has joined the stack shop")
	requireWords(t, stderr, "Copying holdfast to "+copied, "two: This machine is host two of the stack shop now", "two: ")
	if strings.Contains(stdout+stderr, "hf1_") {
		t.Error("the token is shown")
	}
	if path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", w.two.list().PID)); err != nil || path != copied {
		t.Errorf("host two runs %s, %v", path, err)
	}
	if left, _ := filepath.Glob(copied + "?*"); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	requireWords(t, w.one.fails(1, args...), "host two is one of the stack already")
	// Host three is to be on the machine of host two.
	args[1] = "three"
	requireWords(t, w.one.fails(1, append(args, "--to", w.two.address)...), "a host of a stack already", w.two.state)
}

func (w *joinStack) bundle(t *testing.T) {
	file, secret := filepath.Join(w.two.dir, "three.bundle"), filepath.Join(w.two.dir, "secret")
	if err := os.WriteFile(secret, []byte("a long enough secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	requireWords(t, w.two.must("export", "host", "three", "-o", file, "--passphrase-file", secret), "three.bundle is for host three ("+w.three.address+")", "works once")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	requireWords(t, w.three.fails(2, "join", "--bundle", file), "is encrypted", "--passphrase-file")
	requireWords(t, w.three.fails(2, "join", "--bundle", file, "hf1_x"), "unknown command")
	open := []string{"join", "--bundle", file, "--passphrase-file", secret, "-d"}
	requireWords(t, w.three.must(open...), "host three of the stack shop now")
	// Configuration management runs the command again.
	requireWords(t, w.three.must(open...), "host three of the stack shop already, and is up")
	w.three.endProcess()
	requireWords(t, w.three.must(open...), "host three of the stack shop already.")
	for _, h := range w.hosts {
		h.awaitReady()
	}
}

func (w *joinStack) service(t *testing.T) {
	unit := w.two.must("service", "install", "--system", "--run-as", "daemon", "--dry-run")
	requireWords(t, unit, "up --joined --as two --state "+w.two.state+"\n", "\nUser=daemon\n", "\nWorkingDirectory=-"+w.two.dir+"\n", "another host looks after")
	if strings.Contains(unit, "ExecReload") || strings.Contains(unit, "--file") {
		t.Errorf("the unit is that of a host with a stack file:\n%s", unit)
	}
	requireWords(t, w.one.must("service", "install", "--system", "--run-as", "daemon", "--dry-run"), "up --joined --as one --file "+filepath.Join(w.one.dir, "holdfast.yaml"), "\nExecReload=")
	path := filepath.Join(w.two.dir, "holdfast-shop.service")
	if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := shell(t, "systemd-analyze", "verify", "--man=no", path); said != "" {
		t.Errorf("systemd says %s", said)
	}
}

// link sets a host's link up or down.
func (h *netnsHost) link(state string) {
	h.t.Helper()
	shell(h.t, "ip", "-netns", h.netns, "link", "set", "eth0", state)
}

// cutOff cuts a host off from the others. Then the host loses its power, the stack is changed, and
// the host comes back.
func (w *joinStack) cutOff(t *testing.T) {
	before := w.one.awaitReady()
	w.two.link("down")
	// Each command waits for a leader for a while, so they run side by side.
	var refused sync.WaitGroup
	for _, args := range [][]string{
		{"scale", "web=3"}, {"apply", "--yes"}, {"restart", "web-2"}, {"switchover"}, {"host", "add", "three"}, {"host", "remove", "three", "--yes"}, {"export", "host", "three"},
	} {
		refused.Go(func() {
			said := ""
			for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
				_, stderr, code := w.two.run(args...)
				if code == 0 {
					t.Errorf("a host that is cut off does %v", args)
					return
				}
				// Until the host knows that it is cut off, it reports that the leader does not
				// answer.
				said = stderr
				if _, last, is := strings.Cut("\n"+said, "\nholdfast: "); is && strings.Contains(last, "a majority of its hosts has to reach each other. What runs, runs on") && strings.Count(last, "\n") == 1 {
					return
				}
			}
			t.Errorf("%v is not refused with one clear error: %s", args, said)
		})
	}
	w.one.eventually("the others have a leader", func() bool {
		leader := w.one.list().Leader
		return leader != "" && leader != "two"
	})
	refused.Wait()

	// The nodes of the host that is cut off go on.
	conn, err := w.two.dial(w.two.address + ":8080")
	if err != nil {
		t.Errorf("its balancer: %v", err)
	} else {
		conn.Close()
	}
	for _, n := range before.Nodes {
		if err := syscall.Kill(n.PID, 0); n.Host == "two" && err != nil {
			t.Errorf("%s runs no more: %v", n.Name, err)
		}
	}

	endAll(t, w.two.netns)
	w.two.link("up")
	w.write(t, strings.Replace(w.text("second"), "kv: {}", "kv: {hold: 4s}", 1))
	w.one.eventually("a change of nodes that are away is refused", func() bool {
		_, stderr, code := w.one.run("apply", "--yes")
		return code == 1 && strings.Contains(stderr, "web-") && strings.Contains(stderr, "host two is away")
	})
	w.write(t, w.text("second", "timeouts: {client: 41s}"))
	w.one.must("apply", "--yes")
	if got := w.one.awaitAnswer(t, "/docs/which"); got != "second" {
		t.Errorf("after the change host one serves %q", got)
	}
	changed, _ := w.one.status()
	w.two.must("up", "-d")
	w.hasNewest(t, w.two.awaitReady(), before, changed)
}

// hasNewest checks that host two, which was away, has what the others changed in the meantime.
func (w *joinStack) hasNewest(t *testing.T, st, before, changed supervise.Status) {
	t.Helper()
	if got := w.two.awaitAnswer(t, "/docs/which"); got != "second" {
		t.Errorf("host two is back, and serves %q", got)
	}
	for _, n := range st.Nodes {
		was, _ := changed.Node(n.Name)
		switch old, _ := before.Node(n.Name); {
		case n.Host != "two" && n.PID != was.PID:
			t.Errorf("%s was started anew: pid %d, was %d", n.Name, n.PID, was.PID)
		case n.Host == "two" && n.PID == old.PID:
			t.Errorf("%s was not started anew", n.Name)
		}
		if n.Outdated != "" {
			t.Errorf("%s: %s", n.Name, n.Outdated)
		}
	}
	w.two.eventually("host two knows the newest generation", func() bool { // it learns of it after its nodes are up
		running, err := os.ReadFile(filepath.Join(w.two.state, "running.json"))
		return err == nil && bytes.Contains(running, []byte("/one/second")) && !bytes.Contains(running, []byte("/one/first"))
	})
	configs, err := filepath.Glob(filepath.Join(w.two.state, "nodes/balancer-*/haproxy.cfg"))
	if err != nil || len(configs) != 1 {
		t.Fatalf("balancers of host two: %v, %v", configs, err)
	}
	if config, err := os.ReadFile(configs[0]); err != nil || !bytes.Contains(config, []byte("timeout client 41")) {
		t.Errorf("its balancer has the configuration of before: %v", err)
	}
}

// redisOf returns the redis nodes of a host, and the master of the stack.
func redisOf(st supervise.Status, name string) (there []string, master string) {
	for _, n := range st.Nodes {
		if n.Kind == plan.Redis && n.Host == name {
			there = append(there, n.Name)
		}
		if n.Role == "master" {
			master = n.Name
		}
	}
	return there, master
}

// moveMaster makes a redis node of a host the master.
func (w *joinStack) moveMaster(t *testing.T, name string) {
	t.Helper()
	there, _ := redisOf(w.one.awaitReady(), name)
	w.one.eventually(there[0]+" is the master", func() bool {
		w.one.run("switchover", "--to", there[0])
		st, _ := w.one.status()
		_, master := redisOf(st, name)
		return master == there[0]
	})
}

// awaitAnswer asks the balancer of a host until it answers.
func (h *netnsHost) awaitAnswer(t *testing.T, path string) string {
	t.Helper()
	answer := ""
	h.eventually("an answer to "+path, func() bool {
		var err error
		answer, err = ask(&fasthttp.Client{Dial: h.dial, ReadTimeout: 15 * time.Second}, "http://"+h.address+":8080"+path)
		return err == nil
	})
	return answer
}

// replacing removes a host, and returns the token for the machine that takes its place.
func (h *netnsHost) replacing(name string) string {
	h.t.Helper()
	token, is := strings.CutPrefix(strings.TrimSpace(h.must("host", "replace", name, "--yes")), "holdfast join ")
	if !is {
		h.t.Fatal("host replace prints no line to join")
	}
	return token
}

// The host with the master loses its power and its disk.
func (w *joinStack) emptyDisk(t *testing.T) {
	w.moveMaster(t, "two")
	w.one.awaitAnswer(t, "/set?key=precious&value=kept")
	endAll(t, w.two.netns)
	if err := os.RemoveAll(w.two.state); err != nil {
		t.Fatal(err)
	}

	// This is what its service does, and what a person tries first.
	requireWords(t, w.two.fails(2, "up", "--joined", "--as", "two"), "host two", "its disk was emptied", "Nothing was started", "host replace two")
	if _, err := os.Stat(w.two.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory was made: %v", err)
	}
	file := filepath.Join(w.two.dir, "holdfast.yaml")
	if err := os.WriteFile(file, []byte(w.text("first")), 0o600); err != nil {
		t.Fatal(err)
	}
	requireWords(t, w.two.fails(1, "up", "-d"), "up already, on hosts one and three", "host replace two", "disk was emptied")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	requireWords(t, w.one.fails(1, "host", "add", "two"), "one of the stack already", "host remove two")

	w.two.must("join", w.one.replacing("two"), "-d")
	st := w.two.awaitReady()
	if there, master := redisOf(st, "two"); slices.Contains(there, master) {
		t.Errorf("%s is the master, which came with nothing", master)
	}
	if got := w.two.awaitAnswer(t, "/get?key=precious"); got != "kept" {
		t.Errorf("the data is %q", got)
	}
}

// A host with the master is replaced by another machine while clients write.
func (w *joinStack) replace(t *testing.T) {
	w.moveMaster(t, "two")
	load := startLoadBy(t, w.one.dial, "http://"+w.one.address+":8080", 100, false)
	token := w.one.replacing("two")
	w.two.eventually("the former machine has left", func() bool {
		_, err := host.ReadSelf(w.two.state)
		return errors.Is(err, host.ErrNotJoined) && !host.Claimed(w.two.state)
	})
	if running, err := supervise.Running(w.two.state); err != nil || running {
		t.Errorf("nodes of the former machine run: %v", err)
	}

	w.two.state = filepath.Join(w.two.dir, "another machine")
	_, shown, code := w.two.run("join", token, "-d")
	if code != 0 || strings.Contains(shown, " failed ") {
		t.Errorf("exit %d: %s", code, shown)
	}
	st := w.two.awaitReady()
	there, master := redisOf(st, "two")
	if len(there) == 0 || slices.Contains(there, master) {
		t.Errorf("the master is %s; on the new machine are %v", master, there)
	}
	load.end()
	w.moveMaster(t, "two") // so that everything is read from there
	o := load.finish(t)
	if o.requireTraffic(t, 200); len(o.failed) > 0 {
		t.Errorf("%d requests failed: %v", len(o.failed), o.errs)
	}
}

func (w *joinStack) down(t *testing.T) {
	requireWords(t, w.three.must("down"), "down on all hosts")
	for _, h := range w.hosts {
		h.eventually("host "+h.name+" has ended", func() bool { return !host.Claimed(h.state) })
		if running, err := supervise.Running(h.state); err != nil || running {
			t.Errorf("nodes of host %s run: %v", h.name, err)
		}
	}
}
