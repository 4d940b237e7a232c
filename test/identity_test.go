package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/supervise"
)

// A node is its name and its data, not its address. Whatever a stack file changes between a 'down'
// and the next 'up', the node with the newest acknowledged data is the master.

// makeStale starts a stack, writes "old", makes the listed nodes miss the write of "new", and takes
// the stack down.
func (s *instance) makeStale(nodes ...string) {
	s.t.Helper()
	s.must("up", "-d")
	st := s.awaitHealthy()
	expect(s.t, st.Entry+"/set/order/old", 200, `{"result":"OK"}`)
	for _, node := range nodes {
		s.must("stop", node)
	}
	expect(s.t, st.Entry+"/set/order/new", 200, `{"result":"OK"}`)
	s.must("down")
}

// requireNewestValue starts the stack, and checks that it has the newest value.
func (s *instance) requireNewestValue() supervise.Status {
	s.t.Helper()
	s.must("up", "-d")
	st := s.awaitHealthy()
	expect(s.t, st.Entry+"/get/order", 200, `{"result":"new"}`)
	return st
}

// failOver makes a replica the master, and checks that writes work after it.
func (s *instance) failOver() {
	s.t.Helper()
	was := s.master()
	s.must("restart", was)
	s.await("another master than "+was, 20*time.Second, func() bool { return s.master() != "" && s.master() != was })
	st := s.awaitHealthy()
	expect(s.t, st.Entry+"/set/after/failover", 200, `{"result":"OK"}`)
	expect(s.t, st.Entry+"/get/order", 200, `{"result":"new"}`)
}

// ownPorts gives the web nodes ports that no other stack of this machine prefers. Otherwise another
// stack could take them while this one is down.
func ownPorts(t *testing.T) string {
	return fmt.Sprintf("apps: {web: {kv: {}, ports: [%d, %d]}}\n", freePort(t), freePort(t))
}

func redisPorts(entry string, ports ...int) string {
	return fmt.Sprintf("%sredis: {ports: [%s]}\n", entry, strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ports)), ", "), "[]"))
}

func TestNodesThatExchangeTheirPortsKeepTheirData(t *testing.T) {
	beside(t, oneStack) // its stacks have ports of their own
	entry := minimal(t) + ownPorts(t)
	a, b, c := freePort(t), freePort(t), freePort(t)
	s := newInstance(t, redisPorts(entry, a, b, c))
	name := "name: " + s.name + "\n"
	s.makeStale("redis-2")
	s.write(name + redisPorts(entry, b, a, c))
	s.requireNewestValue()
	s.failOver()
	// With the supervisor gone, a file that moves running nodes is refused, and nothing is touched.
	master := s.master()
	before := s.awaitHealthy()
	s.killSupervisor()
	s.write(name + redisPorts(entry, c, b, a))
	if said := s.fails(1, "up", "-d"); !strings.Contains(said, "redis-1 would move from") || !strings.Contains(said, "holdfast down") {
		t.Errorf("it says %q", said)
	}
	expect(t, before.Entry+"/get/order", 200, `{"result":"new"}`)
	s.must("down")
	s.requireNewestValue()
	if s.master() != master {
		t.Errorf("the master is %s, and it was %s", s.master(), master)
	}
	s.failOver()
}

func TestRedisMayBeOffForAWhile(t *testing.T) {
	beside(t, oneStack) // its stacks have ports of their own
	without := minimal(t)
	entry := without + ownPorts(t)
	s := newInstance(t, entry)
	name := "name: " + s.name + "\n"
	s.makeStale("redis-2")
	before := s.statusCommand()
	s.write(name + without + "redis: {enabled: false}\napps: {site: {files: .}}\n")
	s.must("up", "-d")
	s.must("down")

	// A program that has taken the port of a node in the meantime is named.
	node, _ := before.Node("redis-2")
	squatter, err := net.Listen("tcp", node.Address)
	if err != nil {
		t.Fatal(err)
	}
	s.write(name + entry)
	if said := s.fails(1, "up", "-d"); !strings.Contains(said, node.Address) || !strings.Contains(said, fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("it says %q", said)
	}
	squatter.Close()
	for i, now := range s.requireNewestValue().Nodes {
		if was := before.Nodes[i]; was.Name == now.Name && was.Address != now.Address {
			t.Errorf("%s is at %s, and was at %s", now.Name, now.Address, was.Address)
		}
	}
	s.must("down")

	// Its advice works, for the master, too.
	s.write(name + redisPorts(entry, freePort(t), freePort(t)))
	s.requireNewestValue()
	s.failOver()
}

