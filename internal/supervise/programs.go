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
	only    string   // which server it has to be, where files have one name for two; empty: any
	key     string   // of the stack file, that asks for this one alone; empty: none
	version []string // arguments that make it print its version
	packet  string   // Debian's and Homebrew's package
}

// Redis comes before Valkey where either will do: a stack of an earlier version of
// Holdfast has its data from there, which Valkey cannot always read.
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

// withoutProgram is a node whose program is missing, or will not do.
type withoutProgram struct {
	node string
	why  error
	// lacking is true of a server that lacks what the stack file allows.
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

// of returns those among some nodes.
func (all withoutPrograms) of(nodes map[string]bool) (found withoutPrograms) {
	for _, n := range all {
		if nodes[n.node] {
			found = append(found, n)
		}
	}
	return found
}

// besidesRedis returns the others than redis nodes and Sentinels.
func (all withoutPrograms) besidesRedis() (found withoutPrograms) {
	for _, n := range all {
		if !isRedis(n.node) && !isSentinel(n.node) {
			found = append(found, n)
		}
	}
	return found
}

// forChange returns those that keep a change from being made which starts some redis nodes
// and Sentinels: what the others need is there, or they run.
func (all withoutPrograms) forChange(starts map[string]bool) (found withoutPrograms) {
	for _, n := range all {
		if n.lacking || starts[n.node] || !isRedis(n.node) && !isSentinel(n.node) {
			found = append(found, n)
		}
	}
	return found
}

// findPrograms returns the path of every program of a plan, and the first node of each
// program that is missing or will not do.
func (s *Supervisor) findPrograms(ctx context.Context, p plan.Plan) (map[programAt]string, withoutPrograms) {
	return s.hosts.findPrograms(ctx, p, s.cfg.Self, s.keptName(ctx))
}

// keptName is the name of the server that redis.server: auto keeps to, whatever else is
// installed: that of the stack's data. Empty: there is no data, or nobody knows.
func (s *Supervisor) keptName(ctx context.Context) string {
	is, _ := s.stackServer(ctx)
	return is.Name
}

// findPrograms is Supervisor.findPrograms. self is this program, and keep the server that
// redis.server: auto keeps to.
func (h hosts) findPrograms(ctx context.Context, p plan.Plan, self, keep string) (map[programAt]string, withoutPrograms) {
	paths := map[programAt]string{}
	var wrong withoutPrograms
	vectors := p.Stack.AllowsVectors()
	for _, host := range p.Hosts {
		if h.lacks(host.Name) {
			continue // see Supervisor.program
		}
		paths[programAt{host.Name, plan.Self}] = h.at(host.Name).self(ctx, self)
		for _, p := range host.Processes {
			at := programAt{host.Name, p.Program}
			if _, known := paths[at]; known {
				continue
			}
			path, is, err := h.at(host.Name).findServer(ctx, p.Program, keep)
			if err != nil && !p.Kind.Traits().Optional { // else its node says so
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

// checkAlike refuses hosts of a new stack that have different servers, of which one cannot
// read the other's data.
func (s *Supervisor) checkAlike(ctx context.Context) error {
	by := map[string]servers.Server{} // by host
	for _, p := range s.processes() {
		host := s.home(p.Node)
		if p.Kind != plan.Redis || s.hosts.lacks(host.name) {
			continue
		}
		if empty, err := host.empty(ctx, p.Node); !empty || err != nil {
			return nil // it has run so
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

// findProgram returns the path of a program, and refuses a server that is missing, too old
// or another one than the stack file asks for. keep is the name of the server that
// redis.server: auto keeps to; empty: it takes the first that is there.
func (h home) findProgram(ctx context.Context, program plan.Program, keep string) (string, error) {
	path, _, err := h.findServer(ctx, program, keep)
	return path, err
}

// findServer is findProgram that also returns what a server is; nothing of another program.
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

// findKept finds the one server that has written a stack's data. A distribution may have it
// under the other one's name, too.
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

// versionLimit is how long a program may take to say its version.
const versionLimit = 10 * time.Second

// askVersion has a server program say what it is.
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

// checkServer asks a server program what it is, and compares that with what is needed.
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

// self is the path of this program on the host. here is its path on this one.
func (h home) self(ctx context.Context, here string) string {
	if facts, err := h.Facts(ctx); err == nil && facts.Self != "" {
		return facts.Self
	}
	return here
}
