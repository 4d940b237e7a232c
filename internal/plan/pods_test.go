package plan

import (
	"fmt"
	"maps"
	"path"
	"strings"
	"testing"
	"time"

	"holdfast/internal/stack"
)

func TestAPodsNameSaysItsNode(t *testing.T) {
	s := stack.Default()
	s.Name = "shop"
	for name, want := range map[string]string{
		"shop-redis-0": "redis-1", "shop-redis-2": "redis-3", "shop-sentinel-1": "sentinel-2",
		"shop-web-676b95fcf-9zkjs": "web-1", "shop-balancer-86b4dc468-mtl8h": "balancer-1",
		"shop-redis-3": "", "shop-other-1": "", "elsewhere-redis-0": "",
	} {
		pod, err := PodOf(s, name)
		if pod.Node != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v; want %q", name, pod.Node, err, want)
		}
		if err == nil && pod.HasData() && PodService(s, pod.Node) != name {
			t.Errorf("the Service of %s is %s", name, PodService(s, pod.Node))
		}
	}
}

// inPod returns the plan of a pod's own host, and its files by name.
func inPod(t *testing.T, s stack.Stack, name string) (h Host, files map[string]string) {
	t.Helper()
	pod, err := PodOf(s, name)
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{pod.Node: "198.18.0.99"}
	for i, node := range DataNodes(s) {
		addresses[node] = fmt.Sprintf("198.18.0.%d", i+1)
	}
	of, placed := InPod(s, pod, addresses, func(app string) string { return app + ".shop.svc:5001" })
	f := Facts{Hosts: HostsOf(of), Placement: placed, Ports: PodPorts(pod), Secrets: Placeholders(of)}
	for _, need := range Needs(of) {
		if need.Fixed != 0 {
			f.Ports[need.Node] = need.Fixed
		}
	}
	p, err := Make(of, f, f.Everywhere(HostFacts{StateDir: "/state", BaseDir: "/", Self: "/holdfast"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range p.Hosts {
		if host.Name != pod.Node {
			continue
		}
		files = map[string]string{}
		for _, file := range host.Files {
			files[path.Base(file.Path)] = file.Content
		}
		return host, files
	}
	t.Fatalf("the plan has no host %s", pod.Node)
	return h, nil
}

// podStack returns a stack of two balancers and three web nodes, with more in its file.
func podStack(t *testing.T, more string) stack.Stack {
	t.Helper()
	s, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\nentry: {listen: 0.0.0.0:6301, auth: none}\n"+more))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckPods(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPodsSpeakTLSUnlessTheirNetworkIsTrusted(t *testing.T) {
	for network, encrypted := range map[string]bool{"": true, "network: trusted\n": false} {
		s := podStack(t, network)
		_, balancer := inPod(t, s, "shop-balancer-1-2")
		for _, words := range []string{"tcp-ut 2s ssl verify required verifyhost web-1 ", "http-check connect default linger", "tcp-check connect default"} {
			if strings.Contains(balancer["haproxy.cfg"], words) != encrypted {
				t.Errorf("%q: haproxy.cfg has %q: %v", network, words, !encrypted)
			}
		}
		for name, port := range map[string]string{"shop-redis-0": "\ntls-port 6379\n", "shop-sentinel-0": "\ntls-port 26379\n"} {
			_, files := inPod(t, s, name)
			if conf := files["base.conf"]; strings.Contains(conf, port) != encrypted || strings.Contains(conf, "\nport 0\n") != encrypted {
				t.Errorf("%q: %s has %q: %v\n%s", network, name, port, !encrypted, conf)
			}
		}
		web, _ := inPod(t, s, "shop-web-1-2")
		env := "\n" + strings.Join(web.Processes[0].Env, "\n") + "\n"
		for _, words := range []string{"\nHOLDFAST_LISTEN_TLS=198.18.0.99:5001\n", "\nREDIS_URL=rediss:"} {
			if strings.Contains(env, words) != encrypted {
				t.Errorf("%q: a web node has %q: %v", network, words, !encrypted)
			}
		}
	}
}

const podProgram = `network: trusted
apps:
  web: {kv: {}}
  shop: {image: "shop:1", port: 8000, args: [serve], env: {LEVEL: debug}, redis: {databases: [3]}}
routes: [{path-prefix: /shop, app: shop}, {app: web}]
`

func TestProgramsInPods(t *testing.T) {
	s := podStack(t, podProgram)
	_, balancer := inPod(t, s, "shop-balancer-1-2")
	conf := balancer["haproxy.cfg"]
	begin := strings.Index(conf, "\nbackend shop\n")
	if begin < 0 {
		t.Fatal(conf)
	}
	backend := conf[begin:]
	backend = backend[:strings.Index(backend[1:], "\nbackend ")]
	for words, want := range map[string]bool{
		"server-template node- 50 shop.shop.svc:5001 check": true,
		" tcp-ut 30s":              true, // it may pause, which a web node does not
		"init-addr libc":           false,
		"hmac":                     false, // it knows no secret of the stack
		" ssl ":                    false,
		"shutdown-sessions":        false, // a pod that leaves DNS still has requests
		"http-check send meth GET": true,
	} {
		if strings.Contains(backend, words) != want {
			t.Errorf("the balancer's part has %q: %v\n%s", words, !want, backend)
		}
	}
	if !strings.Contains(conf, "bind 198.18.0.99:6378,127.0.0.1:6378\n") {
		t.Errorf("programs do not reach the Redis master through the balancer:\n%s", conf)
	}

	_, redis := inPod(t, s, "shop-redis-0")
	if !strings.Contains(redis["users.acl"], "user app-shop ") {
		t.Errorf("it has no user at Redis:\n%s", redis["users.acl"])
	}
	inPod(t, s, "shop-sentinel-0")
	if web, _ := inPod(t, s, "shop-web-1-2"); len(web.Processes) != 1 {
		t.Errorf("beside the web node run %d processes", len(web.Processes)-1)
	}

	next := podStack(t, strings.NewReplacer("shop:1", "shop:2", "[serve]", "[all]", "debug", "info").Replace(podProgram))
	for _, name := range []string{"shop-balancer-1-2", "shop-redis-0", "shop-sentinel-0", "shop-web-1-2"} {
		_, before := inPod(t, s, name)
		if _, after := inPod(t, next, name); !maps.Equal(before, after) {
			t.Errorf("another version of the program changes %s", name)
		}
	}
}

func TestWhatCannotRunInPodsIsRefused(t *testing.T) {
	const program = "network: trusted\napps: {shop: {image: shop, "
	for text, want := range map[string]string{
		"apps: {shop: {image: shop}}":                    "apps.shop.image: a program has no certificate of the stack, so it reaches Redis in plain: write network: trusted",
		program + "stop-signal: SIGINT}}":                "apps.shop.stop-signal: Kubernetes sends the signal that the image names",
		program + "at: [h:1, h:2]}}":                     "apps.shop.at: in Kubernetes the pods have addresses of their own: remove the key",
		program + "sticky: node}}":                       "apps.shop.sticky",
		"apps: {shop: {command: [run]}}":                 "apps.shop.command: in Kubernetes a program of yours runs as an image of its own",
		"apps: {shop: {files: site}}":                    "apps.shop.files: no pod has the directory",
		program + "stop-signal: SIGTERM}}":               "",
		program + "env: {A: \"x ${REDIS_SENTINELS}\"}}}": "apps.shop.env.A: in Kubernetes a program has no $REDIS_SENTINELS",
		program + "env: {A: $REDIS_MASTER_NAME}}}":       "apps.shop.env.A: in Kubernetes a program has no $REDIS_MASTER_NAME",
		program + "env: {A: $$REDIS_MASTER_NAME, REDIS_SENTINELS: \"h:1\", B: $REDIS_SENTINELS_}}}": "",
		"apps: {shop: {image: a}}\nredis: {enabled: false}":                                         "",
	} {
		s, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\nentry: {listen: 0.0.0.0:6301, auth: none}\n"+text+"\n"))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := CheckPods(s); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

func TestPortsThatCollideInABalancersPodAreRefused(t *testing.T) {
	for _, c := range []struct{ entry, more, want string }{
		{"6300", "", "entry.listen: in Kubernetes the port 6300 is where a pod reports its state: choose another"},
		{"9633", "", "entry.listen: in Kubernetes the port 9633 is where a pod has its metrics: choose another"},
		{"6378", "", "entry.listen, redis.master-port: both are the port 6378"},
		{"6301", "redis: {master-port: 6300}\n", "redis.master-port: in Kubernetes the port 6300 is"},
		{"6301", "redis: {master-port: 9633}\n", "redis.master-port: in Kubernetes the port 9633 is"},
		{"6378", "redis: {master-port: 6377}\n", ""},
		{"6378", "network: trusted\napps: {shop: {image: shop}}\nredis: {enabled: false}\n", ""},
		{"5001", "", ""}, // the port of web nodes, in other pods
	} {
		s, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\nentry: {listen: \"0.0.0.0:"+c.entry+"\", auth: none}\n"+c.more))
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckPods(s); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s %s: %v; want %q", c.entry, c.more, err, c.want)
		}
	}
}

func TestAPodOfAProgramIsNotHoldfasts(t *testing.T) {
	if _, err := PodOf(podStack(t, podProgram), "shop-shop-1-2"); err == nil || !strings.Contains(err.Error(), "the image of apps.shop") {
		t.Errorf("it is one: %v", err)
	}
}

func TestBalancersInPodsShareTheLimitsOfAnApplication(t *testing.T) {
	s := podStack(t, "balancers: 2\napps: {web: {kv: {}, nodes: 3, connections: 11, queue: 20}}\n")
	_, files := inPod(t, s, "shop-balancer-1-2")
	for _, words := range []string{" maxconn 6 maxqueue 10 ", "acl queue.full queue ge 30\n"} {
		if !strings.Contains(files["haproxy.cfg"], words) {
			t.Errorf("haproxy.cfg has no %q:\n%s", words, files["haproxy.cfg"])
		}
	}
}

func TestServersThatRunElsewhereAreNotLookedForInTheCluster(t *testing.T) {
	s := podStack(t, "apps: {web: {kv: {}}, old: {servers: [198.18.7.1:80]}}\nroutes: [{path-prefix: /old/, app: old}, {app: web}]\n")
	_, files := inPod(t, s, "shop-balancer-1-2")
	conf := files["haproxy.cfg"]
	if !strings.Contains(conf, "old-1") || strings.Contains(conf, "old.shop.svc") || !strings.Contains(conf, "web.shop.svc") {
		t.Error(conf)
	}
}

func TestABalancerInAPodWaitsForTheLongestRequest(t *testing.T) {
	const old = "routes: [{path-prefix: /old, app: old}, {app: web}]\n"
	for _, c := range []struct {
		text string
		want time.Duration
	}{
		{"apps: {web: {kv: {}}}\n", time.Minute},
		{"apps: {web: {kv: {}, grace: 2m}}\n", 2 * time.Minute},
		{"apps: {web: {kv: {hold: 3m}}}\n", 3*time.Minute + 5*time.Second},
		{"apps: {web: {kv: {hold: 3m}}}\ntimeouts: {server: 4m}\n", 4 * time.Minute},
		{"apps: {web: {kv: {}}, old: {servers: ['h:1'], timeouts: {server: 5m}}}\n" + old, 5 * time.Minute},
		{"apps: {web: {kv: {}}, old: {servers: ['h:1'], timeouts: {server: 5s}}}\n" + old, time.Minute},
	} {
		s, _, err := stack.Parse("holdfast.yaml", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		web := s.Apps["web"]
		web.Discovery = &stack.Discovery{At: "web.test:5001", Nodes: 1, Balancers: 1}
		s.Apps["web"] = web
		if got := BalancerGrace(s); got != c.want {
			t.Errorf("%s: it waits %v, want %v", c.text, got, c.want)
		}
		if got := (builder{stack: s}).reloadStop(); got != max(c.want, s.Timeouts.HardStop) {
			t.Errorf("%s: after a reload it waits %v, want %v", c.text, got, max(c.want, s.Timeouts.HardStop))
		}
	}
}
