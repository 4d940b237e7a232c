package supervise

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/servers"
	"holdfast/internal/stack"
)

// This file tells somebody who looks from outside what the state directory and the machine know
// about a stack, whether a supervisor runs or not. It changes nothing.

// Inspection is what the state directory says about a stack.
type Inspection struct {
	// Plan is what runs; in the middle of a change, some of it is still the former plan. If
	// nothing runs, it is what 'up' would carry out. It has the stack's real ports, and its real
	// secrets if there are any.
	Plan plan.Plan
	// Differs is true if something runs by another stack file than the given one.
	Differs bool
	// Change is a recorded change that has not ended; zero: there is none.
	Change ChangeStatus
	// Supervisor is the pid of the process that holds the state directory; 0: none does.
	Supervisor int
	// Redis is what is known about the master. Rewriting is true if a supervisor ended while it
	// rewrote the Sentinels' files.
	Redis     plan.Replication
	Rewriting bool
	// Ports has the ports of the nodes, and of plan.PortRedisMaster.
	Ports map[string]int
	// Drained has the nodes that the operator has taken out of rotation.
	Drained map[string]bool
	// Nodes has all records of nodes by name, also of nodes that the stack no longer has.
	Nodes map[string]Recorded
}

// Recorded is what the last supervisor recorded about a node.
type Recorded struct {
	Process machine.ID // with pid 0: none
	Want    string     // up, down or paused
	State   State
	Since   time.Time
	Crashes int
	Address string
	// Outdated is true if the node was started with other settings than the plan has now.
	Outdated bool
}

// NodeProcesses returns the processes of the nodes of a state directory, according to their
// records.
func NodeProcesses(stateDir string) (map[machine.ID]bool, error) {
	ctx, here := context.Background(), hostsAt(stateDir).here
	defer here.Close()
	nodes, err := here.recorded(ctx)
	if err != nil {
		return nil, err
	}
	all := map[machine.ID]bool{}
	for _, node := range nodes {
		r, err := here.readRecord(ctx, node)
		if err != nil {
			return nil, err
		}
		if r.Process.PID != 0 {
			all[r.Process] = true
		}
	}
	return all, nil
}

// Inspect looks at the state directory of a stack.
func Inspect(s stack.Stack, baseDir, stateDir string) (Inspection, error) {
	ctx, d, all := context.Background(), dirAt(stateDir), hostsAt(stateDir)
	k, err := d.readState()
	if err != nil {
		return Inspection{}, err
	}

	seen := Inspection{Redis: k.Redis.Replication, Rewriting: k.Redis.Rewriting, Nodes: map[string]Recorded{}}
	if Locked(stateDir) {
		seen.Supervisor = d.lockHolder()
	}

	r, file, known, err := d.readRunning()
	if err != nil {
		return Inspection{}, err
	}
	seen.Drained = r.Overrides.Drained
	if change, there, err := d.readChange(); err != nil {
		return Inspection{}, err
	} else if there && change.Result == nil {
		seen.Change = ChangeStatus{ID: change.ID, Kind: change.Kind, Began: change.Began}
	}

	runs, err := all.anyAlive(ctx, everyNode)
	if err != nil {
		return Inspection{}, err
	}
	if seen.Ports = k.Ports; known && runs {
		seen.Plan, seen.Differs = r.Plan, FileDigest(file, r.BaseDir) != FileDigest(s, baseDir)
	} else if err := seen.plan(r.Overrides.DropSuperseded(file, s).Apply(s), baseDir, stateDir, k); err != nil {
		return Inspection{}, err
	}

	host := mergeHosts(seen.Plan.Hosts)
	specs := map[string]plan.Process{}
	for _, p := range host.Processes {
		specs[p.Node] = p
	}

	nodes, err := all.recorded(ctx)
	if err != nil {
		return Inspection{}, err
	}
	for _, node := range nodes {
		r, err := all.hostWithRecord(ctx, node).readRecord(ctx, node)
		if err != nil {
			return Inspection{}, err
		}
		p, planned := specs[node]
		seen.Nodes[node] = Recorded{
			Process: r.Process, Want: string(r.Want), State: r.State, Since: r.Since, Crashes: r.Crashes, Address: r.Address,
			Outdated: planned && r.Plan != "" && r.Plan != digestOf(p, host.Files),
		}
	}
	return seen, nil
}

// plan makes the plan that 'up' would carry out. The plan depends on the limit of open files,
// which may differ between this process and the supervisor.
func (i *Inspection) plan(s stack.Stack, baseDir, stateDir string, k persistedState) error {
	facts, each, err := hostsAt(stateDir).facts(context.Background(), s, baseDir, k)
	if err != nil {
		return err
	}
	if limit := (unix.Rlimit{}); i.Supervisor != 0 && processLimit(i.Supervisor, &limit) == nil {
		for name, host := range each {
			host.Files = int(min(limit.Max, 1<<30))
			each[name] = host
		}
	}
	i.Ports = facts.Ports
	i.Plan, err = plan.Make(s, facts, each)
	return err
}

// Holder reports whether a process listens on an address, and returns its name if that can be
// seen.
func Holder(address string) (who string, held bool) {
	ctx, here := context.Background(), hostsAt("").here
	if err := here.Free(ctx, address); !errors.Is(err, machine.ErrTaken) {
		return "", false
	}
	_, port := splitAddress(address)
	if who = here.Holder(ctx, atoi(port)); who == "" {
		who = "a process of another user"
	}
	return who, true
}

// Installed returns a server program as it is on the disk of this machine now, with its path;
// zero if the program is no server. It returns an error if the server is missing or unsuitable.
// For redis.server: auto it looks for the server that wrote the data in the state directory.
func Installed(ctx context.Context, program plan.Program, stateDir string) (servers.Server, string, error) {
	if _, known := serverPrograms[program]; !known {
		return servers.Server{}, "", nil
	}
	data, _ := dirAt(stateDir).recordedServer(ctx)
	path, is, err := hostsAt("").here.findServer(ctx, program, data.Name)
	return is, path, err
}
