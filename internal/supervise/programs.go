package supervise

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"holdfast/internal/plan"
)

// server is a server program that the stack is made of.
type server struct {
	names   []string // in order of preference
	version []string // arguments that make it print its version
	pattern *regexp.Regexp
	min     [2]int
	packet  string // Debian's and Homebrew's package
}

var servers = map[plan.Program]server{
	plan.HAProxy: {
		names: []string{"haproxy"}, version: []string{"-v"},
		pattern: regexp.MustCompile(`[Vv]ersion (\d+)\.(\d+)`),
		min:     [2]int{2, 4}, packet: "haproxy",
	},
	plan.RedisServer: {
		names: []string{"redis-server", "valkey-server"}, version: []string{"--version"},
		pattern: regexp.MustCompile(`v=(\d+)\.(\d+)`),
		// SENTINEL DEBUG and the multi-part append-only file came with 7.0.
		min: [2]int{7, 0}, packet: "redis-server",
	},
	plan.KeepalivedProgram: {
		names: []string{"keepalived"}, version: []string{"--version"},
		pattern: regexp.MustCompile(`v(\d+)\.(\d+)`),
		// track_file outside of VRRP came with 2.1.
		min: [2]int{2, 1}, packet: "keepalived",
	},
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
			path, err := h.at(host.Name).findProgram(ctx, p.Program)
			if err != nil && !p.Kind.Traits().Optional { // else its node says so
				wrong = append(wrong, fmt.Errorf("%s: %w", p.Node, err))
			}
			paths[at] = path
		}
	}
	return paths, errors.Join(wrong...)
}

func (h home) findProgram(ctx context.Context, program plan.Program) (string, error) {
	s, isServer := servers[program]
	if !isServer {
		path, err := h.LookPath(ctx, string(program))
		if err != nil {
			return "", fmt.Errorf("cannot run %q: %w", program, errors.Unwrap(err))
		}
		return path, nil
	}
	for _, name := range s.names {
		if path, err := h.LookPath(ctx, name); err == nil {
			return path, h.checkServer(ctx, s, path)
		}
	}
	return "", fmt.Errorf("%s is missing; install it with scripts/setup or 'apt-get install %s'", s.names[0], s.packet)
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

// checkServer compares the version of a server program with the oldest that will do.
func (h home) checkServer(ctx context.Context, s server, path string) error {
	out, err := h.askVersion(ctx, s, path)
	if err != nil {
		return err
	}
	m := s.pattern.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("%s does not say its version but %.80q", path, out)
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	if major < s.min[0] || major == s.min[0] && minor < s.min[1] {
		return fmt.Errorf("%s is version %d.%d, and %d.%d or newer is needed; install a newer %s", path, major, minor, s.min[0], s.min[1], s.packet)
	}
	return nil
}

// self is the path of this program on the host. here is its path on this one.
func (h home) self(ctx context.Context, here string) string {
	if facts, err := h.Facts(ctx); err == nil && facts.Self != "" {
		return facts.Self
	}
	return here
}
