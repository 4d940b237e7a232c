package drill

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	part "holdfast/internal/host"
	"holdfast/internal/stack"
)

// On each host of the drill's own runs what runs on a machine. 'holdfast up' on the first host
// creates the stack, and the others join with the tokens that it hands out.

// virtualNumber is the last number of the first virtual address in the drill's network.
const virtualNumber = 240

// text returns the part of the stack file that declares the hosts.
func (h *hosts) text(declared []stack.Host) string {
	var text strings.Builder
	text.WriteString("hosts:\n")
	for i, d := range declared {
		fmt.Fprintf(&text, "  %s: {address: %s", d.Name, h.all[i].address)
		if len(d.Only) > 0 {
			fmt.Fprintf(&text, ", only: [%s]", strings.Join(d.Only, ", "))
		}
		text.WriteString("}\n")
	}
	return text.String()
}

// virtualText returns the part of the entry that declares the virtual addresses: as many as were
// declared, in the hosts' network.
func (h *hosts) virtualText(declared stack.Virtual) string {
	if !declared.Enabled() {
		return ""
	}
	base := h.machine.As4()
	var all []string
	for i := range declared.Addresses {
		base[3] = byte(virtualNumber + i)
		all = append(all, netip.AddrFrom4(base).String()+"/24")
	}
	return fmt.Sprintf("\n  virtual: {address: [%s], advertise: %v, router: %d}", strings.Join(all, ", "), declared.Advertise, declared.Router)
}

// addLimit is how long the stack may take until a host can join.
const addLimit = 15 * time.Second

// startHosts creates the stack on the first host and makes the others join.
func (s *supervisedStack) startHosts(ctx context.Context) error {
	for i, one := range s.hosts.all {
		seat := s.source.endpoints[i]
		if i == 0 {
			if _, err := output(ctx, "", "ip", s.onHost(one, "up", "-d")...); err != nil {
				return err
			}
			continue
		}
		// 'host add' may fail for a while: after a host has joined, the leader's supervisor starts
		// over.
		var line string
		var err error
		late := awaitEvery(ctx, 200*time.Millisecond, "", addLimit, func() bool {
			line, err = output(ctx, "", s.self, "host", "add", one.name, "--state", s.source.endpoints[0].state, "--file", s.file)
			return err == nil
		})
		if late != nil {
			return cmp.Or(err, late)
		}
		token := strings.TrimPrefix(strings.TrimSpace(line), "holdfast join ")
		// 'join' takes no --file, and what it starts reads the stack file where it runs.
		if _, err := outputIn(ctx, s.base, "", "ip", s.runOn(one, "join", token, "-d")...); err != nil {
			return fmt.Errorf("%s (%s) does not join: %w", one.name, seat.state, err)
		}
	}
	return nil
}

// onHost returns the arguments of ip(8) that run a holdfast command on a host. The command gets
// the stack file: without it, a holdfast.yaml in the working directory would count, which is
// another stack's.
func (s *supervisedStack) onHost(one host, args ...string) []string {
	return append(s.runOn(one, args...), "--file", s.file)
}

// runOn is onHost without the stack file.
func (s *supervisedStack) runOn(one host, args ...string) []string {
	program := s.self
	if s.programs {
		program = filepath.Join(s.hostPrograms(), programName)
	}
	return slices.Concat([]string{"netns", "exec", one.netns}, s.programsOf(one), s.clockOf(one), []string{program}, args, []string{"--state", s.stateOf(one.name)})
}

// Each host may have a program file of its own, which can be replaced on that host alone. Its path
// is the same on all hosts, as on machines: 'ip netns exec' runs the command in a mount namespace,
// where a directory of the host is mounted at that path.

// programName is the name of the program's file on such a host.
const programName = "holdfast"

// hostPrograms returns the program's directory as a host sees it. programDir returns the same
// directory as this machine sees it.
func (s *supervisedStack) hostPrograms() string       { return filepath.Join(s.base, "programs") }
func (s *supervisedStack) programDir(one host) string { return s.stateOf(one.name) + ".programs" }
func (s *supervisedStack) programFile(one host) string {
	return filepath.Join(s.programDir(one), programName)
}

// withPrograms is a script that mounts directory $1 at $2 and runs the rest of its arguments.
const withPrograms = `mount --bind "$1" "$2" && shift 2 && exec "$@"`

// programsOf returns the words before a command on a host that give it the host's program file.
func (s *supervisedStack) programsOf(one host) []string {
	if !s.programs {
		return nil
	}
	return []string{"sh", "-c", withPrograms, "sh", s.programDir(one), s.hostPrograms()}
}

// installPrograms gives each host its own copy of the program.
func (s *supervisedStack) installPrograms() error {
	program, err := os.ReadFile(s.self)
	if err != nil {
		return fmt.Errorf("copy the program for the hosts: %w", err)
	}
	if err := os.Mkdir(s.hostPrograms(), 0o700); err != nil {
		return err
	}
	for _, one := range s.hosts.all {
		if err := os.Mkdir(s.programDir(one), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(s.programFile(one), program, 0o700); err != nil {
			return fmt.Errorf("copy the program for %s: %w", one.name, err)
		}
	}
	return nil
}

// startHostStep returns the step that starts the holdfast process of a host again, as a host does
// that boots.
func (s *supervisedStack) startHostStep(one host, why string) step {
	return step{
		Why: why, Command: append([]string{"ip"}, s.onHost(one, "up", "-d")...), Limit: s.startLimit(),
		Claimed: s.stateOf(one.name), Unless: netnsDir + "/" + one.netns,
	}
}

// whyHostsUnwell returns what is wrong with the hosts of a stack; empty: all of them are up, have a
// vote, and reach the leader, and each virtual address is on exactly one of them.
func (s *supervisedStack) whyHostsUnwell(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, s := range s.source.endpoints {
		if !part.Claimed(s.state) {
			return "no process of Holdfast runs on " + s.host
		}
	}
	if why := s.missingHost(ctx); why != "" {
		return why
	}
	for _, address := range s.spec.Entry.Virtual.Bare() {
		holders, err := s.hosts.holders(ctx, address)
		if err != nil {
			return err.Error()
		}
		if len(holders) != 1 {
			return fmt.Sprintf("%d hosts have the address %s", len(holders), address)
		}
	}
	return ""
}

// missingHost returns which host does not take part, in words; empty: each of them does.
func (s *supervisedStack) missingHost(ctx context.Context) string {
	v, err := s.client().Hosts(ctx)
	if err != nil {
		return err.Error()
	}
	for _, s := range v.Hosts {
		if !s.Votes || !s.Reachable {
			return s.Name + " does not take part"
		}
	}
	if all := s.stackHosts().all; len(v.Hosts) < len(all) {
		return fmt.Sprintf("the stack has %d hosts of %d", len(v.Hosts), len(all))
	}
	return ""
}

// holders returns the hosts that have an address.
func (h *hosts) holders(ctx context.Context, address string) (all []host, err error) {
	for _, one := range h.all {
		out, err := output(ctx, "", "ip", "-n", one.netns, "-oneline", "-4", "address", "show", "dev", hostLink)
		if err != nil {
			return nil, err
		}
		if strings.Contains(out, " "+address+"/") {
			all = append(all, one)
		}
	}
	return all, nil
}
