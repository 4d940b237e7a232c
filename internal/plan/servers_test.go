package plan

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"golang.org/x/sys/unix"

	"holdfast/internal/stack"
)

// These tests hand what a plan says to the real servers.

// cluster is the servers of a plan, running.
type cluster struct {
	t       *testing.T
	dir     string
	plan    Plan
	secrets Secrets

	running map[string]*exec.Cmd
}

// newCluster writes the plan of a stack, on free ports, and starts nothing.
// Ports of web nodes that the test serves itself are given.
func newCluster(t *testing.T, s stack.Stack, ports map[string]int) *cluster {
	t.Helper()
	dir := shortDir(t)
	secrets, err := NewSecrets(rand.Reader, s)
	if err != nil {
		t.Fatal(err)
	}
	m := machine(s, dir, secrets)
	for node := range m.Ports {
		m.Ports[node] = freePort(t)
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

// freePort is a port that nobody has, outside the range from which the
// kernel gives some to clients.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := int(nextPort.Add(1))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

var nextPort = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(int64(20000 + os.Getpid()%10000))
	return &n
}()

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

// start starts a node as the supervisor would, with more arguments.
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

// startRedis starts the Sentinels and the redis nodes; redis-1 is master.
func (c *cluster) startRedis() {
	c.t.Helper()
	_, port, _ := net.SplitHostPort(c.process("redis-1").Address)
	for _, p := range c.plan.Hosts[0].Processes {
		switch {
		case p.Kind == Sentinel:
			c.start(p.Node)
		case p.Node == "redis-1":
			c.start(p.Node, "--replicaof", "no", "one")
		case p.Kind == Redis:
			c.start(p.Node, "--replicaof", "127.0.0.1", port)
		}
	}
}

// do sends one command as a user, over a connection of its own.
func do(address, user, password string, command ...string) (string, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{address}, Username: user, Password: password,
		ForceSingleClient: true, DisableCache: true, DisableRetry: true,
		ConnWriteTimeout: 2 * time.Second,
	})
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r := client.Do(ctx, client.B().Arbitrary(command...).Build())
	if err := r.Error(); err != nil {
		return "", err
	}
	m, _ := r.ToMessage()
	return message(m), nil
}

// message writes an answer on one line.
func message(m rueidis.RedisMessage) string {
	if list, err := m.ToArray(); err == nil {
		var all []string
		for _, e := range list {
			all = append(all, message(e))
		}
		return strings.Join(all, " ")
	}
	if pairs, err := m.AsStrMap(); err == nil {
		var all []string
		for k, v := range pairs {
			all = append(all, k+"="+v)
		}
		return strings.Join(all, " ")
	}
	if n, err := m.ToInt64(); err == nil {
		return strconv.FormatInt(n, 10)
	}
	s, _ := m.ToString()
	return s
}

// web sends a command as an application would.
func (c *cluster) web(node string, command ...string) (string, error) {
	return do(c.process(node).Address, "web", c.secrets.Web, command...)
}

