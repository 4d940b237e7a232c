package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/servers"
)

// programs is a directory with the only servers that an instance finds.
type programs struct {
	t   *testing.T
	dir string
}

// ownPrograms gives an instance a directory of servers, with HAProxy in it.
func ownPrograms(s *instance) programs {
	s.t.Helper()
	p := programs{s.t, filepath.Join(s.dir, "servers")}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"haproxy", "sh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(p.dir, name)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.env = []string{"PATH=" + p.dir}
	return p
}

// put installs a server of a version, such as Valkey 8.1, and replaces an earlier one with that
// file name. It is this machine's Redis, which then reports another name and version, on its
// command line and in its INFO.
func (p programs) put(name, version string) {
	p.t.Helper()
	path, err := exec.LookPath(redistest.Program("server"))
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		p.t.Fatal(err)
	}
	is, ok := servers.Parse(string(out))
	program, err := os.ReadFile(path)
	if err != nil || !ok {
		p.t.Fatal(err, string(out))
	}
	other := version + is.Version[min(len(version), len(is.Version)):]
	words := map[string]string{"\x00" + is.Version + "\x00": "\x00" + other + "\x00"}
	if name == servers.Valkey && is.Name == servers.Redis {
		words["Redis server v=%s sha=%s"] = "Valkey server v=%s sh=%s"
		words["redis_version:%s\r\nredis_git_sha1:%s\r\n"] = "valkey_version:%s\r\nredis_git_sha:%s\r\n"
	} else if name != is.Name {
		p.t.Fatalf("%v cannot be made to look like %s", is, name)
	}
	for from, to := range words {
		if !bytes.Contains(program, []byte(from)) || len(from) != len(to) {
			p.t.Fatalf("%v cannot be made to say %q in the place of %q", is, to, from)
		}
		program = bytes.ReplaceAll(program, []byte(from), []byte(to))
	}
	p.write(fileOf(name), program)
}

func fileOf(server string) string { return strings.ToLower(server) + "-server" }

// write replaces a file that may be running.
func (p programs) write(name string, content []byte) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path+".new", content, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.t.Fatal(err)
	}
}

// wrap replaces the server's file with a script. The script fails if its arguments match failing,
// and otherwise becomes the server.
func (p programs) wrap(name string, failing string) {
	p.t.Helper()
	real := filepath.Join(p.dir, "real-"+fileOf(name))
	if _, err := os.Stat(real); err != nil {
		if err := os.Rename(filepath.Join(p.dir, fileOf(name)), real); err != nil {
			p.t.Fatal(err)
		}
	}
	p.write(fileOf(name), fmt.Appendf(nil, "#!/bin/sh\ncase \"$*\" in %s) exit 1 ;; esac\nexec %s \"$@\"\n", failing, real))
}

// awaitServers waits until the records beside the data name these servers, and redis nodes and
// Sentinels run them.
func (s *instance) awaitServers(want string) {
	s.t.Helper()
	got := ""
	s.await("data of "+want, 90*time.Second, func() bool {
		got = ""
		for _, n := range s.status().Nodes {
			if n.Kind == plan.Redis {
				record, _ := os.ReadFile(filepath.Join(s.state, "nodes", n.Name, "data", "written-by"))
				got += fmt.Sprintf("%s: %s, runs %s; ", n.Name, strings.TrimSpace(string(record)), n.Server)
				if !strings.HasPrefix(string(record), want) || !strings.HasPrefix(n.Server, want) {
					return false
				}
			}
		}
		return true
	})
	if s.t.Failed() {
		s.t.Logf("the nodes: %s", got)
	}
}

func TestTheServerOfTheDataStaysWhateverElseIsInstalled(t *testing.T) {
	t.Parallel()
	for first, second := range map[string]string{"Valkey 8.1": "Redis 7.0", "Redis 7.0": "Valkey 8.1"} {
		t.Run(first, func(t *testing.T) {
			beside(t, oneStack)
			text := minimal(t)
			s := newInstance(t, text)
			p := ownPrograms(s)
			install := func(server string) {
				name, version, _ := strings.Cut(server, " ")
				p.put(name, version)
			}
			install(first)
			s.must("up", "-d")
			s.awaitHealthy()
			s.awaitServers(first)

			install(second)
			s.killSupervisor()
			s.must("up", "-d")
			s.must("scale", "web=3")
			s.killNode("redis-2")
			s.awaitHealthy()
			s.awaitServers(first)
			requireWords(t, s.must("plan"), first)
			s.must("down")
			if second == "Redis 7.0" {
				install("Redis 8.0") // this version could read the data
			}
			s.must("up", "-d")
			s.awaitHealthy()
			s.awaitServers(first)
			if second != "Redis 7.0" {
				return
			}

			// Only the stack file can change it.
			s.must("down")
			if err := os.Remove(filepath.Join(p.dir, "valkey-server")); err != nil {
				t.Fatal(err)
			}
			requireWords(t, s.fails(1, "up", "-d"), "valkey-server is missing", "data is of Valkey", "redis.server")
			s.write("name: " + s.name + "\n" + text + "redis: {server: redis}\n")
			s.must("up", "-d")
			s.awaitHealthy()
			s.awaitServers("Redis 8.0")
		})
	}
}

