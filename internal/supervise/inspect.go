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

// What the state directory and the machine tell of a stack to somebody who looks
// from outside, whether a supervisor runs or not. Nothing here changes anything.

// Inspection is what the state directory tells of a stack.
type Inspection struct {
	// Plan is what runs, in the midst of a change partly that of before. Where nothing
	// runs it is what 'up' would carry out. It has the stack's own secrets, where
	// there are any, and ports.
	Plan plan.Plan
	// Differs is true when something runs and the stack file is another one now.
	Differs bool
	// Change is a change that was begun and is written down; zero: none is.
	Change ChangeStatus
	// Supervisor is the pid of the process that holds the state directory; 0:
	// none does.
	Supervisor int
	// Redis is what is known of the master, and Rewriting is true when a
	// supervisor ended while it wrote the Sentinels' files anew.
	Redis     plan.Replication
	Rewriting bool
	// Ports are those of the nodes, and plan.PortRedisMaster.
	Ports map[string]int
	// Drained are the nodes that their operator has taken out of rotation.
	Drained map[string]bool
	// Nodes are the records of every node that there is one of, also of nodes that
	// the stack does not have any more, by name.
	Nodes map[string]Recorded
}

// Recorded is what the last supervisor wrote down of a node.
type Recorded struct {
	Process machine.ID // of pid 0: none
	Want    string     // up, down or paused
	State   State
	Since   time.Time
	Crashes int
	Address string
	// Outdated is true when the node was started with other settings than the plan
	// has now.
	Outdated bool
}

// NodeProcesses are the processes of the nodes of a state directory, by their records.
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
	k, err := d.readKept()
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
	runs, err := all.anyAlive(ctx, anyKind)
	if err != nil {
		return Inspection{}, err
	}
	if seen.Ports = k.Ports; known && runs {
		seen.Plan, seen.Differs = r.Plan, FileDigest(file, r.BaseDir) != FileDigest(s, baseDir)
	} else if err := seen.plan(r.Overrides.Rebase(file, s).On(s), baseDir, stateDir, k); err != nil {
		return Inspection{}, err
	}
	host := together(seen.Plan.Hosts)
	specs := map[string]plan.Process{}
	for _, p := range host.Processes {
		specs[p.Node] = p
	}
	nodes, err := all.recorded(ctx)
	if err != nil {
		return Inspection{}, err
	}
	for _, node := range nodes {
		r, err := all.with(ctx, node).readRecord(ctx, node)
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

// plan makes the plan that 'up' would carry out. It depends on the limit of open
// files, and this process may have another one than the supervisor.
func (i *Inspection) plan(s stack.Stack, baseDir, stateDir string, k kept) error {
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

// Holder reports whether somebody listens at an address, and names the process if
// that can be seen.
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

// Installed is a server program as it is on the disk of this machine now, with its path;
// nothing of a program that is no server. The error says that it is missing, or will not
// do. Of redis.server: auto it is the one that the data in the state directory is of.
func Installed(ctx context.Context, program plan.Program, stateDir string) (servers.Server, string, error) {
	if _, known := serverPrograms[program]; !known {
		return servers.Server{}, "", nil
	}
	data, _ := dirAt(stateDir).recordedServer(ctx)
	path, is, err := hostsAt("").here.findServer(ctx, program, data.Name)
	return is, path, err
}
