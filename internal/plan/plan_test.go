package plan

import (
	"bytes"
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

	"holdfast/internal/certificate"
	"holdfast/internal/goldentest"
	"holdfast/internal/stack"
	"runtime"
)

// base returns the default stack: two web nodes on Redis with two replicas and three Sentinels,
// behind two balancers.
func base() stack.Stack { return stack.Default() }

// stacks returns the stacks of the golden files, testdata/stacks.
func stacks(t *testing.T) map[string]stack.Stack {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "stacks", "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stack files: %v", err)
	}
	all := map[string]stack.Stack{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := stack.Parse(path, text)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".yaml")] = s
	}
	return all
}

// known is what Make needs to know where all hosts are on one machine.
type known struct {
	Facts
	HostFacts
}

// machine returns a machine with a port for every need.
func machine(s stack.Stack, dir string, secrets Secrets) known {
	m := known{
		Facts{Ports: map[string]int{}, Secrets: secrets},
		HostFacts{StateDir: dir, BaseDir: "/srv/shop", Cores: 4, Names: []string{"machine.example"}},
	}
	for i, need := range Needs(s) {
		m.Ports[need.Node] = max(need.Fixed, need.Preferred)
		if m.Ports[need.Node] == 0 {
			m.Ports[need.Node] = 7101 + i
		}
	}
	return m
}

func (k known) make(s stack.Stack) (Plan, error) { return Make(s, k.Facts, k.Everywhere(k.HostFacts)) }

func mustMake(t *testing.T, s stack.Stack, m known) Plan {
	t.Helper()
	p, err := m.make(s)
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

// shortDir returns a directory whose path is short enough for the path of a unix socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "holdfast")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// write creates the plan's directories and files.
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
	for name, s := range stacks(t) {
		t.Run(name, func(t *testing.T) {
			m := machine(s, "/var/lib/holdfast", Placeholders(s))
			got := mustMake(t, s, m).Text()
			goldentest.Check(t, filepath.Join("testdata", "golden", name+".txt"), got)
		})
	}
}

