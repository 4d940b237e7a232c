package stack

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"holdfast/internal/goldentest"
)

// archives runs a test on each NAME.yaml of the archives, and compares the result with NAME.txt.
func archives(t *testing.T, pattern string, say func(t *testing.T, name string, data []byte) string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no archives at %s (%v)", pattern, err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wants := map[string]string{}
		for _, f := range a.Files {
			wants[f.Name] = string(f.Data)
		}
		out := &txtar.Archive{Comment: a.Comment}
		for _, f := range a.Files {
			name, isYAML := strings.CutSuffix(f.Name, ".yaml")
			if !isYAML {
				continue
			}
			t.Run(name, func(t *testing.T) {
				got := say(t, f.Name, f.Data)
				out.Files = append(out.Files, f, txtar.File{Name: name + ".txt", Data: []byte(got)})
				if want := wants[name+".txt"]; got != want && !goldentest.Update() {
					t.Errorf("%s in %s:\n%s\ngot:\n%swant:\n%s", f.Name, path, f.Data, got, want)
				}
			})
		}
		if goldentest.Update() {
			if err := os.WriteFile(path, txtar.Format(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestABrokenFileNamesEveryMistake(t *testing.T) {
	archives(t, "testdata/broken/*.txtar", func(t *testing.T, name string, data []byte) string {
		s, warnings, err := Parse(name, data)
		var mistakes Mistakes
		if !errors.As(err, &mistakes) || len(mistakes) == 0 {
			t.Fatalf("Parse: error %v, want Mistakes", err)
		}
		if !reflect.DeepEqual(s, Stack{}) || warnings != nil {
			t.Errorf("a broken file still gives %v, %v", s, warnings)
		}
		line := 0
		for _, m := range mistakes {
			if m.Line < max(line, 1) || m.Column < 1 || m.File != name {
				t.Errorf("%+v is out of order or nowhere", m)
			}
			line = m.Line
		}
		return err.Error() + "\n"
	})
}

func TestAnOddFileWarns(t *testing.T) {
	archives(t, "testdata/warned/*.txtar", func(t *testing.T, name string, data []byte) string {
		_, warnings, err := Parse(name, data)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for _, w := range warnings {
			out.WriteString(w.Error() + "\n")
		}
		return out.String()
	})
}

func TestAFileThatIsNoTextIsRefused(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"not UTF-8", "name: a\nentry: \xff\n", "f:2:1: the line is not UTF-8: save the file as UTF-8 text"},
		{"too large", strings.Repeat("#", maxSize+1), "f: the file has 65537 bytes: a stack file has at most 65536"},
		{"too deep", strings.Repeat("- ", 1000), "f:1:1: the line is indented too deeply: a stack file needs no more than 320 columns"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := Parse("f", []byte(c.data)); err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestAnEmptyFileIsTheDefaultStack(t *testing.T) {
	for _, data := range []string{
		"", "\n", "# nothing\n", "---\n", "---\n# nothing\n", "{}\n", "~\n", "\ufeff", "\ufeff# nothing\n",
		"apps:\nredis:\nentry:\n  # listen: 127.0.0.1:80\ntimeouts:\nroutes:\ntcp:\n",
		"%YAML 1.2\n---\nname: holdfast\n",
		"name: holdfast\n...\n",
		"\ufeffname: holdfast\r\nbalancers: 2\r\n",
	} {
		s, warnings, err := Parse("f", []byte(data))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%q: %v %v", data, warnings, err)
		}
		if !reflect.DeepEqual(s, Default()) {
			t.Errorf("%q gives\n%s", data, s.Show())
		}
	}
}

func TestTheDefaultStackIsTheDocumentedOne(t *testing.T) {
	got := Default()
	defaultKV := &KVApp{
		Reads: "master", MaxLag: time.Second, Writes: "in-sync", Scripts: "on", Hold: 5 * time.Second, Remember: 30 * time.Second,
		Limits: KVLimits{Body: 10 << 20, Answer: 64 << 20, Key: 64 << 10, Pipeline: 10000, Connections: 16384, Streams: 4000},
		Admin:  true,
	}
	want := Stack{
		Name:      "holdfast",
		Entry:     Entry{Listen: "127.0.0.1:6301", Statistics: "/web-app", Log: "errors", Limits: Limits{Connections: 8000}},
		Balancers: 2,
		Apps: map[string]App{"web": {
			KV: defaultKV, Nodes: 2, StopSignal: "SIGTERM", Grace: 10 * time.Second, Connections: 64,
			Health: Health{Path: "/healthz/ready", Host: "localhost", Interval: 500 * time.Millisecond, Rise: 2, Fall: 2, Start: 15 * time.Second},
		}},
		Routes: []Route{{App: "web"}},
		Redis: Redis{
			Enabled: true, Server: ServerAuto, Replicas: 2, Sentinels: 3, MemoryPolicy: "noeviction", Fsync: "everysec",
			Save:      []string{"900 1", "300 10", "60 10000"},
			DownAfter: 500 * time.Millisecond, FailoverTimeout: 2 * time.Second,
		},
		Metrics: Metrics{Enabled: true},
		Timeouts: Timeouts{
			HTTPRequest: 10 * time.Second, Queue: time.Minute, Connect: 2 * time.Second, Client: time.Minute,
			Server: time.Minute,
			Tunnel: time.Hour, HTTPKeepAlive: 10 * time.Second, Check: 2 * time.Second, HardStop: 90 * time.Second,
		},
		Retries: 3,
		Rollout: Rollout{Parallel: 1, Settle: 3 * time.Second},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// parsed parses a file without mistakes.
func parsed(t *testing.T, data string) Stack {
	t.Helper()
	s, _, err := Parse("f", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEachKindHasItsDefaults(t *testing.T) {
	s := parsed(t, `
apps:
  kv: {kv: {}}
  files: {files: ./public}
  command: {command: [./web, 5]}
  servers: {servers: 127.0.0.1:5001}
routes: [{app: kv}]
`)
	fast := func(path string, start time.Duration) Health {
		return Health{path, "localhost", 500 * time.Millisecond, 2, 2, start}
	}
	want := map[string]App{
		"kv":      {KV: newKV(), Nodes: 2, StopSignal: "SIGTERM", Grace: 10 * time.Second, Connections: 64, Health: fast("/healthz/ready", 15*time.Second)},
		"files":   {Files: "./public", Nodes: 1, StopSignal: "SIGTERM", Grace: 10 * time.Second, Health: fast("/healthz/live", 15*time.Second)},
		"command": {Command: []string{"./web", "5"}, Nodes: 2, StopSignal: "SIGTERM", Grace: 10 * time.Second, Health: fast("/", 30*time.Second)},
		"servers": {Servers: []string{"127.0.0.1:5001"}, Health: Health{"", "localhost", 2 * time.Second, 2, 5, 0}},
	}
	if !reflect.DeepEqual(s.Apps, want) {
		t.Errorf("got %+v\nwant %+v", s.Apps, want)
	}
}

func TestAWebNodeHasALimitUnlessRequestsMayLast(t *testing.T) {
	for file, want := range map[string]int{
		`apps: {web: {kv: {}}}`:                                                               64,
		`apps: {web: {kv: {}, connections: 0}}`:                                               0,
		`apps: {web: {kv: {}, connections: 500}}`:                                             500,
		`{balancers: 40, apps: {web: {kv: {}}}}`:                                              64,
		`{balancers: 64, apps: {web: {kv: {}}}, tcp: [{listen: "127.0.0.1:9001", app: web}]}`: 128,
		`apps: {web: {kv: {hold: 10s}}}`:                                                      64,
		`apps: {web: {kv: {hold: 11s}}}`:                                                      0,
		`apps: {web: {kv: {reads: cached}}}`:                                                  0,
		`apps: {web: {kv: {reads: replica}}}`:                                                 0,
		`apps: {web: {kv: {allow: [keys, flushall]}}}`:                                        64,
		`apps: {web: {kv: {allow: [keys, blpop]}}}`:                                           0,
		`apps: {web: {kv: {allow: ["@blocking"]}}}`:                                           0,
		`apps: {web: {kv: {allow: ["@blocking"]}, connections: 10}}`:                          10,
	} {
		if got := parsed(t, file).Apps["web"].Connections; got != want {
			t.Errorf("%s: %d connections, want %d", file, got, want)
		}
	}
}

func TestWhatTheFileHasIsNotDefaulted(t *testing.T) {
	for _, c := range []struct {
		name, data string
		got        func(Stack) any
		want       any
	}{
		{"statistics off", `entry: {statistics: ""}`, func(s Stack) any { return s.Entry.Statistics }, ""},
		{"statistics none", `entry: {statistics: none}`, func(s Stack) any { return s.Entry.Statistics }, ""},
		{"statistics elsewhere", `entry: {statistics: /stats}`, func(s Stack) any { return s.Entry.Statistics }, "/stats"},
		{"no health path", `apps: {web: {kv: {}, health: {path: none}}}`, func(s Stack) any { return s.Apps["web"].Health.Path }, ""},
		{"no snapshots", `redis: {save: []}`, func(s Stack) any { return len(s.Redis.Save) }, 0},
		{"no grace", `apps: {web: {kv: {}, grace: 0s}}`, func(s Stack) any { return s.Apps["web"].Grace }, time.Duration(0)},
		{"no retries", `retries: 0`, func(s Stack) any { return s.Retries }, 0},
		{"kv without a value", "apps:\n  web:\n    kv:\n", func(s Stack) any { return s.Apps["web"].Kind() }, KV},
		{"kv: true", `apps: {web: {kv: true}}`, func(s Stack) any { return s.Apps["web"].Kind() }, KV},
		{"kv: remember follows hold", `apps: {web: {kv: {hold: 20s}}}`, func(s Stack) any { return s.Apps["web"].KV.Remember }, 45 * time.Second},
		{"kv: a long memory", `apps: {web: {kv: {remember: 24h}}}`, func(s Stack) any { return s.Apps["web"].KV.Remember }, 24 * time.Hour},
		{"kv: no admin port", `apps: {web: {kv: {admin: false}}}`, func(s Stack) any { return s.Apps["web"].KV.Admin }, false},
		{"kv: small body", `apps: {web: {kv: {limits: {body: 64KB, key: 512}}}}`, func(s Stack) any { return s.Apps["web"].KV.Limits },
			KVLimits{Body: 64 << 10, Answer: 64 << 20, Key: 512, Pipeline: 10000, Connections: 16384, Streams: 4000}},
		{"streams of all nodes leave half of the entry", `{entry: {limits: {connections: 600}}, balancers: 1, apps: {web: {kv: {}, nodes: 3}}}`,
			func(s Stack) any { return s.Apps["web"].KV.Limits.Streams }, 100},
		{"entries share what a balancer takes", `{apps: {web: {kv: {}}}, routes: [{app: web}], tcp: [{listen: "127.0.0.1:1", app: web}]}`,
			func(s Stack) any { return s.Entry.Limits.Connections }, 4000},
		{"kv: every request logged", `apps: {web: {kv: {access-log: 1}}}`, func(s Stack) any { return s.Apps["web"].KV.AccessLog }, 1.0},
		{"kv: allowed commands", `apps: {web: {kv: {allow: [blpop, keys, "config|get", keys]}}}`, func(s Stack) any {
			return [][]string{s.Apps["web"].KV.AllowedCommands(), s.Apps["web"].KV.DangerousCommands()}
		}, [][]string{{"blpop", "config|get", "keys"}, {"config|get", "keys"}}},
		{"open with tokens", `{entry: {listen: "0.0.0.0:80"}, apps: {web: {kv: {tokens-file: t.yaml}}}}`, func(s Stack) any { return s.Apps["web"].KV.HasTokens() }, true},
		{"a token's mode", `apps: {web: {kv: {tokens: [{name: a, hash: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}]}}}`,
			func(s Stack) any { return s.Apps["web"].KV.Tokens[0].Mode }, "read-write"},
		{"apps replace the default", `apps: {site: {files: .}}`, func(s Stack) any { return len(s.Apps) }, 1},
		{"files need no Redis", `apps: {site: {files: .}}`, func(s Stack) any { return s.Redis.Enabled }, false},
		{"Redis for nobody", "apps: {site: {files: .}}\nredis: {enabled: true}", func(s Stack) any { return s.Redis.Enabled }, true},
		{"a command may need Redis", `apps: {site: {command: [./web]}}`, func(s Stack) any { return s.Redis.Enabled }, true},
		{"a command without Redis", "apps: {site: {command: [./web]}}\nredis: {enabled: false}", func(s Stack) any { return s.Redis.Enabled }, false},
		{"one application is the default", `apps: {site: {files: .}}`, func(s Stack) any { return s.Routes }, []Route{{App: "site"}}},
		{"one application, empty routes", `{apps: {site: {files: .}}, routes: []}`, func(s Stack) any { return s.Routes }, []Route{{App: "site"}}},
		{"routes before apps", "routes:\n- {path-prefix: /a, app: a}\n- app: b\napps: {a: {files: .}, b: {kv: {}}}", func(s Stack) any { return s.Routes },
			[]Route{{PathPrefix: []string{"/a"}, App: "a"}, {App: "b"}}},
		{"size", `redis: {memory: 512MB}`, func(s Stack) any { return s.Redis.Memory }, Bytes(512 << 20)},
		{"size in bytes", `redis: {memory: 1048577}`, func(s Stack) any { return s.Redis.Memory }, Bytes(1<<20 + 1)},
		{"open on purpose", `entry: {listen: "0.0.0.0:80", auth: none}`, func(s Stack) any { return s.Entry.Auth }, "none"},
		{"IPv6 loopback", `entry: {listen: "[::1]:6301"}`, func(s Stack) any { return s.Entry.Listen }, "[::1]:6301"},
		{"one port at two addresses", `{entry: {listen: "10.0.0.1:80", auth: none}, tcp: [{listen: "127.0.0.1:80", app: web}]}`,
			func(s Stack) any { return s.TCP }, []TCPEntry{{Listen: "127.0.0.1:80", Mode: "tcp", App: "web"}}},
		{"quoted number", `apps: {web: {command: [./web], env: {LEVEL: 3, ON: true, EMPTY: ""}}}`, func(s Stack) any { return s.Apps["web"].Env },
			map[string]string{"LEVEL": "3", "ON": "true", "EMPTY": ""}},
		{"merge", "apps:\n  a: &a {kv: {}, nodes: 3, sticky: n}\n  b: {<<: *a, nodes: 4}\nroutes: [{app: a}]",
			func(s Stack) any { return []any{s.Apps["b"].Nodes, s.Apps["b"].Sticky, s.Apps["a"].Nodes} }, []any{4, "n", 3}},
		{"tagged", `name: !!str shop`, func(s Stack) any { return s.Name }, "shop"},
		{"folded", "name: >-\n  shop\n", func(s Stack) any { return s.Name }, "shop"},
		{"addresses in a list in braces", `apps: {web: {servers: [10.0.0.1:80, host.example:8080, "[::1]:80", localhost:1]}}`,
			func(s Stack) any { return s.Apps["web"].Servers }, []string{"10.0.0.1:80", "host.example:8080", "[::1]:80", "localhost:1"}},
		{"one port", `redis: {ports: 7001}`, func(s Stack) any { return s.Redis.Ports }, []int{7001}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.got(parsed(t, c.data)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s\ngot %#v, want %#v", c.data, got, c.want)
			}
		})
	}
}

// full is a stack file with every key.
const full = `
name: shop
hosts:
  two: {address: "fd00::2", only: [balancer, web, redis]}
  one: {address: 198.18.7.1}
  witness: {address: 198.18.7.3, only: sentinel}
  four: {address: 198.18.7.4}
entry:
  listen: 0.0.0.0:8080
  statistics: none
  auth: none
  tls:
    certificates:
      - {certificate: ./tls/www.pem, key: tls/www.key}
      - {certificate: tls/shop.pem}
    redirect: 0.0.0.0:80
    hsts: 180d
  hosts: [www.example.com, "*.example.org"]
  proxy-protocol: true
  trusted-proxies: [10.0.0.5, 10.1.0.0/16, "2001:db8::/32"]
  log: all
  log-path: true
  errors: {503: "<h1>Back: \"soon\"</h1>\n<p>#1</p>\n", "429": "<p>Slow down</p>"}
  limits: {connections: 500, per-address: 400, requests-per-address: 300, requests-per-token: 200, per-token: 100}
  on: [one, four]
  virtual: {address: [198.18.7.100/24, 198.18.7.101/24], interface: eth1, advertise: 1s, router: 7}
balancers: 3
apps:
  api:
    command: [./api, "--listen=$HOST:$PORT", "a b", "", "é\t\"\u0085"]
    nodes: 3
    ports: [5001, 5002]
    on: one
    dir: ./my app
    release: ./api
    keep-releases: 3
    env: {LEVEL: debug, TEXT: "two\nlines", NO: "no", YES: yes}
    redis:
      allow: [keys, "function|load"]
      patterns: ["news.*", '__keyspace@0__:\[a\]?']
      databases: [1, 14]
    stop-signal: SIGINT
    grace: 1m30s
    sticky: node
    connections: 10
    queue: 20
    send-proxy: true
    timeouts: {server: 2m, tunnel: 3h}
    health: {path: "/up?full=1", host: "www.example.com:8443", interval: 1s, rise: 3, fall: 4, start: 2m}
  elsewhere:
    servers: [10.0.0.1:80, "[fd00::1]:80", host.example:8080]
  shop:
    image: registry.example:5000/shop@sha256:0123
    args: [serve, "--port=$PORT"]
    port: 8000
    at: [10.87.63.254:8000, 10.87.63.253:8000]
    nodes: 2
    env: {LEVEL: debug}
    redis: {databases: 2}
    stop-signal: SIGQUIT
    grace: 20s
    sticky: node
    connections: 10
    queue: 20
    send-proxy: true
    timeouts: {tunnel: 2h}
    health: {path: /up, host: shop.example, interval: 1s, rise: 3, fall: 4}
  site: {files: "./no: comment #here"}
  web:
    kv:
      reads: replica
      max-lag: 250ms
      writes: async
      hold: 8s
      remember: 2m
      allow: [keys, "config|get", "@blocking"]
      limits: {body: 20mb, answer: 100mb, key: 1000, pipeline: 500, connections: 2000, streams: 1000, streams-per-client: 100}
      cors: [https://www.example.com, "*"]
      access-log: 0.01
      trace: http://127.0.0.1:4318
      admin: true
      tokens:
        - name: shop
          hash: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
          mode: read-only
          prefixes: ["shop:", "session:"]
          commands: ["@read", -keys]
        - {name: all, hash: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752}
routes:
  - path-prefix: [/static, /Images]
    path-begins: /thumb
    path-suffix: [.png, .css]
    host: www.example.com
    app: site
  - {path-suffix: .php, app: elsewhere}
  - {host: [api.example.com, api.example.org], method: [GET, POST], header: {X-Version: [beta, "2"], X-Team: a}, app: api}
  - {path-prefix: /api, strip-prefix: true, app: api}
  - app: web
tcp:
  - {listen: 127.0.0.1:5432, mode: tcp, app: elsewhere}
  - {listen: "[::]:5433", auth: none, app: web, tls: {certificates: [{certificate: tls/db.pem, key: tls/db.key}]}}
  - {listen: 127.0.0.1:5434, app: api, tls: entry}
redis:
  enabled: true
  replicas: 4
  sentinels: 5
  ports: [7001, 7002]
  sentinel-ports: [7011]
  master-port: 7021
  on: [two, one]
  sentinels-on: [one, witness]
  memory: 1536mb
  memory-policy: allkeys-lru
  fsync: "no"
  save: []
  down-after: 1500ms
  failover-timeout: 1h
backup:
  every: 1h
  keep: 7
  to: s3://backups/shop
  recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
  s3: {endpoint: "http://127.0.0.1:9000", region: eu-central-1, credentials-file: ./s3.ini}
timeouts: {http-request: 1s, queue: 2s, connect: 3s, client: 4s, server: 5s, tunnel: 6s, http-keep-alive: 7s, check: 8s, hard-stop-after: 9s}
retries: 0
`

func TestWhatShowPrintsParsesAsTheSameStack(t *testing.T) {
	for name, s := range map[string]Stack{"default": Default(), "full": parsed(t, full)} {
		shown := s.Show()
		again, _, err := Parse("shown", shown)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, shown)
		} else if !reflect.DeepEqual(s, again) {
			t.Errorf("%s:\n%+v\nis after\n%s\n%+v", name, s, shown, again)
		}
	}
}

func TestShowIsTheGoldenFile(t *testing.T) {
	for name, s := range map[string]Stack{"default": Default(), "full": parsed(t, full)} {
		goldentest.Check(t, filepath.Join("testdata", "show-"+name+".yaml"), string(s.Show()))
	}
}

func TestTheExamplesParseWithoutAWarning(t *testing.T) {
	for name, data := range examples(t) {
		if _, warnings, err := Parse(name, data); err != nil || len(warnings) > 0 {
			t.Errorf("%v %v", warnings, err)
		}
	}
}

func examples(t *testing.T) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(paths) < 3 {
		t.Fatalf("examples: %v %v", paths, err)
	}
	out := map[string][]byte{}
	for _, p := range paths {
		if out[filepath.Base(p)], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// FuzzParse looks for files that stop the program, and for stacks that Show
// cannot print: go test -fuzz FuzzParse -fuzzminimizetime 20x ./internal/stack
func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add(Default().Show())
	for _, dir := range []string{"broken", "warned"} {
		paths, _ := filepath.Glob("testdata/" + dir + "/*.txtar")
		for _, path := range paths {
			a, err := txtar.ParseFile(path)
			if err != nil {
				f.Fatal(err)
			}
			for _, file := range a.Files {
				if strings.HasSuffix(file.Name, ".yaml") {
					f.Add(file.Data)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := Parse("f", data)
		if err != nil {
			if err.Error() == "" {
				t.Errorf("%q: an error without a word", data)
			}
			return
		}
		shown := s.Show()
		again, _, err := Parse("shown", shown)
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%q is\n%s\nand then %v\n%+v\n%+v", data, shown, err, s, again)
		}
	})
}
