package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/stack"
)

// A tier is a group of processes whose CPU is reported separately.
const (
	tierServer    = "server"
	tierMaster    = "redis master"
	tierReplicas  = "redis replicas"
	tierSentinels = "sentinels"
	tierHAProxy   = "haproxy"
)

var tiers = []string{tierServer, tierMaster, tierReplicas, tierSentinels, tierHAProxy}

// topology is one peer's own stack, as package plan makes it: one web node, its balancers, a master
// and two replicas. A peer other than Holdfast takes the place of the web node, and has no
// Sentinels.
type topology struct {
	name   string
	dir    string // its state directory
	log    string // directory of the processes' output
	plan   plan.Plan
	master string // host:port of the Redis master
	entry  string // host:port of the balancer
	server string // host:port of the server under test
	admin  string // host:port of the web node's metrics and profiles
	tiers  map[string][]*process.Process
	all    []*process.Process // in the order of their start
}

// entryConnections is the connection limit of a balancer. Each balancer gets about half of a case's
// connections, and allows one client address at most three quarters of its limit.
const entryConnections = 8000

// newTopology plans a stack and writes its files. It starts nothing.
func newTopology(dir, name string) (*topology, error) {
	entry, err := freePort()
	if err != nil {
		return nil, err
	}
	s, _, err := stack.Parse("bench.yaml", fmt.Appendf(nil, `name: %s
entry: {listen: "127.0.0.1:%d", limits: {connections: %d}}
apps: {web: {kv: {}, nodes: 1}}
`, name, entry, entryConnections))
	if err != nil {
		return nil, err
	}
	t := &topology{name: name, dir: filepath.Join(dir, name), tiers: map[string][]*process.Process{}}
	t.log = filepath.Join(t.dir, "logs")
	facts := plan.Facts{Ports: map[string]int{}}
	if facts.Secrets, err = plan.NewSecrets(rand.Reader, s); err != nil {
		return nil, err
	}
	for _, need := range plan.Needs(s) {
		if facts.Ports[need.Node], err = freePort(); err != nil {
			return nil, err
		}
	}
	here := plan.HostFacts{StateDir: t.dir, BaseDir: t.dir, Cores: runtime.NumCPU()}
	if t.plan, err = plan.Make(s, facts, facts.Everywhere(here)); err != nil {
		return nil, err
	}
	for _, p := range t.plan.Hosts[0].Processes {
		switch {
		case p.Kind == plan.Redis && t.master == "":
			t.master = p.Address
		case p.Kind == plan.Web:
			t.server, t.admin = p.Address, p.Admin
		case p.Kind == plan.Balancer:
			t.entry = p.Address
		}
	}
	return t, t.write()
}

