package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// Facts about the whole stack are in the supervisor's own state directory (state.go). What
// belongs to one node, its files, its data and its log, is on the node's host. It is reached
// only through the host's machine, which may be another computer than this one.

// home is a host of the stack as its supervisor uses it.
type home struct {
	machine.Machine
	name string // empty for the one host of a stack without hosts
}

// hosts holds the hosts of a stack.
type hosts struct {
	// here is this machine, with the supervisor's own state directory.
	here home
	// named holds the stack's hosts by name. If it is empty, everything is here.
	named map[string]home
	// absent holds the hosts that are away or not well, since the supervisor began or a change
	// found them so. What runs there is not known.
	absent *absence
	// several is true for a stack of several hosts that this host leads. begun is true if that
	// stack has been up before: then it goes on without a host that is not well.
	several, begun bool
	// apart is true where the absent hosts have supervisors of their own, which look after what
	// runs there (in pods).
	apart bool
	// self is the path of this program on hosts that do not report a path of their own; empty if
	// not known.
	self string
	// claims holds the ports that the supervisor has chosen; nil for a caller that only reads.
	claims *claims
	// secret is Config.Secret.
	secret func(name string) (string, error)
}

// isAbsent reports whether a host is absent. What cannot be done there now is done before a node of
// the host starts, or once the host is back: see Supervisor.catchUp.
func (h hosts) isAbsent(name string) bool { return h.absent.has(name) }

// absence is a set of absent hosts. It is safe for concurrent use; nil is the empty set.
type absence struct {
	mu    sync.Mutex
	hosts map[string]bool
}

func (a *absence) has(name string) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hosts[name]
}

func (a *absence) any() bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.hosts) > 0
}

func (a *absence) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hosts[name] = true
}

func (a *absence) names() []string {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.hosts))
}

func (a *absence) end(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.hosts, name)
}

// severalHosts opens the hosts of a stack of several that this host leads, and notes which of
// them are away.
func severalHosts(ctx context.Context, cfg Config) hosts {
	h := hostsAt(cfg.StateDir)
	h.several, h.self = true, cfg.Self
	h.named, h.absent = map[string]home{}, &absence{hosts: map[string]bool{}}
	var looking sync.WaitGroup
	for _, place := range cfg.Hosts {
		host := home{cfg.Machine(place), place.Name}
		h.named[place.Name] = host
		looking.Go(func() {
			if !host.Present(ctx) {
				h.absent.add(place.Name)
			}
		})
	}
	looking.Wait()
	return h
}

// hostsAt returns the one host of a state directory on this machine, for a caller that reads a
// stack from outside.
func hostsAt(stateDir string) hosts {
	return hosts{here: home{Machine: machine.NewLocal(stateDir)}}
}

// openHosts opens the hosts of a stack that are all looked after from this machine.
func openHosts(cfg Config, places []plan.Place) hosts {
	open := cfg.Machine
	if open == nil {
		open = func(plan.Place) machine.Machine { return machine.NewLocal(cfg.StateDir) }
	}
	h := hostsAt(cfg.StateDir)
	h.self = cfg.Self
	h.named = map[string]home{}
	for _, place := range places { // the last place of a name counts: the host may have moved
		if before, open := h.named[place.Name]; open {
			_ = before.Close() // nothing was done there yet
		}
		h.named[place.Name] = home{open(place), place.Name}
	}
	return h
}

// at returns the host of that name, or this machine if there is none.
func (h hosts) at(name string) home {
	if host, named := h.named[name]; named {
		return host
	}
	return h.here
}

// all returns the hosts that are not absent, ordered by name. Several of them may share one
// state directory.
func (h hosts) all() []home {
	if len(h.named) == 0 {
		return []home{h.here}
	}
	var all []home
	for _, name := range slices.Sorted(maps.Keys(h.named)) {
		if !h.isAbsent(name) {
			all = append(all, h.named[name])
		}
	}
	return all
}

// close ends what the hosts do in the background.
func (h hosts) close() error {
	h.claims.close()
	err := h.here.Close()
	for _, host := range h.named {
		err = errors.Join(err, host.Close())
	}
	return err
}

// home returns the host of a node. If the node has left the stack, that is the host with its
// record.
func (s *Supervisor) home(node string) home {
	if len(s.hosts.named) == 0 {
		return s.hosts.here
	}
	s.mu.RLock()
	host := hostOf(s.plan, node)
	s.mu.RUnlock()
	if host != "" {
		return s.hosts.at(host)
	}
	return s.hosts.hostWithRecord(s.ctx, node)
}

// hostOf returns the name of the host that a node has in a plan, or "" if it is not in the plan.
func hostOf(p plan.Plan, node string) string {
	for _, h := range p.Hosts {
		if slices.ContainsFunc(h.Processes, func(p plan.Process) bool { return p.Node == node }) {
			return h.Name
		}
	}
	return ""
}

// home returns the node's host.
func (n *node) home() home { return n.sup.home(n.spec().Node) }

// hostWithRecord returns the host that has the record of a node, or this machine if none has it.
func (h hosts) hostWithRecord(ctx context.Context, node string) home {
	for _, host := range h.all() {
		if _, err := host.Stat(ctx, recordFile(node)); err == nil {
			return host
		}
	}
	return h.here
}

// want is the state that the operator wants of a node.
type want string

const (
	wantUp      want = "up"
	wantDown    want = "down"
	wantPaused  want = "paused"
	processFile      = plan.RecordFile
)

