package plan

import (
	"slices"
	"strings"
	"testing"
)

// wirePlan returns the plan of a stack on two hosts and a witness, with a program.
func wirePlan(t *testing.T, more string) Plan {
	t.Helper()
	s := shaped(t, twoHosts+witness+"\nbalancers: 2\nroutes: [{app: web}]\napps: {web: {kv: {}}, shop: {command: [./shop], nodes: 2}}\n"+more)
	k := machine(s, "/state", Placeholders(s))
	k.Hosts, k.Placement = HostsOf(s), mustSpread(t, s, nil)
	return mustMake(t, s, k)
}

// partOf returns the lines of a node's file that contain a word.
func partOf(t *testing.T, p Plan, path, word string) (lines []string) {
	t.Helper()
	for _, h := range p.Hosts {
		for _, f := range h.Files {
			if f.Path != path {
				continue
			}
			for line := range strings.Lines(f.Content) {
				if strings.Contains(line, word) && !strings.HasPrefix(strings.TrimSpace(line), "#") {
					lines = append(lines, strings.TrimSpace(line))
				}
			}
		}
	}
	return lines
}

func TestNodesOfSeveralHostsSpeakTLS(t *testing.T) {
	p := wirePlan(t, "")
	for _, path := range []string{"nodes/redis-1/base.conf", "nodes/sentinel-3/base.conf"} {
		tls := partOf(t, p, path, "tls-")
		if plain := partOf(t, p, path, "port 0"); len(tls) != 7 || len(plain) != 1 || !slices.Contains(tls, "tls-replication yes") || !slices.Contains(tls, "tls-auth-clients yes") {
			t.Errorf("%s: %q, %q", path, plain, tls)
		}
	}

	// Each balancer reaches the web node of its own host in plain, and other hosts with TLS.
	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			if process.Kind != Balancer {
				continue
			}
			for _, line := range partOf(t, p, "nodes/"+process.Node+"/haproxy.cfg", "server ") {
				word := strings.Fields(line)
				if word[0] != "server" || word[1] == "shop-1" || word[1] == "shop-2" {
					continue
				}
				secure := strings.Contains(line, " ssl verify required verifyhost ")
				if here := strings.HasPrefix(word[2], loopback+":"); here == secure {
					t.Errorf("%s: %s", process.Node, line)
				}
			}
			if checks := partOf(t, p, "nodes/"+process.Node+"/haproxy.cfg", "tcp-check connect"); len(checks) == 0 || slices.Contains(checks, "tcp-check connect") {
				t.Errorf("%s checks Redis in plain: %q", process.Node, checks)
			}
		}
	}

	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			env := strings.Join(process.Env, "\n") + "\n"
			switch process.App {
			case "web":
				if !strings.Contains(env, "REDIS_URL=rediss://web:") || !strings.Contains(env, "HOLDFAST_LISTEN=127.0.0.1:") ||
					!strings.Contains(env, "HOLDFAST_LISTEN_TLS="+process.Address+"\n") || process.LocalAddress() == process.Address {
					t.Errorf("%s at %s, near %s: %s", process.Node, process.Address, process.LocalAddress(), env)
				}
			case "shop":
				// The program knows no TLS: the balancer on its host speaks it.
				if !strings.Contains(env, "REDIS_URL=redis://app-shop:") || !strings.Contains(env, "@127.0.0.1:") || !strings.Contains(env, "REDIS_SENTINELS=\n") {
					t.Errorf("%s: %s", process.Node, env)
				}
			}
		}
	}
}

// A lost host does not answer: its requests soon go to another one.
func TestConnectionsToOtherHostsEndWhenTheseAreSilent(t *testing.T) {
	p := wirePlan(t, "")
	for balancer, here := range map[string]string{"balancer-1": "1", "balancer-2": "2"} {
		path := "nodes/" + balancer + "/haproxy.cfg"
		for _, line := range partOf(t, p, path, "server ") {
			word := strings.Fields(line)
			app, node, _ := strings.Cut(word[1], "-")
			want := map[string]string{"web": " tcp-ut 2s", "shop": " tcp-ut 30s"}[app]
			if word[0] != "server" || want == "" {
				continue
			}
			if strings.Contains(line, want) != (node != here) {
				t.Errorf("%s: %s", balancer, line)
			}
		}
		if limits := partOf(t, p, path, "timeout connect 500ms"); len(limits) < 2 {
			t.Errorf("%s waits long to connect: %q", balancer, limits)
		}
		if asks := partOf(t, p, path, "option srvtcpka"); len(asks) < 2 {
			t.Errorf("%s does not ask whether a host is there: %q", balancer, asks)
		}
	}
}

func TestAProgramWithoutABalancerOnItsHostReachesRedisByTLS(t *testing.T) {
	p := wirePlan(t, "entry: {listen: \"0.0.0.0:80\", auth: none, on: [one]}\n")
	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			env := strings.Join(process.Env, "\n")
			if process.App == "shop" && strings.Contains(env, "REDIS_URL=rediss://app-shop:") != (h.Name != "one") {
				t.Errorf("%s on %s: %s", process.Node, h.Name, env)
			}
		}
	}
	if binds := partOf(t, p, "nodes/balancer-1/haproxy.cfg", "bind 198.18.7.1:"); len(binds) != 1 || !strings.Contains(binds[0], "verify required") {
		t.Errorf("programs elsewhere are led to Redis by %q", binds)
	}
}

func TestNodesOnATrustedNetworkSpeakInPlain(t *testing.T) {
	p := wirePlan(t, "network: trusted\n")
	for _, h := range p.Hosts {
		for _, f := range h.Files {
			if strings.Contains(f.Content, " ssl ") || strings.Contains(f.Content, "\ntls-cert-file") {
				t.Errorf("%s speaks TLS", f.Path)
			}
		}
		for _, process := range h.Processes {
			if process.Local != "" || strings.Contains(strings.Join(process.Env, "\n"), "rediss://") {
				t.Errorf("%s speaks TLS", process.Node)
			}
		}
	}
	if off := partOf(t, p, "nodes/redis-1/base.conf", "tls-"); !slices.Equal(off, []string{"tls-port 0", "tls-replication no"}) {
		t.Errorf("what redis.conf may still have is not turned off: %q", off)
	}
}