func (t *topology) write() error {
	host := t.plan.Hosts[0]
	for _, dir := range host.Dirs {
		if err := os.MkdirAll(filepath.Join(t.dir, dir), 0o700); err != nil {
			return err
		}
	}
	for _, f := range host.Files {
		content := f.Content
		if filepath.Base(f.Path) == "users.acl" && strings.Contains(f.Path, "redis-") {
			// The peers have no users and passwords, so the default user is enabled here.
			// Holdfast's nodes still log in as the user of a stack.
			content = regexp.MustCompile(`(?m)^user default .*$`).ReplaceAllString(content, "user default reset on nopass ~* &* +@all")
		}
		if err := os.WriteFile(filepath.Join(t.dir, f.Path), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// startRedis starts master and replicas, and the Sentinels if wanted, and waits until the replicas
// follow.
func (t *topology) startRedis(ctx context.Context, sentinels bool) error {
	var master []string
	for _, p := range t.plan.Hosts[0].Processes {
		if p.Kind != plan.Redis {
			continue
		}
		args, tier := append([]string{}, p.Args...), tierMaster
		if master != nil {
			args, tier = append(args, append([]string{"--replicaof"}, master...)...), tierReplicas
		} else {
			master = strings.SplitN(p.Address, ":", 2)
		}
		if _, err := t.start(tier, p.Node, string(plan.RedisServer), args, nil); err != nil {
			return err
		}
	}
	replicas := t.plan.Stack.Redis.Replicas
	err := until(ctx, 20*time.Second, func() error {
		info, err := ask(t.master, "INFO", "replication")
		if err == nil && strings.Count(info, "state=online") < replicas {
			err = fmt.Errorf("not all of %d replicas follow the master", replicas)
		}
		return err
	})
	if err != nil || !sentinels {
		return err
	}
	for _, p := range t.plan.Hosts[0].Processes {
		if p.Kind != plan.Sentinel {
			continue
		}
		if _, err := t.start(tierSentinels, p.Node, string(plan.RedisServer), p.Args, nil); err != nil {
			return err
		}
	}
	return nil
}

// startHAProxy starts the balancers of the stack, with this peer's server as their only one.
// Between peers, only three things differ: the server's address, the path of its health check, and
// extra, a line for the entry.
func (t *topology) startHAProxy(ctx context.Context, health, extra string) error {
	for _, p := range t.plan.Hosts[0].Processes {
		if p.Kind != plan.Balancer {
			continue
		}
		path := filepath.Join(t.dir, "nodes", p.Node, "haproxy.cfg")
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		config, err := balancerConfig(string(text), t.server, health, extra)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return err
		}
		if _, err := t.start(tierHAProxy, p.Node, string(plan.HAProxy), p.Args, nil); err != nil {
			return err
		}
	}
	return until(ctx, 10*time.Second, func() error { return checkAccepts(t.entry) })
}

var (
	serverLine = regexp.MustCompile(`(?m)^(    server web-1) \S+`) // in both backends
	checkLine  = regexp.MustCompile(`(?m)^(    http-check send meth GET uri) \S+`)
	entryLine  = regexp.MustCompile(`(?m)^frontend entry\n(?:    .*\n)*?    bind .*$`)
)

// balancerConfig replaces the web node by another server.
func balancerConfig(text, address, health, extra string) (string, error) {
	for line, want := range map[*regexp.Regexp]int{serverLine: 2, checkLine: 1, entryLine: 1} {
		if n := len(line.FindAllString(text, -1)); n != want {
			return "", fmt.Errorf("%d lines like %s, and there have to be %d", n, line, want)
		}
	}
	text = serverLine.ReplaceAllString(text, "${1} "+address)
	text = checkLine.ReplaceAllString(text, "${1} "+health)
	if extra != "" {
		at := entryLine.FindStringIndex(text)
		text = text[:at[1]] + "\n    " + extra + text[at[1]:]
	}
	return text, nil
}

// start starts a process of the topology. program is a path or a name.
func (t *topology) start(tier, name, program string, args, env []string) (*process.Process, error) {
	path, err := lookPath(program)
	if err != nil {
		return nil, err
	}
	p, err := process.Start(process.Spec{
		Path: path, Args: args, Env: append(os.Environ(), env...),
		Dir: t.dir, Log: filepath.Join(t.log, name+".log"),
	})
	if err != nil {
		return nil, err
	}
	t.tiers[tier] = append(t.tiers[tier], p)
	t.all = append(t.all, p)
	return p, nil
}

// use returns what each tier has used so far.
func (t *topology) use() (map[string]usage, error) {
	stats, err := readStats()
	if err != nil {
		return nil, err
	}
	used := map[string]usage{}
	for tier, processes := range t.tiers {
		var pids []int
		for _, p := range processes {
			if p.Exit() != "" {
				return nil, fmt.Errorf("a process of %s (%s) has ended: %s; its output is in %s", t.name, tier, p.Exit(), t.log)
			}
			pids = append(pids, p.ID().PID)
		}
		used[tier] = usageOf(stats, pids)
	}
	return used, nil
}

// emptyLogs empties the logs, so that HAProxy's request logs do not fill the disk. The processes
// open them for appending, so they continue at the beginning.
func (t *topology) emptyLogs() error {
	paths, err := filepath.Glob(filepath.Join(t.log, "*.log"))
	for _, path := range paths {
		err = errors.Join(err, os.Truncate(path, 0))
	}
	return err
}

// end ends every process, the last one first.
func (t *topology) end() error {
	var errs []error
	for i := len(t.all) - 1; i >= 0; i-- {
		// The data is not needed, so the grace period is short.
		errs = append(errs, stopProcess(t.all[i], syscall.SIGTERM, 2*time.Second))
	}
	t.all, t.tiers = nil, map[string][]*process.Process{}
	return errors.Join(errs...)
}

// endServer ends only the server under test.
func (t *topology) endServer() error {
	var errs []error
	for _, p := range t.tiers[tierServer] {
		errs = append(errs, stopProcess(p, syscall.SIGTERM, 2*time.Second))
		t.all = slices.DeleteFunc(t.all, func(other *process.Process) bool { return other == p })
	}
	t.tiers[tierServer] = nil
	return errors.Join(errs...)
}

// ask sends Redis one command as the default user, and returns the text of the reply.
func ask(address string, args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	command := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		command += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := conn.Write([]byte(command)); err != nil {
		return "", err
	}
	return readReply(bufio.NewReader(conn))
}
