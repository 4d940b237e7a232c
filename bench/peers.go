package main

import (
	"bytes"
	"embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/template"

	"holdfast/internal/plan"
)

//go:embed assets
var assets embed.FS

// launch describes how to start a server.
type launch struct {
	program   string
	args, env []string
}

// place describes where a server serves, and what it may use.
type place struct {
	topology *topology
	address  string // host:port
	holdfast string // the binary under test
	dir      string // a directory of its own
	// headers are the headers that a server with a fixed value sends.
	headers []string
}

// peer is a server to compare.
type peer struct {
	name   string
	what   string // for the report
	redis  bool   // it needs a master and replicas
	health string // a path that is answered with 2xx without any key
	// entry is an extra line for the entry of the balancer in front of it.
	entry string
	// muddles is true for a server that can give clients the answers of others, after clients have
	// disconnected while it worked for them. Webdis 0.1.9 does: its spot checks failed after loads
	// that wrk had ended. Such a server is restarted for each measurement, and its answers are
	// checked before the load.
	muddles bool
	serve   func(place) (launch, error)
	version []string // a command that prints it
}

// peers are all servers that can be compared.
var peers = []peer{
	{name: "holdfast", what: "one web node; writes acknowledged by both replicas", redis: true, health: "/healthz/ready", serve: serveHoldfast},
	{name: "webdis", what: "Debian's package with its own settings (2 threads)", redis: true, muddles: true, health: "/PING", serve: serveWebdis, version: []string{"dpkg-query", "-W", "webdis"}},
	{name: "nginx", what: "Lua and its Redis client, a worker per core, connections kept", redis: true, health: "/get?key=health", serve: serveNginx, version: []string{"nginx", "-v"}},
	{name: "gunicorn", what: "the source's Flask application, 2 workers per core + 1, 4 threads each", redis: true, health: "/get?key=health", serve: serveGunicorn, version: []string{"gunicorn", "--version"}},
	{name: "flask", what: "the source's Flask application under its own server", redis: true, health: "/get?key=health", serve: serveFlask, version: []string{"dpkg-query", "-W", "python3-flask"}},
	{name: "ceiling", what: "Holdfast's event loop with a fixed value and no Redis", health: "/get", serve: serveSelf},
	{name: "haproxy", what: "HAProxy answering a fixed value by itself", health: "/get", serve: serveSelf,
		entry:   `http-request return status 200 content-type text/plain string ` + fixedValue(smallValue) + ` if { path /get }`,
		version: []string{"haproxy", "-v"}},
}

func peerNames() []string {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	return names
}

// versionOf returns the first version number that a command prints.
func versionOf(command []string) string {
	path, err := lookPath(command[0])
	if err != nil {
		return err.Error()
	}
	out, err := exec.Command(path, command[1:]...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return regexp.MustCompile(`[0-9]+\.[0-9.]+[-+~:a-z0-9.]*`).FindString(string(out))
}

// serveHoldfast starts the web node of the plan, or a second one at another address.
func serveHoldfast(at place) (launch, error) {
	host, port, err := net.SplitHostPort(at.address)
	if err != nil {
		return launch{}, err
	}
	for _, p := range at.topology.plan.Hosts[0].Processes {
		if p.Kind == plan.Web {
			env := append(p.Env[:len(p.Env):len(p.Env)], "HOST="+host, "PORT="+port)
			if at.address != at.topology.server {
				// A second node: the first one has the plan's addresses.
				env = append(env, "HOLDFAST_LISTEN="+at.address, "HOLDFAST_ADMIN=")
			}
			return launch{at.holdfast, p.Args, env}, nil
		}
	}
	return launch{}, fmt.Errorf("the plan has no web node")
}

func serveWebdis(at place) (launch, error) {
	redisHost, redisPort, _ := strings.Cut(at.topology.master, ":")
	host, port, _ := strings.Cut(at.address, ":")
	path := filepath.Join(at.dir, "webdis.json")
	config := fmt.Sprintf(`{"redis_host": %q, "redis_port": %s, "redis_auth": null,
"http_host": %q, "http_port": %s, "threads": 2, "daemonize": false, "database": 0,
"verbosity": 3, "logfile": %q}
`, redisHost, redisPort, host, port, filepath.Join(at.topology.log, "webdis-own.log"))
	return launch{program: "webdis", args: []string{path}}, os.WriteFile(path, []byte(config), 0o600)
}

func serveNginx(at place) (launch, error) {
	text, err := assets.ReadFile("assets/nginx.conf")
	if err != nil {
		return launch{}, err
	}
	redisHost, redisPort, _ := strings.Cut(at.topology.master, ":")
	var config bytes.Buffer
	err = template.Must(template.New("").Parse(string(text))).Execute(&config, map[string]any{
		"Dir": at.dir, "Cores": runtime.NumCPU(), "Root": os.Geteuid() == 0,
		"Address": at.address, "RedisHost": redisHost, "RedisPort": redisPort,
	})
	if err != nil {
		return launch{}, err
	}
	path := filepath.Join(at.dir, "nginx.conf")
	return launch{program: "nginx", args: []string{"-c", path, "-e", "stderr"}}, os.WriteFile(path, config.Bytes(), 0o600)
}

// serveFlask runs the application as the source does. It uses the system's Python, for which the
// packages install their modules.
func serveFlask(at place) (launch, error) {
	text, err := assets.ReadFile("assets/app.py")
	if err != nil {
		return launch{}, err
	}
	redisHost, redisPort, _ := strings.Cut(at.topology.master, ":")
	host, port, _ := strings.Cut(at.address, ":")
	path := filepath.Join(at.dir, "app.py")
	return launch{
		program: "/usr/bin/python3", args: []string{path},
		env: []string{"REDIS_HOST=" + redisHost, "REDIS_PORT=" + redisPort, "HOST=" + host, "PORT=" + port},
	}, os.WriteFile(path, text, 0o600)
}

func serveGunicorn(at place) (launch, error) {
	l, err := serveFlask(at)
	l.program = "gunicorn"
	l.args = []string{
		"--chdir", at.dir, "--bind", at.address, "--worker-class", "gthread",
		"--workers", strconv.Itoa(2*runtime.NumCPU() + 1), "--threads", "4", "--keep-alive", "75", "app:app",
	}
	return l, err
}

func serveSelf(at place) (launch, error) {
	self, err := os.Executable()
	return launch{program: self, args: append([]string{ceilingCommand, at.address}, at.headers...)}, err
}
