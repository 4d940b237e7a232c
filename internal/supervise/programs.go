package supervise

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
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
}

// sbin are directories that a user's PATH may lack.
var sbin = []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin"}

// lookPath finds a program on PATH or where the distributions put servers.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	if !errors.Is(err, exec.ErrNotFound) || filepath.Base(name) != name {
		return "", err
	}
	for _, dir := range sbin {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// findPrograms answers the path of every program of the plan, and refuses
// servers that are missing or too old.
func findPrograms(h plan.Host, self string) (map[plan.Program]string, error) {
	paths := map[plan.Program]string{plan.Self: self}
	var wrong []error
	for _, p := range h.Processes {
		if _, known := paths[p.Program]; known {
			continue
		}
		path, err := findProgram(p.Program)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", p.Node, err))
		}
		paths[p.Program] = path
	}
	return paths, errors.Join(wrong...)
}

func findProgram(program plan.Program) (string, error) {
	s, isServer := servers[program]
	if !isServer {
		path, err := lookPath(string(program))
		if err != nil {
			return "", fmt.Errorf("cannot run %q: %w", program, errors.Unwrap(err))
		}
		return path, nil
	}
	for _, name := range s.names {
		if path, err := lookPath(name); err == nil {
			return path, s.check(path)
		}
	}
	return "", fmt.Errorf("%s is missing; install it with scripts/setup or 'apt-get install %s'", s.names[0], s.packet)
}

// check compares the program's version with the oldest that will do.
func (s server) check(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, s.version...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", path, err)
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