func TestANodeWithTheNewestDataIsNotLeftBehind(t *testing.T) {
	beside(t, oneStack) // its stacks have ports of their own
	entry := minimal(t) + ownPorts(t)
	s := newInstance(t, entry)
	name := "name: " + s.name + "\n"
	s.must("up", "-d")
	st := s.awaitHealthy()
	expect(t, st.Entry+"/set/order/old", 200, `{"result":"OK"}`)
	s.must("stop", "redis-2")
	s.must("restart", "redis-1") // so that redis-3 becomes the master
	s.await("redis-3 as the master", 20*time.Second, func() bool { return s.master() == "redis-3" })
	s.await("a write", 10*time.Second, func() bool { code, _ := get(t, st.Entry+"/set/order/new"); return code == 200 })
	s.must("down")

	for _, fewer := range []string{"redis: {replicas: 1}\n", "redis: {replicas: 1, sentinels: 0}\n"} {
		s.write(name + entry + fewer)
		if said := s.fails(1, "up", "-d"); !strings.Contains(said, "redis-3 was the Redis master") || !strings.Contains(said, "redis.replicas: 2") {
			t.Errorf("it says %q", said)
		}
	}
	// It stays the master without Sentinels, and with them again.
	s.write(name + entry + "redis: {sentinels: 0}\n")
	s.requireNewestValue()
	if s.master() != "redis-3" {
		t.Errorf("the master is %s", s.master())
	}
	s.must("down")
	s.write(name + entry + "redis: {sentinels: 5}\n")
	s.requireNewestValue()
	s.must("down")
	// The Sentinels' own state is gone, and the stack has another name.
	for i := range 5 {
		if err := os.RemoveAll(filepath.Join(s.state, "nodes", fmt.Sprintf("sentinel-%d", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	s.write("name: " + s.name + "-again\n" + entry)
	s.requireNewestValue()
	if s.master() != "redis-3" {
		t.Errorf("the master is %s", s.master())
	}
	// The advice of the refusal works.
	s.failOver()
	s.must("down")
	s.write("name: " + s.name + "-again\n" + entry + "redis: {replicas: 1}\n")
	s.requireNewestValue()
}

func TestALostStackFileLosesNoData(t *testing.T) {
	beside(t, oneStack) // its stacks have ports of their own
	s, st := runningInstance(t, minimal(t)+ownPorts(t))
	expect(t, st.Entry+"/set/order/old", 200, `{"result":"OK"}`)
	s.must("stop", "redis-1") // another node becomes the master
	s.await("a write", 20*time.Second, func() bool { code, _ := get(t, st.Entry+"/set/order/new"); return code == 200 })

	// The supervisor is gone, and the file is damaged: the advice works.
	s.killSupervisor()
	file := filepath.Join(s.state, "stack.json")
	if err := os.WriteFile(file, []byte(`{"booted": tr`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"up", "-d"}, {"down"}} {
		if said := s.fails(1, command...); !strings.Contains(said, "Move it away") {
			t.Errorf("%v says %q", command, said)
		}
	}
	if err := os.Rename(file, file+".damaged"); err != nil {
		t.Fatal(err)
	}
	if said := s.fails(1, "up", "-d"); !strings.Contains(said, "still run") {
		t.Errorf("it says %q", said)
	}
	expect(t, st.Entry+"/get/order", 200, `{"result":"new"}`)
	s.must("down")
	s.requireNewestValue()
}
