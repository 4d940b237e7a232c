package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/servers"
)

// server is a server program that the stack is made of.
type server struct {
	files   []string // names of the program's file, in order of preference
	only    string   // the server that it has to be, where a file name may stand for two; empty: any
	key     string   // the key of the stack file that asks for only this server; empty: none
	version []string // arguments that make the program print its version
	packet  string   // name of the package in Debian and Homebrew
}

// Redis comes before Valkey where either is allowed: the data of a stack of an earlier Holdfast
// version is from Redis, and Valkey cannot always read it.
var serverPrograms = map[plan.Program]server{
	plan.HAProxy:           {files: []string{"haproxy"}, version: []string{"-v"}, packet: "haproxy"},
	plan.RedisServer:       {files: []string{"redis-server", "valkey-server"}, version: []string{"--version"}, packet: "redis-server"},
	plan.OnlyRedis:         {files: []string{"redis-server"}, only: servers.Redis, key: "redis.server: redis", version: []string{"--version"}, packet: "redis-server"},
	plan.OnlyValkey:        {files: []string{"valkey-server"}, only: servers.Valkey, key: "redis.server: valkey", version: []string{"--version"}, packet: "valkey-server"},
	plan.KeepalivedProgram: {files: []string{"keepalived"}, version: []string{"--version"}, packet: "keepalived"},
}

// programAt is a program on a host, by the host's name.
type programAt struct {
	host    string
	program plan.Program
}

// withoutProgram is a node whose program is missing or unsuitable.
type withoutProgram struct {
	node string
	why  error
	// lacking is true if the server lacks a feature that the stack file allows.
	lacking bool
}

type withoutPrograms []withoutProgram

func (all withoutPrograms) err() error {
	var wrong []error
	for _, n := range all {
		wrong = append(wrong, fmt.Errorf("%s: %w", n.node, n.why))
	}
	return errors.Join(wrong...)
}

// of returns the entries of some nodes.
func (all withoutPrograms) of(nodes map[string]bool) (found withoutPrograms) {
	for _, n := range all {
		if nodes[n.node] {
			found = append(found, n)
		}
	}
	return found
}

// besidesRedis returns the entries that are not of redis nodes or Sentinels.
func (all withoutPrograms) besidesRedis() (found withoutPrograms) {
	for _, n := range all {
		if !isRedisOrSentinel(n.node) {
			found = append(found, n)
		}
	}
	return found
}

// forChange returns the entries that prevent a change. starts are the redis nodes and Sentinels
// that the change starts. The others need no program now: they already run.
func (all withoutPrograms) forChange(starts map[string]bool) (found withoutPrograms) {
	for _, n := range all {
		if n.lacking || starts[n.node] || !isRedisOrSentinel(n.node) {
			found = append(found, n)
		}
	}
	return found
}

// findPrograms returns the path of every program of a plan. For each program that is missing or
// unsuitable it returns the first node that needs it.
func (s *Supervisor) findPrograms(ctx context.Context, p plan.Plan) (map[programAt]string, withoutPrograms) {
	return s.hosts.findPrograms(ctx, p, s.cfg.Self, s.keptName(ctx))
}

// keptName returns the name of the server that redis.server: auto stays with, whatever else is
// installed: the server that wrote the stack's data. Empty: there is no data, or nobody knows.
func (s *Supervisor) keptName(ctx context.Context) string {
	is, _ := s.stackServer(ctx)
	return is.Name
}

// findPrograms is Supervisor.findPrograms. self is the path of this program, and keep the
// server that redis.server: auto stays with.
func (h hosts) findPrograms(ctx context.Context, p plan.Plan, self, keep string) (map[programAt]string, withoutPrograms) {
	paths := map[programAt]string{}
	var wrong withoutPrograms
	vectors := p.Stack.AllowsVectors()
	for _, host := range p.Hosts {
		if h.isAbsent(host.Name) {
			continue // see Supervisor.program
		}
		paths[programAt{host.Name, plan.Self}] = h.at(host.Name).self(ctx, self)
		for _, p := range host.Processes {
			at := programAt{host.Name, p.Program}
			if _, known := paths[at]; known {
				continue
			}
			path, is, err := h.at(host.Name).findServer(ctx, p.Program, keep)
			if err != nil && !p.Kind.Traits().Optional { // an optional node reports it itself
				wrong = append(wrong, withoutProgram{node: p.Node, why: err})
			}
			if p.Program.IsRedis() && err == nil && vectors && !is.HasVectors() {
				wrong = append(wrong, withoutProgram{node: p.Node, lacking: true, why: fmt.Errorf("the stack file allows commands of vector sets (@vectors), and %s is %v, which has none: they take Redis 8.0 or newer", path, is)})
			}
			paths[at] = path
		}
	}
	return paths, wrong
}

