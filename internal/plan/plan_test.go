package plan

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/stack"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// base is a stack of two web nodes on Redis with two replicas and three
// Sentinels, two balancers before them.
func base() stack.Stack {
	return stack.Stack{
		Name:      "holdfast",
		Entry:     stack.Entry{Listen: "127.0.0.1:6301", Statistics: "/web-app", Limits: stack.Limits{Connections: 3000}},
		Balancers: 2,
		Apps:      map[string]stack.App{"web": kv()},
		Routes:    []stack.Route{{App: "web"}},
		Redis: stack.Redis{
			Enabled: true, Replicas: 2, Sentinels: 3,
			MemoryPolicy: "noeviction", Fsync: "everysec", Save: []string{"900 1", "300 10", "60 10000"},
			DownAfter: 500 * time.Millisecond, FailoverTimeout: 5 * time.Second,
		},
		Timeouts: stack.Timeouts{
			HTTPRequest: 10 * time.Second, Queue: time.Minute, Connect: 5 * time.Second,
			Client: time.Minute, Server: time.Minute, HTTPKeepAlive: 10 * time.Second, Check: 2 * time.Second,
		},
		Retries: 3,
	}
}

func kv() stack.App {
	return stack.App{
		KV: &stack.KVApp{}, Nodes: 2, Grace: 10 * time.Second,
		Health: stack.Health{Path: "/healthz/ready", Interval: time.Second, Rise: 2, Fall: 3},
	}
}

var portCheck = stack.Health{Interval: 2 * time.Second, Rise: 2, Fall: 5}

// stacks are the stacks of the golden files.
func stacks() map[string]stack.Stack {
	all := map[string]stack.Stack{"default": base()}

	s := base()
	s.Name = "shop"
	s.Entry.Listen = "0.0.0.0:8080"
	s.Apps["static"] = stack.App{Files: "public", Nodes: 1, Ports: []int{4331}, Grace: 5 * time.Second, Health: portCheck}
	s.Apps["api"] = stack.App{
		Command: []string{"./bin/api", "--listen", "$HOST:$PORT"}, Nodes: 2, Dir: "api",
		Env: map[string]string{"LOG_LEVEL": "info"}, StopSignal: "SIGINT", Grace: 20 * time.Second,
		Connections: 100, Queue: 50, Sticky: "SRV",
		Health: stack.Health{Path: "/health", Interval: 2 * time.Second, Rise: 2, Fall: 5},
	}
	s.Apps["legacy"] = stack.App{Servers: []string{"192.0.2.1:5000", "192.0.2.2:5000"}, Health: portCheck}
	s.Routes = []stack.Route{
		{PathPrefix: []string{"/static", "/images", "/javascript", "/stylesheets"}, PathSuffix: []string{".jpg", ".gif", ".png", ".css", ".js"}, App: "static"},
		{PathPrefix: []string{"/api"}, App: "api"},
		{Host: []string{"old.example.com"}, App: "legacy"},
		{App: "web"},
	}
	s.TCP = []stack.TCPEntry{{Listen: "127.0.0.1:8081", Mode: "tcp", App: "api"}}
	s.Redis.Memory, s.Redis.MemoryPolicy = 64<<20, "allkeys-lru"
	all["everything"] = s

	s = base()
	s.Apps = map[string]stack.App{"webapp": {Servers: []string{"127.0.0.1:5000", "[::1]:5000"}, Health: portCheck}}
	s.Routes = []stack.Route{{App: "webapp"}}
	s.Redis = stack.Redis{}
	s.Balancers = 1
	all["servers"] = s

	s = base()
	s.Entry.Statistics = ""
	s.Redis.Replicas, s.Redis.Sentinels, s.Redis.Save = 0, 0, nil
	all["alone"] = s

	s = base()
	s.Entry.Listen = "[::1]:8080"
	s.Apps = map[string]stack.App{
		"one": {Servers: []string{"127.0.0.1:7001"}, Sticky: "ONE", Health: stack.Health{Path: "/a b?c='d'", Interval: 200 * time.Millisecond, Rise: 1, Fall: 1}},
		"two": {Command: []string{"python3", "-m", "http.server", "$PORT"}, Nodes: 1, Grace: time.Second, Health: portCheck},
		"raw": {Servers: []string{"127.0.0.1:7003"}, Sticky: "RAW", Health: portCheck},
	}
	s.Routes = []stack.Route{
		{Host: []string{"one.example.com", "one.example.org"}, PathSuffix: []string{"-one", ".x y"}, App: "one"},
		{PathPrefix: []string{"/it's"}, App: "two"},
	}
	s.TCP = []stack.TCPEntry{{Listen: ":9001", Mode: "tcp", App: "raw"}, {Listen: "127.0.0.1:9002", Mode: "tcp", App: "one"}}
	s.Redis = stack.Redis{}
	all["layer4"] = s
	return all
}