func TestHAProxyAcceptsEveryConfigurationWithoutAWarning(t *testing.T) {
	haproxy := program(t, "haproxy")
	for name, s := range stacks(t) {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(shortDir(t), "with a 'space")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			m := machine(s, dir, mustSecrets(t, s))
			m.HAProxyUser = haproxyUser()
			m.Cores = min(m.Cores, runtime.NumCPU()) // HAProxy 3.0 warns of more threads than processors
			p := mustMake(t, s, m)
			write(t, dir, p)
			if len(s.CertificateEntries()) > 0 {
				writeCertificate(t, dir, s)
			}
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

// writeCertificate writes the certificate files of the balancers of a host.
func writeCertificate(t *testing.T, dir string, s stack.Stack) {
	t.Helper()
	pair, err := certificate.SelfSigned([]string{"www.example.com"}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{CertificatesDir + "/one.pem": pair.PEM}
	for _, entry := range s.CertificateEntries() {
		files[CertificateListOf(entry.Listen)] = []byte("one.pem\n")
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
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
		{"web-1.admin", 0, 0}, {"web-2.admin", 0, 0},
		{"metrics", 0, 0},
	}
	if got := Needs(s); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestProcessesStartInOrder(t *testing.T) {
	s := stacks(t)["everything"]
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
	s := stacks(t)["layer4"]
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

func TestWithoutSentinelsRedisIsReachedBeforeTheBalancersRun(t *testing.T) {
	s := base()
	s.Apps["api"] = stack.App{Command: []string{"x"}, Nodes: 1}
	s.Redis.Sentinels = 0
	m := machine(s, "/state", Placeholders(s))
	users := map[string]string{"api": "app-api", "web": "web"}
	for _, process := range mustMake(t, s, m).Hosts[0].Processes {
		if process.Kind != Web {
			continue
		}
		user := users[process.App]
		want := fmt.Sprintf("REDIS_URL=redis://%s:<secret:%[1]s>@127.0.0.1:%d/0", user, m.Ports["redis-1"])
		if process.Stage != stageApp || !slices.Contains(process.Env, want) {
			t.Errorf("%s: stage %d, %v; want %s", process.Node, process.Stage, process.Env, want)
		}
		if !slices.Contains(process.Env, "REDIS_SENTINELS=") || !slices.Contains(process.Env, "REDIS_MASTER_NAME=") {
			t.Errorf("%s would take Sentinels from the supervisor's environment: %v", process.Node, process.Env)
		}
	}
}

func TestAFloodOfOneEntryLeavesTheOthersTheirConnections(t *testing.T) {
	s := base()
	s.Entry.Limits.Connections = 100
	s.TCP = []stack.TCPEntry{{Listen: "127.0.0.1:9001", Mode: "tcp", App: "web"}}
	for _, file := range mustMake(t, s, machine(s, "/state", Placeholders(s))).Hosts[0].Files {
		if !strings.HasSuffix(file.Path, "haproxy.cfg") {
			continue
		}
		// HAProxy's own limit covers the entry, the layer 4 entry and Redis.
		if want := fmt.Sprintf("\n    maxconn %d\n", 100+100+redisConnections); !strings.Contains(file.Content, want) {
			t.Errorf("%s: no line %q", file.Path, want)
		}
		if n := strings.Count(file.Content, "\n    maxconn 100\n"); n != 2 {
			t.Errorf("%s: %d entries have their own limit, want 2", file.Path, n)
		}
	}
}

func TestAPlanThatCannotWorkIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*stack.Stack, *known)
		want   string
	}{
		"a state directory too deep": {func(s *stack.Stack, m *known) { m.StateDir = "/" + strings.Repeat("d", 70) }, "choose a shorter one with --state"},
		"a relative one":             {func(s *stack.Stack, m *known) { m.StateDir = "state" }, "not an absolute path"},
		"one with a pattern in it":   {func(s *stack.Stack, m *known) { m.StateDir = "/a*b" }, "has a character"},
		"one with a variable in it":  {func(s *stack.Stack, m *known) { m.StateDir = "/a$b" }, "has a character"},
		"one with a comma in it":     {func(s *stack.Stack, m *known) { m.StateDir = "/a,b" }, "has a character"},
		"a node without a port":      {func(s *stack.Stack, m *known) { delete(m.Ports, "web-2") }, "no port was chosen for web-2"},
		"no password":                {func(s *stack.Stack, m *known) { m.Secrets.Balancer = "" }, "no password for balancer"},
		"no password of a program": {func(s *stack.Stack, m *known) {
			s.Apps["own"] = stack.App{Command: []string{"x"}, Nodes: 1}
			m.Ports["own-1"] = 7999
		}, "no password for app-own"},
		"no run id": {func(s *stack.Stack, m *known) { delete(m.Secrets.SentinelIDs, "sentinel-3") }, "no run id"},
		"an application called redis": {func(s *stack.Stack, m *known) {
			s.Apps["redis"] = s.Apps["web"]
		}, "may not be called redis"},
		"a line break": {func(s *stack.Stack, m *known) { s.Entry.Statistics = "/a\nb" }, "control character"},
	} {
		t.Run(name, func(t *testing.T) {
			s := base()
			m := machine(s, "/state", Placeholders(s))
			c.change(&s, &m)
			_, err := m.make(s)
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
	if _, err := machine(s, dir+"d", Placeholders(s)).make(s); err == nil {
		t.Error("one byte more is accepted")
	}
}

func TestSecretsStayWhenTheStackGrows(t *testing.T) {
	s := base()
	old := mustSecrets(t, s)
	s.Redis.Sentinels = 5
	s.Apps["own"] = stack.App{Command: []string{"x"}, Nodes: 1}
	s.Apps["other"] = stack.App{Command: []string{"x"}, Nodes: 1}
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
	if own, other := grown.Programs["own"], grown.Programs["other"]; len(own) != 64 || len(other) != 64 || own == other || len(old.Programs) != 0 {
		t.Errorf("passwords of programs: %q; before: %v", grown.Programs, old.Programs)
	}
	if again, err := grown.Complete(strings.NewReader(""), s); err != nil || !reflect.DeepEqual(again, grown) {
		t.Errorf("they are drawn again: %v, %v", again, err)
	}
	for _, name := range []string{"sentinel-4", "sentinel-5"} {
		delete(grown.SentinelIDs, name)
	}
	clear(grown.Programs)
	if !reflect.DeepEqual(old, grown) {
		t.Error("what was there changed")
	}
	if _, err := NewSecrets(strings.NewReader("short"), s); err == nil {
		t.Error("a source that ran dry is no error")
	}
}

func TestNoSecretStandsOnACommandLineOrInAFileOthersRead(t *testing.T) {
	s := stacks(t)["everything"]
	secrets := mustSecrets(t, s)
	p := mustMake(t, s, machine(s, "/state", secrets))
	for _, process := range p.Hosts[0].Processes {
		for _, password := range secrets.passwords() {
			if strings.Contains(strings.Join(process.Args, " "), *password.value) {
				t.Errorf("%s has %s's password on its command line", process.Node, password.user)
			}
		}
		for app, password := range secrets.Programs {
			if strings.Contains(strings.Join(process.Args, " "), password) {
				t.Errorf("%s has the password of app-%s on its command line", process.Node, app)
			}
		}
	}
	for _, file := range p.Hosts[0].Files {
		if file.Mode != 0o600 {
			t.Errorf("%s has mode %o", file.Path, file.Mode)
		}
	}
}

func TestTheEntryIsWhereAClientFindsIt(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:6301": "127.0.0.1:6301",
		"0.0.0.0:6301":   "127.0.0.1:6301",
		"*:6301":         "127.0.0.1:6301",
		":6301":          "127.0.0.1:6301",
		"[::]:6301":      "[::1]:6301",
		"localhost:6301": "localhost:6301",
	} {
		if got := entryHost(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}

func TestWordsAreQuotedWhereHAProxyNeedsIt(t *testing.T) {
	for word, want := range map[string]string{
		"/static": "/static",
		"/a b":    "'/a b'",
		"/it's":   `'/it'\''s'`,
		"a#b":     "'a#b'",
		`a\b`:     `'a\b'`,
		"${HOME}": "'${HOME}'",
		"":        "''",
	} {
		if got, err := haproxyQuote(word); got != want || err != nil {
			t.Errorf("%q: %s, %v; want %s", word, got, err, want)
		}
	}
	if got, err := haproxyList([]string{"-i", ".x"}); got != "-- -i .x" || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestTimesAreExact(t *testing.T) {
	for d, want := range map[time.Duration]string{
		500 * time.Millisecond: "500ms", 1500 * time.Millisecond: "1500ms",
		time.Second: "1s", 90 * time.Second: "90s", time.Minute: "1m", 24 * time.Hour: "24h",
	} {
		if got := haproxyDuration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