// record is what outlives the supervisor about one node: nodes/NODE/process.json.
type record struct {
	Process machine.ID `json:"process"`
	// Plan is a digest of what was started. A node whose plan has changed is restarted.
	Plan    string `json:"plan"`
	Want    want   `json:"want"`
	Address string `json:"address"`
	// State is the last state that the node settled in (up, paused or down), and Since is when.
	// Restarts and Crashes are as in NodeStatus.
	State    State     `json:"state,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Restarts int       `json:"restarts,omitempty"`
	Crashes  int       `json:"crashes,omitempty"`
	// Tokens is a digest of the tokens file that the process has read; empty if it has none, or
	// if that is not known.
	Tokens string `json:"tokens,omitempty"`
}

// inHome returns the name of a node's file, relative to the state directory of its host.
func inHome(node string, elem ...string) string {
	return path.Join(append([]string{"nodes", node}, elem...)...)
}

// recordFile returns the name of the file of a node's record.
func recordFile(node string) string { return inHome(node, processFile) }

// nodeOf returns the name of the node that a file in a node's directory belongs to.
func nodeOf(name string) string { return path.Base(path.Dir(name)) }

func (h home) writeJSON(ctx context.Context, name string, v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	return h.Write(ctx, machine.File{Name: name, Mode: 0o600, Content: b})
}

// encode returns a value as the supervisor's files hold it: indented JSON.
func encode(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}

// decode parses the content b of such a file into v, where err is the error of reading it. If
// the file is missing, v stays as it is. A file that cannot be parsed is a *damagedError.
func decode(path string, b []byte, err error, v any) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return &damagedError{path, err}
	}
	return nil
}

// damagedError is the error of a file that was read and cannot be parsed.
type damagedError struct {
	path string
	why  error
}

func (e *damagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.path, e.why) }
func (e *damagedError) Unwrap() error { return e.why }

// readJSON reads a file into v; if the file is missing, v stays as it is. A file that cannot be
// parsed is a *damagedError.
func (h home) readJSON(ctx context.Context, name string, v any) error {
	b, err := h.Read(ctx, name)
	return decode(h.Path(name), b, err, v)
}

// has reports whether there is a file of that name.
func (h home) has(ctx context.Context, name string) bool {
	_, err := h.Stat(ctx, name)
	return err == nil
}

// writeFile writes a file of the plan.
func (h home) writeFile(ctx context.Context, f plan.File) error {
	return h.Write(ctx, machine.File{Name: f.Path, Mode: fs.FileMode(f.Mode), Content: []byte(f.Content)})
}

func (h home) readRecord(ctx context.Context, node string) (record, error) {
	var r record
	err := h.readJSON(ctx, recordFile(node), &r)
	return r, err
}

func (h home) writeRecord(ctx context.Context, node string, r record) error {
	return h.writeJSON(ctx, recordFile(node), r)
}

// recorded returns the nodes that have a record, ordered by name. Nodes that have left the stack
// are among them.
func (h home) recorded(ctx context.Context) (nodes []string, err error) {
	names, err := h.Glob(ctx, recordFile("*"))
	for _, name := range names {
		nodes = append(nodes, nodeOf(name))
	}
	return nodes, err
}

// recorded is home.recorded for all hosts.
func (h hosts) recorded(ctx context.Context) (nodes []string, err error) {
	for _, host := range h.all() {
		there, err := host.recorded(ctx)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, there...)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes), nil
}

// ForgetStopped removes the records of the nodes that do not run from a state directory. A host
// that joins a stack anew calls it, because its nodes are to be up even if they were stopped
// before.
func ForgetStopped(ctx context.Context, stateDir string) error {
	here := hostsAt(stateDir).here
	defer here.Close()
	nodes, err := here.recorded(ctx)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		alive, err := here.alive(ctx, node)
		if err != nil {
			return err
		}
		if alive {
			continue
		}
		if err := here.Remove(ctx, recordFile(node)); err != nil {
			return err
		}
	}
	return nil
}

// alive reports whether the process of a node's record runs.
func (h home) alive(ctx context.Context, node string) (bool, error) {
	r, err := h.readRecord(ctx, node)
	if err != nil {
		return false, err
	}
	return h.Alive(ctx, r.Process)
}

// anyAlive reports whether a node for which kind is true has a process, as the records say. It
// also returns true if a host is away that has no supervisor of its own, because a node may run
// there.
func (h hosts) anyAlive(ctx context.Context, kind func(node string) bool) (bool, error) {
	if h.absent.any() && !h.apart {
		return true, nil
	}
	for _, host := range h.all() {
		nodes, err := host.recorded(ctx)
		if err != nil {
			return false, err
		}
		for _, node := range nodes {
			if !kind(node) {
				continue
			}
			if alive, err := host.alive(ctx, node); alive || err != nil {
				return alive, err
			}
		}
	}
	return false, nil
}

// AnyRuns reports whether a node runs on any of these machines, and returns the indexes of those
// that are away.
func AnyRuns(ctx context.Context, machines []machine.Machine) (away []int, runs bool, err error) {
	h := hosts{named: map[string]home{}}
	for i, m := range machines {
		if !m.Present(ctx) {
			away = append(away, i)
			continue
		}
		name := fmt.Sprint(i)
		h.named[name] = home{m, name}
	}

	if len(h.named) == 0 {
		return away, false, nil
	}
	runs, err = h.anyAlive(ctx, everyNode)
	return away, runs, err
}

// everyNode returns true for every node.
func everyNode(string) bool { return true }

// running returns the address at which a node's process listens, or "" if none runs. It is the
// address that the process was started with, which may differ from the plan's.
func (h home) running(ctx context.Context, node string) string {
	r, err := h.readRecord(ctx, node)
	if err != nil {
		return ""
	}
	if alive, err := h.Alive(ctx, r.Process); err != nil || !alive {
		return ""
	}
	return r.Address
}