// checkAlike returns an error if the hosts of a new stack have different servers, and one
// server cannot read the other's data.
func (s *Supervisor) checkAlike(ctx context.Context) error {
	by := map[string]servers.Server{} // by host
	for _, p := range s.processes() {
		host := s.home(p.Node)
		if p.Kind != plan.Redis || s.hosts.isAbsent(host.name) {
			continue
		}
		if empty, err := host.empty(ctx, p.Node); !empty || err != nil {
			return nil // the stack has already run like this
		}
		if is, known := host.serverAt(ctx, p.Program, s.program(p.Node, p.Program)); known {
			by[host.name] = is
		}
	}
	for _, one := range slices.Sorted(maps.Keys(by)) {
		for _, other := range slices.Sorted(maps.Keys(by)) {
			if why := by[one].CannotRead(by[other]); why != "" && by[one].Name != by[other].Name {
				return fmt.Errorf("host %s has %v and host %s has %v: %s; install the same server on all hosts, or name one that all have (redis.server)", one, by[one], other, by[other], why)
			}
		}
	}
	return nil
}

// findProgram returns the path of a program. It returns an error if a server is missing, too
// old, or another one than the stack file asks for. keep is the name of the server that
// redis.server: auto stays with; empty: it takes the first one that is installed.
func (h home) findProgram(ctx context.Context, program plan.Program, keep string) (string, error) {
	path, _, err := h.findServer(ctx, program, keep)
	return path, err
}

// findServer is findProgram, and also returns what a server is; zero for other programs.
func (h home) findServer(ctx context.Context, program plan.Program, keep string) (path string, is servers.Server, err error) {
	s, isServer := serverPrograms[program]
	if !isServer {
		path, err := h.LookPath(ctx, string(program))
		if err != nil {
			return "", is, fmt.Errorf("cannot run %q: %w", program, errors.Unwrap(err))
		}
		return path, is, nil
	}
	if program == plan.RedisServer && keep != "" {
		return h.findKept(ctx, s, keep)
	}
	for _, name := range s.files {
		if path, err := h.LookPath(ctx, name); err == nil {
			is, err = h.checkServer(ctx, s, path)
			return path, is, err
		}
	}
	switch {
	case s.key != "":
		err = fmt.Errorf("%s is missing, and the stack file asks for it (%s); install it ('apt-get install %s'), or have Holdfast take what is there (redis.server: auto)", s.files[0], s.key, s.packet)
	case len(s.files) > 1:
		err = fmt.Errorf("%s is missing, and %s, too; install one of them: with scripts/setup, or 'apt-get install %s'", s.files[0], s.files[1], s.packet)
	default:
		err = fmt.Errorf("%s is missing; install it with scripts/setup or 'apt-get install %s'", s.files[0], s.packet)
	}
	return "", is, err
}

// findKept finds the one server that wrote a stack's data. A distribution may also install it
// under the name of the other server.
func (h home) findKept(ctx context.Context, s server, keep string) (string, servers.Server, error) {
	file := strings.ToLower(keep) + "-server"
	for _, name := range append([]string{file}, s.files...) {
		path, err := h.LookPath(ctx, name)
		if err != nil {
			continue
		}
		is, err := h.checkServer(ctx, s, path)
		if is.Name == keep || err != nil && name == file {
			return path, is, err
		}
	}
	return "", servers.Server{}, fmt.Errorf("%s is missing, and the stack's data is of %s; install it ('apt-get install %[1]s'), or name the server that is to take the data over in the stack file (redis.server)", file, keep)
}

// versionLimit is how long a program may take to print its version.
const versionLimit = 10 * time.Second

// askVersion runs a server program to print its version, and returns the output.
func (h home) askVersion(ctx context.Context, s server, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	out, err := h.Run(ctx, path, s.version...)
	if err == nil && out.Code != 0 {
		err = errors.New(out.How)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return out.Text, nil
}

// checkServer asks a server program for its version, and returns an error if it does not meet
// the requirements.
func (h home) checkServer(ctx context.Context, s server, path string) (servers.Server, error) {
	out, err := h.askVersion(ctx, s, path)
	if err != nil {
		return servers.Server{}, err
	}
	is, ok := servers.Parse(string(out))
	switch {
	case !ok:
		return is, fmt.Errorf("%s does not say its version but %.80q", path, out)
	case s.only != "" && is.Name != s.only:
		return is, fmt.Errorf("%s is %v, and the stack file asks for %s (%s); install it ('apt-get install %s'), or have Holdfast take what is there (redis.server: auto)", path, is, s.only, s.key, s.packet)
	}
	if oldest := is.TooOld(); oldest != "" {
		return is, fmt.Errorf("%s is %v, and %s or newer is needed; install a newer %s", path, is, oldest, s.packet)
	}
	return is, nil
}

// self returns the path of this program on the host. here is its path on this machine.
func (h home) self(ctx context.Context, here string) string {
	if facts, err := h.Facts(ctx); err == nil && facts.Self != "" {
		return facts.Self
	}
	return here
}
