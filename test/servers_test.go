package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/servers"
)

// installed returns the servers of this machine, by the value of redis.server that asks for each.
func installed(t *testing.T) map[string]servers.Server {
	t.Helper()
	all := map[string]servers.Server{}
	for _, name := range []string{"redis", "valkey"} {
		out, err := exec.Command(name+"-server", "--version").Output()
		if err != nil {
			continue
		}
		is, ok := servers.Parse(string(out))
		if !ok {
			t.Fatalf("%s-server says %q", name, out)
		}
		all[name] = is
	}
	return all
}

// twoServers makes an instance find a Redis and a Valkey. A machine that has only one of them gets
// it under two names, as Redis 7.0 and as Valkey 8.1. The second server can read what the first one
// has written, but not the other way round.
func twoServers(t *testing.T, s *instance) (first, second string) {
	t.Helper()
	if is := installed(t); len(is) == 2 {
		return "valkey", "redis"
	}
	p := ownPrograms(s)
	p.put(servers.Redis, "7.0")
	p.put(servers.Valkey, "8.1")
	return "redis", "valkey"
}

func TestAnotherServerOfRedisComesUnderLoadOrIsRefused(t *testing.T) {
	beside(t, oneStack)
	text := minimal(t)
	s := newInstance(t, text)
	first, second := twoServers(t, s)
	with := func(server string) { s.write("name: " + s.name + "\n" + text + "redis: {server: " + server + "}\n") }
	with(first)
	s.must("up", "-d")
	st := s.awaitHealthy()
	names := map[string]string{"redis": servers.Redis, "valkey": servers.Valkey}
	s.awaitServers(names[first])

	l := startLoad(t, st.Entry, 50)
	with(second)
	s.must("apply", "--yes")
	s.awaitServers(names[second])
	for _, n := range s.awaitHealthy().Nodes {
		was, _ := st.Node(n.Name)
		if redis := n.Kind == plan.Redis || n.Kind == plan.Sentinel; (n.PID != was.PID) != redis {
			t.Errorf("%s has the pid %d, and had %d", n.Name, n.PID, was.PID)
		}
	}
	before := s.status()
	with(first)
	requireWords(t, s.fails(1, "apply", "--yes"), "cannot read the data of", "redis.server")
	for _, n := range s.status().Nodes {
		if was, _ := before.Node(n.Name); n.PID != was.PID {
			t.Errorf("%s was disturbed by a change that was refused", n.Name)
		}
	}
	o := l.finish(t)
	o.requireNothingFailed(t)
	o.requireTraffic(t, 100)

	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	s.must("down")
	requireWords(t, s.fails(1, "up", "-d"), "cannot read the data of", "nothing is changed")
	with(second)
	s.must("up", "-d")
	s.awaitHealthy()
	expect(t, st.Entry+"/get?key=k", 200, "v")
}

func TestTheServersAreNamedWithTheirVersions(t *testing.T) {
	beside(t, oneStack)
	text := minimal(t)
	s, _ := runningInstance(t, text)
	is := installed(t)
	want, there := is["redis"] // it takes precedence where either will do
	if !there {
		want = is["valkey"]
	}
	s.await("the versions", 30*time.Second, func() bool {
		for _, n := range s.status().Nodes {
			if n.App == "" && n.Server == "" {
				return false
			}
		}
		return true
	})
	if got := s.node("redis-1").Server; got != want.String() {
		t.Errorf("redis-1 runs %q, want %v", got, want)
	}
	requireWords(t, s.must("status"), "servers "+servers.HAProxy+" ", want.String())
	requireWords(t, s.must("plan"), "The servers on this machine", want.String())
	missing := "valkey"
	if !there {
		missing = "redis"
	}
	if len(is) == 1 {
		s.write("name: " + s.name + "\n" + text + "redis: {server: " + missing + "}\n")
		requireWords(t, s.fails(1, "apply", "--yes"), missing+"-server is missing", "redis.server: "+missing, "apt-get install "+missing+"-server")
	}
}

func TestVectorSetsTakeAServerThatHasThem(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t)+"apps: {web: {kv: {allow: [\"@vectors\"]}}}\n")
	is := installed(t)
	if server, there := is["redis"]; !there || !server.HasVectors() {
		requireWords(t, s.fails(1, "up", "-d"), "vector sets (@vectors)", "Redis 8.0 or newer")
		return
	}
	s.must("up", "-d")
	st := s.awaitHealthy()
	ask := func(body string) string { _, text := askAs(t, "POST", st.Entry+"/", "", body); return text }
	for _, c := range [][2]string{
		{`["VADD","points","VALUES","2","1.0","0.5","one"]`, `{"result":1}`},
		{`["VADD","points","VALUES","2","-1.0","0.5","two"]`, `{"result":1}`},
		{`["VSIM","points","VALUES","2","1.0","0.4","COUNT","1"]`, `{"result":["one"]}`},
		{`["VCARD","points"]`, `{"result":2}`},
		{`["VREM","points","two"]`, `{"result":1}`},
	} {
		if got := ask(c[0]); got != c[1] {
			t.Errorf("%s: %s, want %s", c[0], got, c[1])
		}
	}
	first := s.master()
	s.must("switchover")
	if s.master() == first {
		t.Error("the master is the same")
	}
	if got := ask(`["VCARD","points"]`); got != `{"result":1}` {
		t.Errorf("at the next master: %s", got)
	}
}

// Package servers' rules about whose data a server reads are compared with the installed servers.
func TestWhoReadsWhoseData(t *testing.T) {
	beside(t, oneStack)
	is := installed(t)
	if len(is) == 0 {
		t.Fatal("there is neither redis-server nor valkey-server")
	}
	for one, writes := range is {
		for other, reads := range is {
			dir := t.TempDir()
			start := func(server string) (do func(args ...string) string, end func()) {
				socket := filepath.Join(dir, "s")
				cmd := exec.Command(server+"-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--appendonly", "yes", "--save", "", "--logfile", "")
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				do = func(args ...string) string {
					out, _ := exec.Command(redistest.Program("cli"), append([]string{"-s", socket}, args...)...).CombinedOutput()
					return strings.TrimSpace(string(out))
				}
				ended := make(chan struct{})
				go func() { _ = cmd.Wait(); close(ended) }()
				for deadline := time.Now().Add(time.Minute); do("PING") != "PONG" && time.Now().Before(deadline); {
					select {
					case <-ended:
						return do, func() {}
					case <-time.After(20 * time.Millisecond):
					}
				}
				return do, func() { _ = cmd.Process.Kill(); <-ended }
			}
			do, end := start(one)
			for _, command := range []string{"SET k v", "RPUSH list 1 2", "HSET hash a 1 b 2", "HEXPIRE hash 1000 FIELDS 1 a", "ZADD z 1 a", "XADD x * a b", "SADD set 1 2 c", "BGREWRITEAOF", "SET k w IFEQ v", "SET later 1"} {
				do(strings.Fields(command)...)
			}
			end()
			do, end = start(other)
			got := do("GET", "later") == "1" && do("HGET", "hash", "a") == "1" && do("LLEN", "list") == "2"
			end()
			if why := reads.CannotRead(writes); got != (why == "") {
				t.Errorf("%v reads what %v has written: %v, and is said: %q", reads, writes, got, why)
			}
		}
	}
}
