//go:build linux

package test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/identity"
	"holdfast/internal/isolate/dnstest"
	"holdfast/internal/plan"
	"holdfast/internal/pod"
	"holdfast/internal/process"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// podStack is the pods with data of a stack, without Kubernetes. Each pod is the first process of a
// pid namespace, with a network of its own, and with a name server that the test can take away. Its
// Service has the same address as the pod.
type podStack struct {
	t         *testing.T
	text      string // the stack file
	dns       *dnstest.Server
	pods      map[string]*podLife // by node
	file      string
	seed      string
	identity  *pod.Identity // identity of a web node, which may ask Redis
	passwords plan.Secrets
}

const podFile = "name: shop\nentry: {listen: \"0.0.0.0:6301\", auth: none}\nredis: {replicas: 1}\n"

// podLife is a pod from its start to its end.
type podLife struct {
	*netnsHost
	of    *podStack
	node  string
	names string // path of its resolv.conf
	cmd   *exec.Cmd
	said  *syncBuffer
	ended chan struct{}
}

func newPodStack(t *testing.T) *podStack {
	t.Helper()
	return newPodStackOf(t, podFile, "redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3")
}

// newPodStackOf is newPodStack with another stack file, which has these redis nodes and Sentinels.
func newPodStackOf(t *testing.T, text string, nodes ...string) *podStack {
	t.Helper()
	needRoot(t)
	hosts := newNetnsHosts(t, nodes...)
	p := &podStack{t: t, text: text, pods: map[string]*podLife{}, seed: strings.Repeat("seed", 10)}
	one := hosts["redis-1"]

	// The name server is at the bridge, in the network of all pods.
	ns := strings.TrimSuffix(one.address, ".1") + ".100"
	shell(t, "ip", "-netns", one.bridge, "address", "add", ns+"/24", "dev", "br0")
	var conn net.PacketConn
	if err := process.Within(filepath.Join("/run/netns", one.bridge), func() (err error) {
		conn, err = net.ListenPacket("udp", ns+":53")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	p.dns = dnstest.Serve(t, conn)

	dir := filepath.Dir(one.dir)
	p.file = filepath.Join(dir, "holdfast.yaml")
	seedFile, names := filepath.Join(dir, "seed"), filepath.Join(dir, "resolv.conf")
	for file, text := range map[string]string{p.file: text, seedFile: p.seed, names: "nameserver " + ns + "\nsearch pods.test\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	of := p.prove()
	for _, node := range nodes {
		p.dns.Set(plan.PodService(of, node)+".pods.test", hosts[node].address)
		p.pods[node] = &podLife{netnsHost: hosts[node], of: p, node: node, names: names}
	}
	t.Cleanup(func() {
		for node, l := range p.pods {
			if t.Failed() && l.said != nil {
				t.Logf("the pod of %s said:\n%s", node, l.said)
			}
			l.kill()
		}
	})
	return p
}

// prove gives the test a web node's certificate, and returns the stack.
func (p *podStack) prove() stack.Stack {
	p.t.Helper()
	of, _, err := stack.Parse(p.file, []byte(p.text))
	if err != nil {
		p.t.Fatal(err)
	}
	seed, err := plan.ParseSeed(p.seed)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.passwords, err = seed.Secrets(of); err != nil {
		p.t.Fatal(err)
	}
	secret, err := seed.Derive(of.Name, plan.AuthorityLabel, identity.DerivedKeySize)
	if err != nil {
		p.t.Fatal(err)
	}
	authority, err := identity.DeriveAuthority(of.Name, secret)
	if err != nil {
		p.t.Fatal(err)
	}
	p.identity, err = pod.OpenIdentity(p.t.TempDir(), authority, pod.Bearer{
		Node: "web-1", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Life: time.Hour,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return of
}

// begin starts these pods, or all without names.
func (p *podStack) begin(nodes ...string) {
	p.t.Helper()
	for node, l := range p.pods {
		if len(nodes) == 0 || slices.Contains(nodes, node) {
			l.begin()
		}
	}
}

func (l *podLife) begin() {
	l.of.t.Helper()
	if err := l.start(); err != nil {
		l.of.t.Fatal(err)
	}
}

func (l *podLife) start() error {
	const inside = `mount --bind "$0" /etc/resolv.conf && exec "$@"`
	kind, number, _ := strings.Cut(l.node, "-")
	ordinal, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	l.cmd = exec.Command("ip", "netns", "exec", l.netns,
		"unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", inside, l.names,
		binary, "pod", "--file", l.of.file, "--seed", filepath.Join(filepath.Dir(l.of.file), "seed"), "--state", l.state,
		"--programs", filepath.Join(filepath.Dir(l.of.file), "programs"),
		"--name", fmt.Sprintf("shop-%s-%d", kind, ordinal-1), "--address", l.address, "--log-format", "json")
	l.cmd.Dir, l.cmd.Env = l.dir, append(os.Environ(), l.env...)
	l.said, l.ended = &syncBuffer{}, make(chan struct{})
	l.cmd.Stdout, l.cmd.Stderr = l.said, l.said
	if err := l.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := l.cmd, l.ended
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return nil
}

// firstProcess returns the pod's first process, and supervisor its child.
func (l *podLife) firstProcess() int {
	l.of.t.Helper()
	below := process.Children(l.cmd.Process.Pid)
	if len(below) != 1 {
		l.of.t.Fatalf("below the beginning of the pod of %s are %v", l.node, below)
	}
	return below[0]
}

func (l *podLife) supervisor() (pid int) {
	l.of.t.Helper()
	parent := fmt.Sprintf("\nPPid:\t%d\n", l.firstProcess())
	l.eventually("a supervisor", func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range all {
			args, _ := os.ReadFile(file) // a process that has just ended has none
			about, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
			if strings.Contains(string(args), "--contained") && strings.Contains(string(about), parent) {
				pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(file)))
				return true
			}
		}
		return false
	})
	return pid
}

// kill ends a pod as if its machine were gone.
func (l *podLife) kill() {
	if l.cmd == nil {
		return
	}
	_ = l.cmd.Process.Kill()
	<-l.ended
	l.cmd = nil
}

// awaitEnd waits until a pod that was told to end has ended, and returns its exit status.
func (l *podLife) awaitEnd() int {
	l.of.t.Helper()
	select {
	case <-l.ended:
	case <-time.After(60 * time.Second):
		l.of.t.Fatalf("the pod of %s does not end", l.node)
	}
	code := l.cmd.ProcessState.ExitCode()
	l.cmd = nil
	return code
}

// eventually fails the test if the condition does not hold within a minute and a half.
func (l *podLife) eventually(what string, is func() bool) {
	l.of.t.Helper()
	if !clock.Within(90*time.Second, 50*time.Millisecond, is) {
		l.of.t.Fatalf("not in time: %s, at the pod of %s", what, l.node)
	}
}

// status returns the pod's node in the answer of 'holdfast status'.
func (l *podLife) status() (n supervise.NodeStatus, ok bool) {
	out, err := exec.Command(binary, "status", "--json", "--file", l.of.file, "--state", l.state).Output()
	var st supervise.Status
	if err != nil || json.Unmarshal(out, &st) != nil {
		return n, false
	}
	return st.Node(l.node)
}

// dial connects to a port of a pod from the pod's own network.
func (l *podLife) dial(ctx context.Context, port int) (conn net.Conn, err error) {
	err = process.Within(filepath.Join("/run/netns", l.netns), func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", l.address, port))
		return err
	})
	return conn, err
}

// probe sends a probe as the kubelet does.
func (l *podLife) probe(path string) (status int, body string) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx, plan.PodPort) },
	}}
	resp, err := client.Get("http://pod" + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

func (l *podLife) awaitReady() {
	l.of.t.Helper()
	l.eventually("it is ready", func() bool {
		status, _ := l.probe(pod.ReadyPath)
		return status == http.StatusOK
	})
}

// allReady waits until all pods are ready, and returns those of the master and the replica.
func (p *podStack) allReady() (master, replica *podLife) {
	p.t.Helper()
	for _, l := range p.pods {
		l.awaitReady()
	}
	one, two := p.pods["redis-1"], p.pods["redis-2"]
	for _, is := range []struct{ a, b *podLife }{{one, two}, {two, one}} {
		if n, _ := is.a.status(); n.Role == "master" {
			return is.a, is.b
		}
	}
	p.t.Fatal("there is no master")
	return nil, nil
}

// redis runs commands at a redis node, one a line, and returns the lines of the answers.
func (l *podLife) redis(lines ...string) []string {
	l.of.t.Helper()
	ctx, cancel := context.WithTimeout(l.of.t.Context(), 30*time.Second)
	defer cancel()
	plain, err := l.dial(ctx, plan.PodRedisPort)
	if err != nil {
		l.of.t.Fatal(err)
	}
	conn := tls.Client(plain, l.of.identity.Client(l.node))
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	lines = append([]string{"AUTH web " + l.of.passwords.Web}, lines...)
	go io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n") // a failure shows as a missing answer
	var answers []string
	for in := bufio.NewReader(conn); len(answers) < len(lines); {
		answer, err := in.ReadString('\n')
		if err != nil {
			l.of.t.Fatalf("%s after %q", err, answers)
		}
		answers = append(answers, strings.TrimSpace(answer))
	}
	return answers[1:]
}

func TestPodsWhoseSupervisorDiesAndWhoseDNSIsAway(t *testing.T) {
	beside(t, oneStack)
	p := newPodStack(t)
	p.begin()
	master, replica := p.allReady()
	if got := master.redis("SET imooc imooc.com", "WAIT 1 5000"); !slices.Equal(got, []string{"+OK", ":1"}) {
		t.Fatalf("a write: %q", got)
	}

	// A supervisor dies while DNS is away. The next one adopts the node without asking anything.
	p.dns.Be(dnstest.Silent)
	before, _ := replica.status()
	if err := syscall.Kill(replica.supervisor(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	replica.eventually("another supervisor", func() bool {
		n, ok := replica.status()
		return ok && n.State == supervise.Up && strings.Contains(replica.said.String(), "outlived its supervisor")
	})
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the node was taken over after %v: somebody was asked", took)
	}
	if n, _ := replica.status(); n.PID != before.PID || n.Restarts != 0 {
		t.Errorf("%s has pid %d and was started %d times again; its pid was %d", n.Name, n.PID, n.Restarts, before.PID)
	}

	// The master's supervisor dies, and right after that the pod is told to end. The next
	// supervisor takes the node over, whichever pods answer, and hands the master's role over.
	was := master.supervisor()
	for _, pid := range []int{was, master.firstProcess()} {
		sig := syscall.SIGKILL
		if pid != was {
			sig = syscall.SIGTERM
		}
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	said := master.said
	if code := master.awaitEnd(); code != 0 {
		t.Errorf("the pod of the master ended with %d", code)
	}
	requireWords(t, said.String(), "outlived its supervisor", "switchover done", "User requested shutdown")
	if n, ok := replica.status(); !ok || n.Role != "master" {
		t.Errorf("without the former master %s is %q", replica.node, n.Role)
	}
	if got := replica.redis("EXISTS imooc"); !slices.Equal(got, []string{":1"}) {
		t.Errorf("what was written is gone: %q", got)
	}

	// The pod comes back while DNS is away, because all that it needs is on its volume.
	began = time.Now()
	p.begin(master.node)
	master.awaitReady()
	t.Logf("without DNS a pod was ready after %v", time.Since(began).Round(100*time.Millisecond))
	requireWords(t, master.said.String(), "DNS does not answer")
	if n, _ := master.status(); n.Role != "replica" {
		t.Errorf("%s came back as %q", master.node, n.Role)
	}

	// So do all of them at once.
	for _, l := range p.pods {
		l.kill()
	}
	p.begin()
	p.allReady()
}

// A redis node that takes long to load its data is alive but not ready: the kubelet must not
// restart it, and nothing sends it requests.
func TestAPodWhoseRedisLoadsForLongIsAlive(t *testing.T) {
	beside(t, oneStack)
	p := newPodStack(t)
	slow := p.slowRedis("redis-2")
	p.begin()
	master, replica := p.allReady()
	if replica.node != "redis-2" {
		t.Fatalf("%s is the replica", replica.node)
	}
	const keys = 40_000
	var lines []string
	for i := range keys {
		lines = append(lines, fmt.Sprintf("SET key-%d value", i))
	}
	if got := master.redis(append(lines, "WAIT 1 10000")...); got[keys] != ":1" {
		t.Fatalf("the replica lacks writes: %q", got[keys])
	}
	if err := syscall.Kill(replica.firstProcess(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := replica.awaitEnd(); code != 0 {
		t.Errorf("the pod ended with %d", code)
	}

	// Redis pauses for that many microseconds at each key, and answers after some 50 keys, or after
	// 1,024 bytes of an append-only file.
	if err := os.WriteFile(slow, []byte("--key-load-delay 200 --loading-process-events-interval-bytes 1024"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.begin(replica.node)
	replica.eventually("Redis to load", func() bool { return strings.Contains(replica.said.String(), "Loading RDB") })
	began, asked := time.Now(), 0
	for ; ; time.Sleep(50 * time.Millisecond) {
		if status, body := replica.probe(pod.LivePath); status != http.StatusOK {
			t.Fatalf("after %v of loading it is not alive: %d %s", time.Since(began), status, body)
		}
		asked++
		status, why := replica.probe(pod.ReadyPath)
		if status == http.StatusOK {
			break
		}
		if status != http.StatusServiceUnavailable || time.Since(began) > 2*time.Minute {
			t.Fatalf("after %v: %d %s", time.Since(began), status, why)
		}
	}
	var took float64
	_, text, _ := strings.Cut(replica.said.String(), "DB loaded from append only file: ")
	if _, err := fmt.Sscanf(text, "%f seconds", &took); err != nil || took < 5 {
		t.Errorf("Redis has loaded for %v s (%v): this test has seen nothing", took, err)
	}
	t.Logf("Redis has loaded for %v s, and its pod was asked %d times", took, asked)
	if n, _ := replica.status(); n.Restarts != 0 {
		t.Errorf("Redis was started %d times again", n.Restarts)
	}
	if got := replica.redis("EXISTS key-1 key-39999"); !slices.Equal(got, []string{":2"}) {
		t.Errorf("what it has loaded: %q", got)
	}
}

// slowRedis makes the Redis of a pod use the arguments in a file when it starts.
func (p *podStack) slowRedis(node string) (file string) {
	p.t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		p.t.Fatal(err)
	}
	l := p.pods[node]
	file = filepath.Join(l.dir, "arguments")
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" $(cat %s 2>/dev/null)\n", program, file)
	if err := os.WriteFile(filepath.Join(l.dir, "redis-server"), []byte(script), 0o755); err != nil {
		p.t.Fatal(err)
	}
	l.env = append(l.env, "PATH="+l.dir+":"+os.Getenv("PATH"))
	return file
}
