// Package redistest runs real Redis servers and Sentinels for tests: a master,
// replicas and Sentinels on free ports of this machine, which a test may kill,
// pause and ask. It is for tests alone.
package redistest

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/commands"
)

// The name of the master at the Sentinels, and the user of the client under
// test at the nodes and the Sentinels.
const (
	MasterName = "test"
	Username   = "web"
	// Who runs scripts of clients, and those of clients who may only read.
	ScriptUser     = "scripts"
	ReadScriptUser = "read-scripts"
	Password       = "of-no-worth"
)

// The rights of that user, as an application has them in a stack (package
// plan's users.acl): the client under test must get by with them.
var nodeRights = commands.NodeRights(nil)

const (
	sentinelRights = "&* -@all +@connection -@dangerous -@admin +subscribe +psubscribe +unsubscribe +punsubscribe +role +info +sentinel|get-master-addr-by-name +sentinel|sentinels +sentinel|replicas +sentinel|masters +sentinel|master +sentinel|ckquorum +sentinel|myid +sentinel|is-master-down-by-addr"
)

// Cluster is a master (Nodes[0] at first), its replicas, and Sentinels.
type Cluster struct {
	Nodes     []*Server
	Sentinels []*Server
	// TLS is what the clients of a cluster that StartTLS started need.
	TLS *Certificates
}

// Server is one redis-server process.
type Server struct {
	Addr string
	// TLSAddr is where it speaks TLS, if it does. The others of its cluster
	// know it by this address then.
	TLSAddr string
	cmd     *exec.Cmd
	once    sync.Once
	clock   string // the file that says how wrong its clock is; empty: it has the machine's
}

// known is the address by which the others know it.
func (s *Server) known() string {
	if s.TLSAddr != "" {
		return s.TLSAddr
	}
	return s.Addr
}

// Start runs a master, replicas and Sentinels and waits until the master takes
// writes, every replica is connected and every Sentinel knows all of them. Without replicas
// min-replicas-to-write is 0, else 1. They end with the test.
func Start(t testing.TB, replicas, sentinels int) *Cluster {
	t.Helper()
	return start(t, replicas, sentinels, nil)
}

func start(t testing.TB, replicas, sentinels int, certs *Certificates) *Cluster {
	t.Helper()
	return startClocked(t, replicas, sentinels, certs, "")
}

// startClocked is start, with a library that gives each node a clock of its own; empty: none.
func startClocked(t testing.TB, replicas, sentinels int, certs *Certificates, library string) *Cluster {
	t.Helper()
	dir := t.TempDir()
	c := &Cluster{TLS: certs}
	minReplicas := min(replicas, 1)
	for i := range 1 + replicas {
		port := FreePort(t)
		conf := fmt.Sprintf(`bind 127.0.0.1
port %d
dir %s
dbfilename %d.rdb
save ""
min-replicas-to-write %d
min-replicas-max-lag 3
repl-diskless-sync-delay 0
user %s on >%s %s
user %s on >%s %s
user %s on >%s %s
`, port, dir, port, minReplicas, Username, Password, nodeRights,
			ScriptUser, Password, commands.ScriptRights(0, nil), ReadScriptUser, Password, commands.ReadScriptRights(0))
		if i > 0 {
			conf += "replicaof " + strings.Replace(c.Nodes[0].known(), ":", " ", 1) + "\n"
		}
		tlsAddr, tlsConf := certs.conf(t, dir)
		c.Nodes = append(c.Nodes, runClocked(t, dir, port, tlsConf+conf, library))
		c.Nodes[i].TLSAddr = tlsAddr
	}
	for _, n := range c.Nodes[1:] {
		Eventually(t, 10*time.Second, n.Addr+" is a connected replica", func() bool {
			return strings.Contains(n.Do("INFO", "replication"), "master_link_status:up")
		})
	}
	if replicas > 0 {
		// Until then it refuses writes (redis.conf, min-replicas-to-write). A replica counts
		// after its first acknowledgement, up to a second after it is connected.
		Eventually(t, 10*time.Second, c.Nodes[0].Addr+" counts its replicas", func() bool {
			return strings.Contains(c.Nodes[0].Do("INFO", "replication"), fmt.Sprintf("min_slaves_good_slaves:%d", replicas))
		})
	}
	c.startSentinels(t, dir, sentinels)
	return c
}

// startSentinels runs Sentinels that know each other and the replicas from the
// start, as those do that were there before. Those that have to find each other
// take seconds, as they tell of themselves every two seconds alone.
func (c *Cluster) startSentinels(t testing.TB, dir string, n int) {
	t.Helper()
	type sentinel struct {
		Server
		port    int
		tls, id string
	}
	all := make([]sentinel, n)
	for i := range all {
		s := &all[i]
		s.port, s.id = FreePort(t), fmt.Sprintf("%040x", rand.Uint64())
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
		s.TLSAddr, s.tls = c.TLS.conf(t, dir)
	}

	words := func(addr string) string { return strings.Replace(addr, ":", " ", 1) }
	for i := range all {
		s := &all[i]
		conf := s.tls + fmt.Sprintf(`bind 127.0.0.1
port %d
dir %s
user %s on >%s %s
sentinel myid %s
sentinel monitor %[7]s %[8]s %[9]d
sentinel down-after-milliseconds %[7]s 500
sentinel failover-timeout %[7]s 3000
`, s.port, dir, Username, Password, sentinelRights, s.id, MasterName, words(c.Nodes[0].known()), n/2+1)
		for _, replica := range c.Nodes[1:] {
			conf += fmt.Sprintf("sentinel known-replica %s %s\n", MasterName, words(replica.known()))
		}
		for j := range all {
			if other := &all[j]; j != i {
				conf += fmt.Sprintf("sentinel known-sentinel %s %s %s\n", MasterName, words(other.known()), other.id)
			}
		}
		c.Sentinels = append(c.Sentinels, run(t, dir, s.port, conf, "--sentinel"))
		c.Sentinels[i].TLSAddr = s.TLSAddr
	}

	var replicas, others string
	defer func() {
		if t.Failed() {
			t.Logf("a Sentinel knows the replicas %s\nand the Sentinels %s", replicas, others)
		}
	}()
	for _, s := range c.Sentinels {
		Eventually(t, 20*time.Second, s.Addr+" is connected with everybody", func() bool {
			s.Do("SENTINEL", "DEBUG", "info-period", "500")
			replicas, others = s.Do("SENTINEL", "REPLICAS", MasterName), s.Do("SENTINEL", "SENTINELS", MasterName)
			return strings.Count(replicas, "master-link-status ok") == len(c.Nodes)-1 &&
				strings.Count(others, "runid") == n-1 && !strings.Contains(replicas+others, "disconnected")
		})
	}
}