// machine is a machine with a port for every need.
func machine(s stack.Stack, dir string, secrets Secrets) Machine {
	m := Machine{StateDir: dir, BaseDir: "/srv/shop", Ports: map[string]int{}, Secrets: secrets}
	for i, need := range Needs(s) {
		m.Ports[need.Node] = max(need.Fixed, need.Preferred)
		if m.Ports[need.Node] == 0 {
			m.Ports[need.Node] = 7101 + i
		}
	}
	return m
}

func mustMake(t *testing.T, s stack.Stack, m Machine) Plan {
	t.Helper()
	p, err := Make(s, m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustSecrets(t *testing.T, s stack.Stack) Secrets {
	t.Helper()
	secrets, err := NewSecrets(rand.NewChaCha8([32]byte{}), s)
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}

// shortDir is a directory whose path leaves room for a unix socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "holdfast")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// write carries the plan's directories and files out.
func write(t *testing.T, dir string, p Plan) {
	t.Helper()
	for _, h := range p.Hosts {
		for _, d := range h.Dirs {
			if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range h.Files {
			if err := os.WriteFile(filepath.Join(dir, f.Path), []byte(f.Content), os.FileMode(f.Mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/", "/opt/homebrew/bin/"} {
			if _, err := os.Stat(dir + name); err == nil {
				return dir + name
			}
		}
		t.Fatalf("this test needs %s: %v (scripts/setup installs it)", name, err)
	}
	return path
}

func TestPlansAreTheGoldenOnes(t *testing.T) {
	for name, s := range stacks() {
		t.Run(name, func(t *testing.T) {
			got := mustMake(t, s, machine(s, "/var/lib/holdfast", Placeholders(s))).Text()
			path := filepath.Join("testdata", "golden", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the plan is not %s any more; look at the difference after: go test ./internal/plan -update\n%s", path, firstDifference(string(want), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\n-%s\n+%s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, were %d", len(g), len(w))
}

func TestHAProxyAcceptsEveryConfigurationWithoutAWarning(t *testing.T) {
	haproxy := program(t, "haproxy")
	for name, s := range stacks() {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shortDir(t), "with a 'space")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			m := machine(s, dir, mustSecrets(t, s))
			if os.Getuid() == 0 {
				m.HAProxyUser = "nobody"
				if _, err := exec.Command("getent", "group", "nobody").Output(); err != nil {
					m.HAProxyUser = "daemon"
				}
			}
			p := mustMake(t, s, m)
			write(t, dir, p)
			for _, process := range p.Hosts[0].Processes {
				if process.Kind != Balancer {
					continue
				}
				out, err := exec.Command(haproxy, append([]string{"-c"}, process.Args...)...).CombinedOutput()
				if err != nil || bytes.Contains(out, []byte("WARNING")) || bytes.Contains(out, []byte("arnings")) {
					t.Errorf("%s: %v\n%s", process.Node, err, out)
				}
			}
		})
	}
}

func TestNeedsListsEveryPortOnce(t *testing.T) {
	s := base()
	s.Apps["api"] = stack.App{Command: []string{"x"}, Nodes: 2, Ports: []int{0, 9002}}
	s.Apps["away"] = stack.App{Servers: []string{"192.0.2.1:80"}}
	s.Redis.Ports = []int{6379}
	s.Redis.SentinelPorts = []int{26379, 26380}
	want := []PortNeed{
		{"sentinel-1", 26379, 0}, {"sentinel-2", 26380, 0}, {"sentinel-3", 0, 0},
		{"redis-1", 6379, 0}, {"redis-2", 0, 0}, {"redis-3", 0, 0},
		{"api-1", 0, 0}, {"api-2", 9002, 0},
		{"web-1", 0, 5001}, {"web-2", 0, 5002},
		{"redis-master", 0, 0},
	}
	if got := Needs(s); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestProcessesStartInOrder(t *testing.T) {
	s := stacks()["everything"]
	p := mustMake(t, s, machine(s, "/state", Placeholders(s)))
	var got []string
	for _, process := range p.Hosts[0].Processes {
		got = append(got, fmt.Sprint(process.Stage, " ", process.Node))
	}
	want := []string{
		"1 sentinel-1", "1 sentinel-2", "1 sentinel-3",
		"2 redis-1", "2 redis-2", "2 redis-3",
		"3 static-1", "3 web-1", "3 web-2",
		"4 balancer-1", "4 balancer-2",
		"5 api-1", "5 api-2",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAProgramWithoutRedisDoesNotWaitForTheBalancers(t *testing.T) {
	s := stacks()["layer4"]
	p := mustMake(t, s, machine(s, "/state", Secrets{}))
	for _, process := range p.Hosts[0].Processes {
		if process.Node == "two-1" && process.Stage != stageApp {
			t.Errorf("two-1 starts in stage %d", process.Stage)
		}
		for _, v := range process.Env {
			if strings.HasPrefix(v, "REDIS_") {
				t.Errorf("%s is told of a Redis that is not there: %s", process.Node, v)
			}
		}
	}
}

func TestAPlanThatCannotWorkIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*stack.Stack, *Machine)
		want   string
	}{
		"a state directory too deep": {func(s *stack.Stack, m *Machine) { m.StateDir = "/" + strings.Repeat("d", 70) }, "choose a shorter one with --state"},
		"a relative one":             {func(s *stack.Stack, m *Machine) { m.StateDir = "state" }, "not an absolute path"},
		"one with a pattern in it":   {func(s *stack.Stack, m *Machine) { m.StateDir = "/a*b" }, "has a character"},
		"a node without a port":      {func(s *stack.Stack, m *Machine) { delete(m.Ports, "web-2") }, "no port was chosen for web-2"},
		"no password":                {func(s *stack.Stack, m *Machine) { m.Secrets.Balancer = "" }, "no password for balancer"},
		"no run id":                  {func(s *stack.Stack, m *Machine) { delete(m.Secrets.SentinelIDs, "sentinel-3") }, "no run id"},
		"an application called redis": {func(s *stack.Stack, m *Machine) {
			s.Apps["redis"] = kv()
		}, "may not be called redis"},
		"a line break": {func(s *stack.Stack, m *Machine) { s.Entry.Statistics = "/a\nb" }, "control character"},
	} {
		t.Run(name, func(t *testing.T) {
			s := base()
			m := machine(s, "/state", Placeholders(s))
			c.change(&s, &m)
			_, err := Make(s, m)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestTheLongestStateDirectoryWorks(t *testing.T) {
	s := base()
	dir := "/" + strings.Repeat("d", maxSocketPath-len("//nodes/balancer-1/haproxy.sock"))
	mustMake(t, s, machine(s, dir, Placeholders(s)))
	if _, err := Make(s, machine(s, dir+"d", Placeholders(s))); err == nil {
		t.Error("one byte more is accepted")
	}
}

func TestSecretsStayWhenTheStackGrows(t *testing.T) {
	s := base()
	old := mustSecrets(t, s)
	s.Redis.Sentinels = 5
	grown, err := old.Complete(rand.NewChaCha8([32]byte{1}), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(old.SentinelIDs) != 3 || len(grown.SentinelIDs) != 5 {
		t.Fatalf("%d and %d run ids, want 3 and 5", len(old.SentinelIDs), len(grown.SentinelIDs))
	}
	if len(grown.SentinelIDs["sentinel-5"]) != 40 || len(grown.Web) != 64 {
		t.Errorf("lengths: %d and %d", len(grown.SentinelIDs["sentinel-5"]), len(grown.Web))
	}
	for _, name := range []string{"sentinel-4", "sentinel-5"} {
		delete(grown.SentinelIDs, name)
	}
	if !reflect.DeepEqual(old, grown) {
		t.Error("what was there changed")
	}
	if _, err := NewSecrets(strings.NewReader("short"), s); err == nil {
		t.Error("a source that ran dry is no error")
	}
}

func TestNoSecretStandsOnACommandLineOrInAFileOthersRead(t *testing.T) {
	s := stacks()["everything"]
	secrets := mustSecrets(t, s)
	p := mustMake(t, s, machine(s, "/state", secrets))
	for _, process := range p.Hosts[0].Processes {
		for _, password := range secrets.passwords() {
			if strings.Contains(strings.Join(process.Args, " "), *password.value) {
				t.Errorf("%s has %s's password on its command line", process.Node, password.user)
			}
		}
	}
	for _, file := range p.Hosts[0].Files {
		if file.Mode != 0o600 {
			t.Errorf("%s has mode %o", file.Path, file.Mode)
		}
	}
}

func TestEntryURLIsOneThatAClientCanUse(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:6301": "http://127.0.0.1:6301",
		"0.0.0.0:6301":   "http://127.0.0.1:6301",
		"*:6301":         "http://127.0.0.1:6301",
		":6301":          "http://127.0.0.1:6301",
		"[::]:6301":      "http://[::1]:6301",
		"localhost:6301": "http://localhost:6301",
	} {
		if got := entryURL(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}
