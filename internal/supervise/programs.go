package supervise

import (
	"context"
	"errors"
	"fmt"
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

// findPrograms returns the path of every program of a plan, and refuses
// servers that are missing or too old. self is this program.
func (h hosts) findPrograms(ctx context.Context, p plan.Plan, self string) (map[programAt]string, error) {
	paths := map[programAt]string{}
	redis := map[string]servers.Server{} // by host
	vectors := p.Stack.AllowsVectors()
	var wrong []error
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
			path, is, err := h.at(host.Name).findServer(ctx, p.Program)
			if p.Program.IsRedis() && err == nil {
				redis[host.Name] = is
				if vectors && !is.HasVectors() {
					err = fmt.Errorf("the stack file allows commands of vector sets (@vectors), and %s is %v, which has none: they take Redis 8.0 or newer", path, is)
				}
			}
			if err != nil && !p.Kind.Traits().Optional { // else its node says so
				wrong = append(wrong, fmt.Errorf("%s: %w", p.Node, err))
			}
			paths[at] = path
		}
	}
	if err := alike(redis); err != nil {
		wrong = append(wrong, err)
	}
	return paths, errors.Join(wrong...)
}

// findProgram returns the path of a program, and refuses a server that is missing, too old
// or another one than the stack file asks for.
func (h home) findProgram(ctx context.Context, program plan.Program) (string, error) {
	path, _, err := h.findServer(ctx, program)
	return path, err
}

// findServer is findProgram that also returns what a server is; nothing of another program.
func (h home) findServer(ctx context.Context, program plan.Program) (path string, is servers.Server, err error) {
	s, isServer := serverPrograms[program]
	if !isServer {
		path, err := h.LookPath(ctx, string(program))
		if err != nil {
			return "", is, fmt.Errorf("cannot run %q: %w", program, errors.Unwrap(err))
		}
		return path, is, nil
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