// SentinelAddrs are the addresses of all Sentinels.
func (c *Cluster) SentinelAddrs() []string {
	var addrs []string
	for _, s := range c.Sentinels {
		addrs = append(addrs, s.known())
	}
	return addrs
}

// Node is the node with that address.
func (c *Cluster) Node(addr string) *Server {
	for _, n := range c.Nodes {
		if n.known() == addr {
			return n
		}
	}
	return nil
}

// Kill ends the process with SIGKILL and waits for its end.
func (s *Server) Kill() {
	s.once.Do(func() {
		s.Signal(syscall.SIGKILL)
		_ = s.cmd.Wait()
	})
}

// Restart kills the process and runs it anew with what stands on its disk.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	s.once = sync.Once{}
	killed := s.cmd
	s.cmd = exec.Command(killed.Path, killed.Args[1:]...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 10*time.Second, s.Addr+" answers PING", func() bool { return s.Do("PING") == "PONG" })
}

// Signal sends the process a signal.
func (s *Server) Signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// Do sends a command and answers the reply in plain text, or the error's.
func (s *Server) Do(args ...string) string {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	command := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		command += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(conn, command); err != nil {
		return err.Error()
	}
	reply, err := read(bufio.NewReader(conn))
	if err != nil {
		return err.Error()
	}
	return reply
}

// read reads one reply (Redis serialization protocol, RESP2).
func read(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	kind, rest := line[0], line[1:]
	n, _ := strconv.Atoi(rest)
	switch kind {
	case '$':
		if n < 0 {
			return "(nil)", nil
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return "", err
		}
		return string(data[:n]), nil
	case '*':
		var items []string
		for range n {
			item, err := read(r)
			if err != nil {
				return "", err
			}
			items = append(items, item)
		}
		return strings.Join(items, " "), nil
	default:
		return rest, nil
	}
}

// patience is how much longer than on a quiet machine a condition may take: tests
// run beside each other, and others may use the machine.
const patience = 5

// Eventually polls a condition until it holds, and fails the test when it does not
// in time: patience times what a quiet machine needs at most.
func Eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	within *= patience
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Program is the name of a program that comes with Redis, such as server or cli, as this
// machine has it: of Redis, or where that is not installed, of Valkey.
func Program(name string) string {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return "valkey-" + name
	}
	return "redis-" + name
}

// run starts a server and waits until it answers.
func run(t testing.TB, dir string, port int, conf string, args ...string) *Server {
	t.Helper()
	return runClocked(t, dir, port, conf, "", args...)
}

// runClocked is run, with a library that gives the server a clock of its own; empty: none.
func runClocked(t testing.TB, dir string, port int, conf, library string, args ...string) *Server {
	t.Helper()
	path := filepath.Join(dir, strconv.Itoa(port)+".conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := exec.LookPath(Program("server"))
	if err != nil {
		t.Fatal("redis-server is not on PATH, nor valkey-server; install Redis 7.0 or newer (scripts/setup does)")
	}
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	s.cmd = exec.Command(binary, append([]string{path}, args...)...)
	s.giveClock(t, dir, library)
	out, err := os.Create(filepath.Join(dir, strconv.Itoa(port)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			log, _ := os.ReadFile(out.Name())
			t.Logf("log of %s:\n%s", s.Addr, log)
		}
	})
	Eventually(t, 10*time.Second, s.Addr+" answers PING", func() bool { return s.Do("PING") == "PONG" })
	return s
}

// Ports are taken from below those that stacks choose for their nodes (20000 and
// up) and the kernel for outgoing connections, so that nobody takes one before the
// server does, or while it is down. A process has a block of them for itself, and nobody
// else's Sentinels: those ask for a node long after it died, and would find another
// test's at its port, which is a node of theirs by all that they can see.
const (
	firstPort = 15000
	blocks    = 20
	blockSize = 250
)

// A block's first port is nobody's server: who listens on it has the block.
var (
	block    = sync.OnceValues(takeBlock)
	held     []net.Listener // until the process ends
	nextPort atomic.Int64
)

func takeBlock() (first int, err error) {
	start := rand.IntN(blocks)
	for i := range blocks {
		first := firstPort + (start+i)%blocks*blockSize
		l, failed := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first)))
		if err = failed; err == nil {
			held = append(held, l)
			return first, nil
		}
	}
	return 0, fmt.Errorf("other tests have all ports from %d on: %w", firstPort, err)
}

// FreePort returns a port of 127.0.0.1 that is free now, and that no test gets again soon.
func FreePort(t testing.TB) int {
	t.Helper()
	first, err := block()
	if err != nil {
		t.Fatal(err)
	}
	for range blockSize {
		port := first + 1 + int(nextPort.Add(1)%(blockSize-1))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port found")
	return 0
}
