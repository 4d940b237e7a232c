package test

import (
	"encoding/json"
	"holdfast/internal/redis/redistest"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// redisCLI sends a command to a redis node or a Sentinel as the operator.
func (s *instance) redisCLI(node string, args ...string) string {
	s.t.Helper()
	out, err := s.redisAt(s.node(node).Address, args...)
	if err != nil {
		s.t.Fatalf("redis-cli %v: %v\n%s", args, err, out)
	}
	return out
}

// redisAt is redisCLI for an address. It works without a supervisor.
func (s *instance) redisAt(address string, args ...string) (string, error) {
	s.t.Helper()
	var kept struct {
		Secrets struct {
			Operator string `json:"operator"`
		} `json:"secrets"`
	}
	b, err := os.ReadFile(filepath.Join(s.state, "stack.json"))
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(redistest.Program("cli"), append([]string{"--user", "operator", "-h", host, "-p", port}, args...)...)
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+kept.Secrets.Operator, "VALKEYCLI_AUTH="+kept.Secrets.Operator)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestTheDeadlockThatSentinelsDoNotLeaveIsMended(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t)+"redis:\n  replicas: 1\n")
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	s.must("stop", "redis-2")
	// Every Sentinel names redis-1 as the master, although it follows a dead node.
	_, port, _ := net.SplitHostPort(s.node("redis-2").Address)
	if out := s.redisCLI("redis-1", "replicaof", "127.0.0.1", port); out != "OK" {
		t.Fatal(out)
	}
	s.await("redis-1 as a replica", 5*time.Second, func() bool { return s.node("redis-1").Role == "replica" })
	s.await("redis-1 as the master again", 60*time.Second, func() bool { return s.node("redis-1").Role == "master" })
	s.must("start", "redis-2")
	s.awaitHealthy()
	expect(t, st.Entry+"/get?key=k", 200, "v")
	if log := s.must("logs", "supervisor"); !strings.Contains(log, "promoted") {
		t.Error("the supervisor's log does not say that it promoted redis-1")
	}
}

func TestTheDefaultUserAndTheWebUserAreKeptOut(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t))
	for _, node := range []string{"redis-1", "sentinel-1"} {
		host, port, err := net.SplitHostPort(s.node(node).Address)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command(redistest.Program("cli"), "-h", host, "-p", port, "ping").CombinedOutput()
		if !strings.Contains(string(out), "NOAUTH") {
			t.Errorf("%s answers a stranger %q", node, out)
		}
	}
	for _, line := range []string{
		s.redisCLI("redis-1", "acl", "dryrun", "web", "publish", "__sentinel__:hello", "x"),
		s.redisCLI("redis-1", "acl", "dryrun", "web", "config", "get", "*"),
		s.redisCLI("redis-1", "acl", "dryrun", "web", "flushall"),
		s.redisCLI("redis-1", "acl", "dryrun", "web", "replicaof", "no", "one"),
	} {
		if line == "OK" {
			t.Error("the web user may do what it must not")
		}
	}
	// Only the owner can read secrets, and no command line has them.
	for _, f := range []string{"stack.json", "nodes/redis-1/base.conf", "nodes/balancer-1/haproxy.cfg", "nodes/redis-1/users.acl"} {
		info, err := os.Stat(filepath.Join(s.state, f))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
}