func eventually(t *testing.T, within time.Duration, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
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

// answers is nil when a command's answer has a text in it.
func answers(want string) func(string, error) error {
	return func(got string, err error) error {
		if err != nil {
			return err
		}
		if !strings.Contains(got, want) {
			return fmt.Errorf("%q has no %q", got, want)
		}
		return nil
	}
}

func TestTheMastersDeathIsSurvived(t *testing.T) {
	c := newCluster(t, base(), nil)
	c.startRedis()
	c.start("balancer-1")

	// At once, not after the 10 s of the first INFO or the 2 s of a hello.
	for _, s := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
		eventually(t, time.Second, func() error { _, err := c.web(s, "PING"); return err })
		eventually(t, 0, func() error {
			return answers("num-slaves=2")(c.sentinelMaster(s))
		})
		eventually(t, 0, func() error { return answers("num-other-sentinels=2")(c.sentinelMaster(s)) })
		eventually(t, 5*time.Second, func() error {
			return answers("OK 3 usable Sentinels")(c.web(s, "SENTINEL", "CKQUORUM", c.plan.Name))
		})
	}
	// A write that both replicas have.
	eventually(t, 10*time.Second, func() error {
		_, err := c.web("redis-1", "SET", "before", "1")
		return err
	})
	eventually(t, 10*time.Second, func() error {
		return answers("connected_slaves:2")(c.web("redis-1", "INFO", "replication"))
	})
	for _, r := range []string{"redis-2", "redis-3"} {
		eventually(t, 5*time.Second, func() error { return answers("1")(c.web(r, "GET", "before")) })
	}
	master := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ports()[PortRedisMaster]))
	throughBalancer := func(command ...string) (string, error) {
		return do(master, "web", c.secrets.Web, command...)
	}
	eventually(t, 5*time.Second, func() error { return answers("OK")(throughBalancer("SET", "through", "1")) })

	_, old, _ := net.SplitHostPort(c.process("redis-1").Address)
	c.kill("redis-1")
	var promoted string
	eventually(t, 10*time.Second, func() error {
		for _, r := range []string{"redis-2", "redis-3"} {
			if answers("master")(c.web(r, "ROLE")) == nil {
				promoted = r
				return nil
			}
		}
		return errors.New("no replica became master")
	})
	eventually(t, 10*time.Second, func() error { _, err := c.web(promoted, "SET", "after", "2"); return err })
	if err := answers("1")(c.web(promoted, "GET", "before")); err != nil {
		t.Error(err)
	}
	// The balancers' port follows, and refuses nobody who writes.
	eventually(t, 5*time.Second, func() error { return answers("OK")(throughBalancer("SET", "through", "2")) })

	// The old master comes back as a replica, by what Sentinel says.
	_, new, _ := net.SplitHostPort(c.process(promoted).Address)
	c.start("redis-1", "--replicaof", "127.0.0.1", new)
	eventually(t, 10*time.Second, func() error { return answers("slave 127.0.0.1 " + new)(c.web("redis-1", "ROLE")) })
	eventually(t, 10*time.Second, func() error { return answers("2")(c.web("redis-1", "GET", "after")) })

	// A Sentinel that restarts goes by its state, but for what stands in
	// base.conf.
	base := filepath.Join(c.dir, "nodes", "sentinel-1", "base.conf")
	text, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "down-after-milliseconds holdfast 500", "down-after-milliseconds holdfast 750", 1)
	if err := os.WriteFile(base, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	c.kill("sentinel-1")
	c.start("sentinel-1")
	eventually(t, 2*time.Second, func() error { return answers("down-after-milliseconds=750")(c.sentinelMaster("sentinel-1")) })
	if err := answers("port=" + new)(c.sentinelMaster("sentinel-1")); err != nil {
		t.Errorf("restarted, it thinks of another master than %s (the first was %s): %v", new, old, err)
	}
}

func (c *cluster) sentinelMaster(node string) (string, error) {
	return c.web(node, "SENTINEL", "MASTER", c.plan.Name)
}

// ports are those that the plan was made with.
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

