package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// An upgrade of Holdfast itself replaces the program on one host after the other. In between,
// supervisors of two versions look after one stack.

var upgradeHost = fault{
	name: "upgrade-host", about: "another build of Holdfast is installed on one host after the other, and takes over by 'holdfast upgrade'; in between, hosts of both versions have each other's nodes started anew",
	hosts: true, programs: true, needs: needWeb, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		if fc.stack.hosts == nil || !fc.stack.programs {
			return errNoHosts
		}
		if err := fc.requireBusyApp(ctx); err != nil {
			return err
		}
		other, err := fc.stack.otherBuild()
		if err != nil {
			return err
		}
		all := fc.stack.hosts.all
		var done []host
		for _, i := range fc.random.Perm(len(all)) {
			if err := fc.upgrade(ctx, all[i], other); err != nil {
				return err
			}
			done = append(done, all[i])
			if rest := fc.stack.hosts.except(done...); len(rest) > 0 {
				if err := fc.verifyVersionsCooperate(ctx, all[i], rest[0]); err != nil {
					return err
				}
			}
		}
		return nil
	},
}

// requireBusyApp records that the nodes that an upgrade restarts are under load.
func (fc *faultContext) requireBusyApp(ctx context.Context) error {
	nodes, err := fc.upNodes(ctx, plan.Web, "")
	if err != nil {
		return err
	}
	return fc.requireBusy(ctx, nodes...)
}

// otherBuild writes another build of the drill's program and returns its path. It behaves the same,
// but has another digest: bytes after the end of an ELF file are not loaded.
func (s *supervisedStack) otherBuild() (string, error) {
	program, err := os.ReadFile(s.self)
	if err != nil {
		return "", fmt.Errorf("make another build of the program: %w", err)
	}
	path := filepath.Join(s.base, "another.holdfast")
	return path, os.WriteFile(path, append(program, "another build"...), 0o700)
}

// installAndUpgrade is a script that replaces the program $2 by $1, as a package manager does, and
// runs ip(8) with the other arguments, for 'holdfast upgrade' in a namespace.
const installAndUpgrade = `cp "$1" "$2.new" && mv "$2.new" "$2" && shift 2 && exec ip "$@"`

// upgrading returns the command that installs a program on a host and upgrades the host to it.
func (s *supervisedStack) upgrading(one host, program string) []string {
	return slices.Concat([]string{"sh", "-c", installAndUpgrade, "sh", program, s.programFile(one)}, s.onHost(one, "upgrade"))
}

// upgrade makes another build take over on a host, and checks that it did.
func (fc *faultContext) upgrade(ctx context.Context, one host, program string) error {
	s := fc.stack
	seat := s.source.ofHost(one.name)
	before, err := seat.client.Hosts(ctx)
	if err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}

	limit := changeLimitOf(s.spec)
	// The former build is put back in the same way.
	back := step{Why: "the upgrade of " + one.name, Command: s.upgrading(one, s.self), Limit: limit, Unless: netnsDir + "/" + one.netns}
	if err := fc.undo(back); err != nil {
		return err
	}

	fc.say("upgrading %s", one.name)
	fc.recordInjection(one.name)
	fc.addTargets("supervisor") // another host leads meanwhile
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	words := s.upgrading(one, program)
	if err := run(limited, "", words[0], words[1:]...); err != nil {
		return err
	}
	took := time.Since(began)

	now, err := seat.client.Hosts(ctx)
	if err != nil {
		return err
	}
	want, err := supervise.ProgramDigest(program)
	switch {
	case err != nil:
		return err
	case now.Program != want || now.Program == before.Program:
		return fmt.Errorf("%s was upgraded to the program %s, and runs %s (before: %s)", one.name, want, now.Program, before.Program)
	case now.PID != before.PID:
		return fmt.Errorf("%s was upgraded and went from pid %d to %d: nothing was handed over", one.name, before.PID, now.PID)
	}

	led := ""
	if before.Leader == one.name {
		led = fmt.Sprintf(", led until then (now %s)", now.Leader)
	}

	restarted, err := fc.verifyRestarted(ctx, st, one)
	if err != nil {
		return err
	}
	fc.evidence("%s runs another build since %.1f s after the command, as the same process%s; started anew there: %s", one.name, took.Seconds(), led, restarted)
	return nil
}

// verifyRestarted checks that every node of the application on an upgraded host has another
// process, and returns how many there are, in words.
func (fc *faultContext) verifyRestarted(ctx context.Context, before supervise.Status, one host) (string, error) {
	now, err := fc.stack.status(ctx)
	if err != nil {
		return "", err
	}
	n := 0
	for _, was := range before.Nodes {
		if was.Host != one.name || was.Kind != plan.Web || !slices.Contains(fc.stack.loads.apps, was.App) {
			continue
		}
		if is, _ := now.Node(was.Name); is.PID == was.PID || is.State != supervise.Up {
			return "", fmt.Errorf("%s was upgraded, and %s is %s with pid %d (before: %d)", one.name, was.Name, is.State, is.PID, was.PID)
		}
		n++
	}
	return strconv.Itoa(n) + " of its application's nodes", nil
}

// verifyVersionsCooperate makes a host of each version show the stack's status and restart a node
// on the other host.
func (fc *faultContext) verifyVersionsCooperate(ctx context.Context, upgraded, former host) error {
	for _, pair := range [][2]host{{upgraded, former}, {former, upgraded}} {
		from, to := pair[0], pair[1]
		if _, err := output(ctx, "", "ip", fc.stack.onHost(from, "status")...); err != nil {
			return fmt.Errorf("%s does not tell how the stack is, while %s is of another version: %w", from.name, to.name, err)
		}
		n, err := fc.nodeToRestart(ctx, to)
		if err != nil {
			return err
		}
		if _, err := output(ctx, "", "ip", fc.stack.onHost(from, "restart", n.Name)...); err != nil {
			return fmt.Errorf("%s cannot start %s on %s anew, which is of another version: %w", from.name, n.Name, to.name, err)
		}
		st, err := fc.stack.status(ctx)
		if err != nil {
			return err
		}
		if is, _ := st.Node(n.Name); is.PID == n.PID || is.State != supervise.Up {
			return fmt.Errorf("%s started %s on %s anew, and it is %s with pid %d (before: %d)", from.name, n.Name, to.name, is.State, is.PID, n.PID)
		}
		fc.evidence("%s had %s on %s started anew", from.name, n.Name, to.name)
	}
	return nil
}

// nodeToRestart returns a node of a host whose restart no client notices: a web node, or a Sentinel
// if the host has no web node.
func (fc *faultContext) nodeToRestart(ctx context.Context, one host) (supervise.NodeStatus, error) {
	for _, kind := range []plan.Kind{plan.Web, plan.Sentinel} {
		nodes, err := fc.upNodes(ctx, kind, "")
		if err != nil {
			continue
		}
		for _, n := range nodes {
			if n.Host == one.name {
				return n, nil
			}
		}
	}
	return supervise.NodeStatus{}, fmt.Errorf("%s has no node that can be started anew: %w", one.name, errNoNode)
}