func TestAChangeOfServerThatFailsIsTakenBack(t *testing.T) {
	beside(t, oneStack)
	text := minimal(t)
	s := newInstance(t, text)
	with := func(server string) { s.write("name: " + s.name + "\n" + text + "redis: {server: " + server + "}\n") }
	p := ownPrograms(s)
	p.put(servers.Redis, "7.0")
	with("redis")
	s.must("up", "-d")
	st := s.awaitHealthy()
	s.awaitServers("Redis 7.0")
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")

	// It fails on the first node.
	p.put(servers.Valkey, "8.1")
	p.wrap(servers.Valkey, "*/redis-*")
	with("valkey")
	requireWords(t, s.fails(1, "apply", "--yes"), "it is what it was")
	s.awaitHealthy()
	s.awaitServers("Redis 7.0")
	with("redis")
	s.must("apply", "--yes")

	// It fails on the second node: the first one stays until the file is as it was.
	p.wrap(servers.Valkey, "*/redis-2/*")
	with("valkey")
	s.fails(1, "apply", "--yes")
	s.awaitHealthy()
	if st, _ := s.status().Node("redis-3"); !strings.HasPrefix(st.Server, "Valkey") {
		t.Fatalf("redis-3 runs %q after a change that fails at redis-2", st.Server)
	}
	s.killSupervisor()
	with("redis")
	s.must("up", "-d")
	s.must("apply", "--yes")
	s.awaitHealthy()
	s.awaitServers("Redis 7.0")
	if _, err := os.Stat(filepath.Join(s.state, "nodes/redis-3/data/appendonlydir.unreadable")); err != nil {
		t.Errorf("what Redis 7.0 could not read is not set aside: %v", err)
	}
	s.must("down")
	s.must("up", "-d")
	s.awaitHealthy()
	expect(t, st.Entry+"/get?key=k", 200, "v")
}

func TestAnOlderPackageRefusesOnlyWhatStartsAServer(t *testing.T) {
	beside(t, oneStack)
	text := minimal(t)
	s := newInstance(t, text)
	p := ownPrograms(s)
	p.put(servers.Redis, "8.0")
	s.must("up", "-d")
	s.awaitHealthy()
	s.awaitServers("Redis 8.0")

	p.put(servers.Redis, "7.4")
	s.must("scale", "web=3")
	s.must("restart", "web")
	s.killSupervisor()
	s.write("name: " + s.name + "\n" + text + "redis: {server: redis}\n")
	_ = s.command("up", "-d").Run() // the change is refused, but the nodes are looked after
	if s.status().Supervisor == 0 {
		t.Error("the nodes run without a supervisor")
	}
	s.awaitHealthy()
	requireWords(t, s.fails(1, "apply", "--yes"), "Redis 7.4", "is older than Redis 8.0", "redis.server")
	s.awaitServers("Redis 8.0")
	s.must("down")
	requireWords(t, s.fails(1, "up", "-d"), "Redis 7.4", "is older than Redis 8.0", "written-by", "install Redis 8.0")
}

func TestTheServersThatRunAreAsked(t *testing.T) {
	beside(t, oneStack)
	text := minimal(t)
	s := newInstance(t, text)
	p := ownPrograms(s)
	p.put(servers.Redis, "8.0")
	p.wrap(servers.Redis, "*/nothing/*")
	s.must("up", "-d")
	s.awaitHealthy()
	s.awaitServers("Redis 8.0")

	// An earlier version of Holdfast had no records, or left a wrong one, and the program on the
	// disk is newer when the supervisor first looks.
	s.killSupervisor()
	records, _ := filepath.Glob(filepath.Join(s.state, "nodes/redis-*/data/written-by"))
	if len(records) != 3 {
		t.Fatalf("the records: %v", records)
	}
	if err := os.Remove(records[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(records[1], []byte("Redis 7.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.put(servers.Redis, "8.2")
	s.must("up", "-d")
	s.awaitHealthy()
	s.awaitServers("Redis 8.0")

	p.put(servers.Valkey, "8.1")
	s.write("name: " + s.name + "\n" + text + "redis: {server: valkey}\n")
	requireWords(t, s.fails(1, "apply", "--yes"), "cannot read the data of Redis 8.0")

	// While the server of the data is unknown, only the usual server is accepted.
	s.must("down")
	for _, record := range records {
		if err := os.Remove(record); err != nil {
			t.Fatal(err)
		}
	}
	requireWords(t, s.fails(1, "up", "-d"), "nobody knows which server has written the data", "redis.server: auto")
}