func TestUsersMayDoWhatTheyNeedAndNoMore(t *testing.T) {
	s := base()
	s.Redis.Replicas, s.Redis.Sentinels = 0, 1
	c := newCluster(t, s, nil)
	c.startRedis()
	redis, sentinel := c.process("redis-1").Address, c.process("sentinel-1").Address
	operator := func(address string, command ...string) (string, error) {
		return do(address, "operator", c.secrets.Operator, command...)
	}
	for _, address := range []string{redis, sentinel} {
		eventually(t, 5*time.Second, func() error { return answers("PONG")(operator(address, "PING")) })
		if _, err := do(address, "", "", "PING"); err == nil || !strings.Contains(err.Error(), "NOAUTH") && !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%s: without a password: %v", address, err)
		}
	}
	type try struct {
		address, user string
		commands      string
		allowed       bool
	}
	for _, c := range []try{
		{redis, "web", "SET a b|GET a|DEL a|MULTI|EXEC|WATCH a|WAIT 1 1|INFO replication|ROLE|EVAL x 0|EVALSHA x 0|SCAN 0|SORT a|XADD s * f v|TIME|" +
			"PUBLISH news x|PUBLISH _x x|SUBSCRIBE news|SUBSCRIBE __sentinel__:hello|PSUBSCRIBE *|PSUBSCRIBE news.*|CLIENT SETNAME x|CLIENT TRACKING on|HELLO 3|DBSIZE|EXPIRE a 1|SELECT 1", true},
		{redis, "web", "PUBLISH __sentinel__:hello x|SPUBLISH __sentinel__:hello x|CONFIG GET *|CONFIG SET save x|REPLICAOF no one|SLAVEOF no one|FLUSHALL|FLUSHDB|KEYS *|SHUTDOWN|DEBUG SLEEP 1|" +
			"CLIENT PAUSE 1|CLIENT LIST|ACL LIST|ACL SETUSER x|MONITOR|SAVE|BGREWRITEAOF|FAILOVER|PSYNC x 1|REPLCONF x 1|MIGRATE h 1 a 0 1|MODULE LIST|SWAPDB 0 1", false},
		{redis, "replication", "PSYNC ? -1|REPLCONF ack 1|PING", true},
		{redis, "replication", "GET a|SET a b|INFO|REPLICAOF no one|PUBLISH __sentinel__:hello x", false},
		{redis, "sentinel", "REPLICAOF no one|SLAVEOF no one|CONFIG REWRITE|ROLE|INFO|PUBLISH __sentinel__:hello x|SUBSCRIBE __sentinel__:hello|CLIENT KILL TYPE normal|CLIENT SETNAME x|MULTI|EXEC|PING", true},
		{redis, "sentinel", "GET a|SET a b|CONFIG GET *|CONFIG SET save x|PUBLISH news x|FLUSHALL|SHUTDOWN", false},
		{redis, "balancer", "PING|ROLE|INFO replication", true},
		{redis, "balancer", "GET a|CONFIG GET *|PUBLISH news x|REPLICAOF no one", false},
		{sentinel, "web", "PING|ROLE|INFO|HELLO 3|CLIENT SETNAME x|SENTINEL GET-MASTER-ADDR-BY-NAME x|SENTINEL MASTER x|SENTINEL MASTERS|SENTINEL REPLICAS x|SENTINEL SENTINELS x|SENTINEL CKQUORUM x|SUBSCRIBE +switch-master|PSUBSCRIBE *", true},
		{sentinel, "web", "SENTINEL FAILOVER x|SENTINEL REMOVE x|SENTINEL SET x quorum 1|SENTINEL MONITOR x 127.0.0.1 1 1|SENTINEL RESET *|SENTINEL CONFIG GET *|PUBLISH __sentinel__:hello x|SHUTDOWN|ACL LIST|CLIENT KILL TYPE normal", false},
		{sentinel, "sentinel", "PING|SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *|PUBLISH __sentinel__:hello x|CLIENT SETNAME x", true},
		{sentinel, "sentinel", "SENTINEL FAILOVER x|SENTINEL MASTERS|SHUTDOWN|ACL LIST", false},
	} {
		for command := range strings.SplitSeq(c.commands, "|") {
			out, err := operator(c.address, append([]string{"ACL", "DRYRUN", c.user}, strings.Fields(command)...)...)
			if err != nil {
				t.Errorf("%s: %s: %v", c.user, command, err)
			} else if (out == "OK") != c.allowed {
				t.Errorf("%s at %s: %s: %s", c.user, c.address, command, out)
			}
		}
	}
	// In earnest, also by way of a script.
	for _, command := range [][]string{
		{"PUBLISH", "__sentinel__:hello", "x"},
		{"EVAL", "return redis.call('publish', '__sentinel__:hello', 'x')", "0"},
		{"EVAL", "return redis.call('flushall')", "0"},
	} {
		if out, err := c.web("redis-1", command...); err == nil {
			t.Errorf("web may %v: %s", command, out)
		}
	}
}

// flaky serves an application's node on a port of its own; while dies is set
// it drops each request without an answer after it got it. It keeps what it
// was asked.
type flaky struct {
	dies atomic.Bool
	mu   sync.Mutex
	seen []*http.Request
}

