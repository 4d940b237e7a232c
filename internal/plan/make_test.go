package plan

import (
	"net"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

func TestANodesAddressReachesItsProgramByName(t *testing.T) {
	s, _, err := stack.Parse("shop.yaml", []byte(`
apps:
  mine:
    command: [./mine, "$HOST:${PORT}", $HOSTNAME, $$PORT, $HOLDFAST_NODE, $REDIS_URL]
    env:
      BIND: http://$HOST:$PORT
      QUEUE: ${REDIS_URL}
      PRICE: 5$$
    nodes: 1
`))
	if err != nil {
		t.Fatal(err)
	}
	processes := mustMake(t, s, machine(s, "/var/lib/holdfast", Placeholders(s))).Hosts[0].Processes
	p := processes[slices.IndexFunc(processes, func(p Process) bool { return p.Node == "mine-1" })]
	host, port, _ := net.SplitHostPort(p.Address)
	if want := []string{host + ":" + port, "$HOSTNAME", "$PORT", "mine-1", "$REDIS_URL"}; !slices.Equal(p.Args, want) {
		t.Errorf("arguments %q, want %q", p.Args, want)
	}
	has := func(name string) string {
		for _, e := range p.Env {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
	if has("BIND") != "http://"+host+":"+port || has("QUEUE") != has("REDIS_URL") || has("REDIS_URL") == "" || has("PRICE") != "5$" {
		t.Errorf("env %q", p.Env)
	}
}

func TestAProgramWithAReleaseRunsFromItsCopy(t *testing.T) {
	s, _, err := stack.Parse("shop.yaml", []byte(`
apps:
  mine:
    command: [bin/mine]
    release: ./build
    dir: data
    nodes: 1
redis: {enabled: false}
`))
	if err != nil {
		t.Fatal(err)
	}
	for digest, home := range map[string]string{"": "/srv/shop/build", "0123abcd": "/var/lib/holdfast/releases/mine/0123abcd"} {
		app := s.Apps["mine"]
		app.Digest = digest
		s.Apps["mine"] = app
		m := machine(s, "/var/lib/holdfast", Placeholders(s))
		m.BaseDir = "/srv/shop"
		p := mustMake(t, s, m).Hosts[0].Processes[0]
		if string(p.Program) != home+"/bin/mine" || p.Dir != home+"/data" {
			t.Errorf("with the release %q it runs %s in %s, want both in %s", digest, p.Program, p.Dir, home)
		}
	}
}

func TestADrainedNodeGetsNoRequests(t *testing.T) {
	s, _, err := stack.Parse("shop.yaml", []byte("apps: {web: {kv: {}}}\ntcp: [{listen: '127.0.0.1:9001', app: web}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	m := machine(s, "/var/lib/holdfast", Placeholders(s))
	m.Drained = map[string]bool{"web-2": true}
	h := mustMake(t, s, m).Hosts[0]
	text := h.Files[slices.IndexFunc(h.Files, func(f File) bool { return strings.HasSuffix(f.Path, "haproxy.cfg") })].Content
	disabled := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, " disabled") {
			disabled++
			if !strings.Contains(line, "server web-2 ") {
				t.Errorf("disabled: %s", line)
			}
		}
	}
	if disabled != 2 { // disabled at the HTTP entry and at layer 4; the third follows the first
		t.Errorf("disabled in %d places:\n%s", disabled, text)
	}
}

func TestAReloadCutsNothingThatABalancerWouldWaitFor(t *testing.T) {
	for _, c := range []struct{ what, keys, want string }{
		{"by default", "", "90s"},
		{"with slow servers", "timeouts: {server: 5m}", "5m"},
		{"as the file says", "timeouts: {hard-stop-after: 1h}", "1h"},
		{"never less than the servers' time", "timeouts: {hard-stop-after: 1s}", "1m"},
		{"never less than a program's grace", "timeouts: {hard-stop-after: 1s}\napps: {shop: {command: [run], grace: 2m}}", "2m"},
	} {
		s, _, err := stack.Parse("test", []byte(c.keys))
		if err != nil {
			t.Fatal(err)
		}
		h := mustMake(t, s, machine(s, "/var/lib/holdfast", Placeholders(s))).Hosts[0]
		text := h.Files[slices.IndexFunc(h.Files, func(f File) bool { return strings.HasSuffix(f.Path, "haproxy.cfg") })].Content
		if !strings.Contains(text, "hard-stop-after "+c.want+"\n") {
			t.Errorf("%s: want hard-stop-after %s in\n%s", c.what, c.want, text)
		}
	}
}
