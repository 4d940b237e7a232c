package plan

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

// content returns the content of a file of a host.
func content(t *testing.T, h Host, path string) string {
	t.Helper()
	i := slices.IndexFunc(h.Files, func(f File) bool { return f.Path == path })
	if i < 0 {
		t.Fatalf("%s has no file %s", h.Name, path)
	}
	return h.Files[i].Content
}

func TestEveryHostIsPlannedWithItsOwnFacts(t *testing.T) {
	s := stack.Default()
	s.Entry.Listen, s.Entry.Auth = "0.0.0.0:6301", "none"
	k := machine(s, "/", Placeholders(s))
	k.Hosts = []Place{{Name: "one", Address: "198.18.7.1"}, {Name: "two", Address: "198.18.7.2"}}
	hosts := map[string]HostFacts{
		"one": {StateDir: "/one", BaseDir: "/srv", Cores: 4, HAProxyUser: "haproxy", Names: []string{"one.example"}},
		"two": {StateDir: "/two", BaseDir: "/srv", Cores: 16, Files: 8192, Names: []string{"two.example"}},
	}
	p, err := Make(s, k.Facts, hosts)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ threads, user, connections, cores string }{
		{"nbthread 4", "user haproxy", "maxconn 8000", "HOLDFAST_THREADS=2"},
		{"nbthread 16", "", "maxconn 3000", "HOLDFAST_THREADS=8"},
	} {
		h := p.Hosts[i]
		n := string('1' + rune(i))
		config := content(t, h, "nodes/balancer-"+n+"/haproxy.cfg")
		for _, line := range []string{want.threads, want.user, want.connections, "/" + h.Name + "/nodes/balancer-" + n + "/haproxy.sock"} {
			if !strings.Contains(config, line) {
				t.Errorf("%s: the balancer's configuration has no %q:\n%s", h.Name, line, config)
			}
		}
		if want.user == "" && strings.Contains(config, "\n    user ") {
			t.Errorf("%s: HAProxy drops to a user of another host", h.Name)
		}
		b := builder{stack: s, facts: k.Facts, hosts: hosts}
		if pattern := b.hostPattern(node{host: k.Hosts[i]}); !strings.Contains(pattern, h.Name) || strings.Contains(pattern, k.Hosts[1-i].Name) {
			t.Errorf("%s: requests have to name %s", h.Name, pattern)
		}
		if dir := "dir \"/" + h.Name + "/nodes/redis-" + n; !strings.Contains(content(t, h, "nodes/redis-"+n+"/base.conf"), dir) {
			t.Errorf("%s: redis-%s has no %s", h.Name, n, dir)
		}
		for _, process := range h.Processes {
			if process.Kind == Web && !slices.Contains(process.Env, want.cores) {
				t.Errorf("%s: %s has no %s: %q", h.Name, process.Node, want.cores, process.Env)
			}
			for _, arg := range process.Args {
				if strings.HasPrefix(arg, "/") && !strings.HasPrefix(arg, "/"+h.Name+"/") {
					t.Errorf("%s: %s is started with %s", h.Name, process.Node, arg)
				}
			}
		}
	}
}

func TestAHostOfWhichNothingIsKnownIsRefused(t *testing.T) {
	s := stack.Default()
	k := machine(s, "/state", Placeholders(s))
	k.Hosts = []Place{{Name: "one", Address: "198.18.7.1"}, {Name: "two", Address: "198.18.7.2"}}
	_, err := Make(s, k.Facts, map[string]HostFacts{"one": k.HostFacts})
	if err == nil || !strings.Contains(err.Error(), "nothing is known of the host two") {
		t.Errorf("got %v", err)
	}
}