func (f *flaky) serve(t *testing.T) int {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/healthz/") {
			return
		}
		f.mu.Lock()
		f.seen = append(f.seen, r)
		f.mu.Unlock()
		io.Copy(io.Discard, r.Body)
		if f.dies.Load() {
			panic(http.ErrAbortHandler)
		}
		if d, err := time.ParseDuration(r.URL.Query().Get("sleep")); err == nil {
			time.Sleep(d)
		}
		fmt.Fprint(w, "answered")
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).Port
}

func (f *flaky) take() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

// httpStack is a stack without Redis, on a free entry port, with the two
// kinds of application whose requests are sent again.
func httpStack(t *testing.T) stack.Stack {
	s := base()
	s.Entry.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
	s.Redis = stack.Redis{}
	other := kv()
	other.KV, other.Command = nil, []string{"x"}
	s.Apps["other"] = other
	s.Routes = []stack.Route{
		{PathPrefix: []string{"/other"}, App: "other"},
		{PathSuffix: []string{".OTHER"}, Host: []string{"Other.Example"}, App: "other"},
		{App: "web"},
	}
	return s
}

func TestARequestIsSentAgainOnlyWhereThatIsSafe(t *testing.T) {
	good, bad := &flaky{}, &flaky{}
	bad.dies.Store(true)
	goodPort, badPort := good.serve(t), bad.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{
		"web-1": badPort, "web-2": goodPort, "other-1": badPort, "other-2": goodPort,
	})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	good.take()
	bad.take()

	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		for range 4 { // each node has its turn
			if err := c.request(method, "/set?key=a", "value", nil).is(200); err != nil {
				t.Errorf("web: %s: %v", method, err)
			}
		}
	}
	// Both tries of a request have the same key, and no two requests do.
	keys := map[string]int{}
	for _, r := range append(good.take(), bad.take()...) {
		keys[r.Header.Get("Idempotency-Key")]++
	}
	twice := 0
	for key, n := range keys {
		if len(key) < 36 || n > 2 {
			t.Errorf("%d requests with key %q", n, key)
		}
		if n == 2 {
			twice++
		}
	}
	if len(keys) != 16 || twice == 0 {
		t.Errorf("%d keys of which %d were sent twice; want 16 and some", len(keys), twice)
	}
	// The client's own key stays.
	if err := c.request("GET", "/", "", map[string]string{"Idempotency-Key": "mine"}).is(200); err != nil {
		t.Error(err)
	}
	for _, r := range append(good.take(), bad.take()...) {
		if keys := r.Header.Values("Idempotency-Key"); len(keys) != 1 || keys[0] != "mine" {
			t.Errorf("keys %q, want the client's", keys)
		}
	}

	for range 4 {
		if err := c.get("/other").is(200); err != nil {
			t.Errorf("other: GET: %v", err)
		}
	}
	for _, r := range append(good.take(), bad.take()...) {
		if r.Header.Get("Idempotency-Key") != "" {
			t.Error("a user's program was given an Idempotency-Key")
		}
	}
	failed := 0
	for range 4 {
		if c.request("POST", "/other", "x", nil).is(200) != nil {
			failed++
		}
	}
	if tries := len(good.take()) + len(bad.take()); tries != 4 || failed == 0 {
		t.Errorf("4 POSTs to a user's program were tried %d times, %d failed; want 4 tries and some failures", tries, failed)
	}
}

func TestRoutesIgnoreCaseAndHostsNarrowThem(t *testing.T) {
	web, other := &flaky{}, &flaky{}
	webPort, otherPort := web.serve(t), other.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{
		"web-1": webPort, "web-2": webPort, "other-1": otherPort, "other-2": otherPort,
	})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	for _, try := range []struct {
		path, host string
		want       *flaky
	}{
		{"/", "", web},
		{"/other/x", "", other},
		{"/OTHER", "", other},
		{"/x.other", "", web},
		{"/x.other", "other.example", other},
		{"/x.other", "OTHER.example:8080", other},
		{"/x.other", "not-other.example", web},
		{"/x", "other.example", web},
		{"/web-applications", "", web},
	} {
		web.take()
		other.take()
		header := map[string]string{}
		if try.host != "" {
			header["Host"] = try.host
		}
		if err := c.request("GET", try.path, "", header).is(200); err != nil {
			t.Error(err)
		}
		if len(try.want.take()) != 1 {
			t.Errorf("%s of host %q went elsewhere", try.path, try.host)
		}
	}
	for _, path := range []string{"/web-app", "/web-app;csv", "/web-app?x=1"} {
		if r := c.get(path); r.is(200) != nil || !strings.Contains(r.body, "entry.statistics") {
			t.Errorf("%s is not the statistics page: %v", path, r.is(200))
		}
	}
}

func TestAStoppingBalancerAnswersWhatIsInFlight(t *testing.T) {
	web := &flaky{}
	port := web.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{"web-1": port, "web-2": port, "other-1": port, "other-2": port})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })
	// A client that idles on its connection while the balancer stops.
	idle := &http.Client{Transport: &http.Transport{}}
	ask := func() (*http.Response, error) {
		r, err := idle.Get(c.plan.EntryURL + "/idle")
		if err == nil {
			io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
		return r, err
	}
	if _, err := ask(); err != nil {
		t.Fatal(err)
	}

	web.take()
	slow := make(chan error, 1)
	go func() { slow <- c.get("/slow?sleep=1s").is(200) }()
	eventually(t, 5*time.Second, func() error {
		if len(web.take()) == 0 {
			return errors.New("the slow request has not arrived")
		}
		return nil
	})
	p, cmd := c.process("balancer-1"), c.running["balancer-1"]
	begun := time.Now()
	if err := cmd.Process.Signal(unix.SignalNum(p.StopSignal)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() error {
		conn, err := net.Dial("tcp", p.Address)
		if err == nil {
			conn.Close()
			return errors.New("it still listens")
		}
		return nil
	})
	if r, err := ask(); err != nil {
		t.Errorf("the idle client's next request: %v", err)
	} else if !r.Close {
		t.Error("the idle client was not told that its connection ends")
	}
	if err := <-slow; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(p.Grace - time.Since(begun)):
		t.Errorf("it did not end within %v", p.Grace)
	}
	t.Logf("it ended after %v", time.Since(begun))
}

func TestBalancersShareTheEntry(t *testing.T) {
	web := &flaky{}
	port := web.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{"web-1": port, "web-2": port, "other-1": port, "other-2": port})
	c.start("balancer-1")
	c.start("balancer-2")
	nodes := func() map[string]bool {
		seen := map[string]bool{}
		for range 40 {
			r := c.get("/web-app")
			for _, n := range []string{"balancer-1", "balancer-2"} {
				if strings.Contains(r.body, n) {
					seen[n] = true
				}
			}
		}
		return seen
	}
	eventually(t, 5*time.Second, func() error {
		if seen := nodes(); len(seen) != 2 {
			return fmt.Errorf("only %v answer", seen)
		}
		return nil
	})
	c.kill("balancer-1") // the master; its worker follows it
	eventually(t, 5*time.Second, func() error {
		if seen := nodes(); !seen["balancer-2"] || len(seen) != 1 {
			return fmt.Errorf("%v answer", seen)
		}
		return nil
	})
}

type response struct {
	status int
	body   string
	err    error
}

func (r response) is(status int) error {
	if r.err != nil {
		return r.err
	}
	if r.status != status {
		return fmt.Errorf("status %d, want %d: %s", r.status, status, r.body)
	}
	return nil
}

func (c *cluster) get(path string) response { return c.request("GET", path, "", nil) }

// request asks the entry over a connection of its own.
func (c *cluster) request(method, path, body string, header map[string]string) response {
	r, err := http.NewRequest(method, c.plan.EntryURL+path, strings.NewReader(body))
	if err != nil {
		return response{err: err}
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	r.Host = header["Host"]
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	answer, err := client.Do(r)
	if err != nil {
		return response{err: err}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return response{status: answer.StatusCode, body: string(text), err: err}
}
