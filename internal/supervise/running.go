package supervise

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// running is the content of running.json: what the stack runs as, node by node. A later
// supervisor reads it, whatever the stack file says by then. In the middle of a change, some
// nodes are those of the old plan and some those of the new one.
type running struct {
	// Generation counts the changes.
	Generation int `json:"generation"`
	// Stack is the stack file with every default (stack.Show). Its relative paths start from
	// BaseDir.
	Stack   string `json:"stack"`
	BaseDir string `json:"base_dir"`
	// Overrides are the operator's commands at run time.
	Overrides stack.Overrides `json:"overrides"`
	Plan      plan.Plan       `json:"plan"`
}

const runningFile = "running.json"

// readRunning reads running.json. known is false if the file is missing, or was written by a
// version of Holdfast whose format cannot be used.
func (d dir) readRunning() (r running, file stack.Stack, known bool, err error) {
	err = d.readJSON(runningFile, &r)
	if err != nil {
		if errors.As(err, new(*fs.PathError)) {
			return r, file, false, err
		}
		return r, file, false, fmt.Errorf("%w. Move it away and run 'holdfast up' again: nodes whose settings differ from the stack file are then started anew, one after the other", err)
	}
	if r.Stack == "" {
		return r, file, false, nil
	}
	file, _, err = stack.Parse(runningFile, []byte(r.Stack))
	if err != nil {
		return r, file, false, nil
	}
	r.Plan.Stack = r.Overrides.Apply(file)
	return r, file, true, nil
}

// LastFile returns the stack file that the stack of a state directory runs by, or last ran by,
// and the directory that its relative paths start from. known is false if there is none.
func LastFile(stateDir string) (file stack.Stack, baseDir string, known bool) {
	r, file, known, err := dirAt(stateDir).readRunning()
	return file, r.BaseDir, known && err == nil
}

// Runs reports whether the stack of a state directory runs by a stack file. Both are compared
// as this version of Holdfast reads them, because an older version does not write down keys
// that are newer.
func Runs(stateDir string, file stack.Stack, baseDir string) (same, known bool) {
	last, lastDir, known := LastFile(stateDir)
	return known && FileDigest(last, lastDir) == FileDigest(file, baseDir), known
}

// layout is one version of the stack: a file, the operator's commands at run time, and the plan
// of both.
type layout struct {
	file      stack.Stack
	baseDir   string
	overrides stack.Overrides
	plan      plan.Plan
	// ports and secrets are those that the plan was made with, if it was just made.
	ports   map[string]int
	secrets plan.Secrets
	// placement says on which host each node is to be, if the stack has hosts. stay has nodes that
	// keep their place while others move. With balance, the placement is to give new hosts their
	// share of the nodes.
	placement plan.Placement
	stay      map[string]plan.Place
	balance   bool
}

// stack returns the layout's stack.
func (l layout) stack() stack.Stack { return l.plan.Stack }

// host returns the layout's hosts as one: what a supervisor carries out.
func (l layout) host() plan.Host { return mergeHosts(l.plan.Hosts) }

// saveRunning writes running.json.
func (s *Supervisor) saveRunning() error {
	s.mu.RLock()
	r := running{
		Generation: s.generation, Stack: string(s.file.Show()), BaseDir: s.cfg.BaseDir,
		Overrides: s.overrides, Plan: s.plan,
	}
	s.mu.RUnlock()
	return s.dir.writeJSON(runningFile, r)
}

// findRunning makes the plan of the stack file and the operator's commands at run time. If
// nodes run, it installs what they run as, and the file becomes a change of that: see
// changeAtStart.
func (s *Supervisor) findRunning() error {
	if s.cfg.Pod {
		// Nothing runs when a pod starts, and its volume may hold an outdated record of an earlier
		// pod. The stack file in the manifests counts.
		s.file, s.fileDigest = s.cfg.Stack, FileDigest(s.cfg.Stack, s.cfg.BaseDir)
		return s.replan()
	}
	r, file, known, err := s.dir.readRunning()
	if err != nil {
		return err
	}
	s.file, s.generation = s.cfg.Stack, r.Generation
	s.fileDigest = FileDigest(s.file, s.cfg.BaseDir)
	if !known {
		return s.replan()
	}
	s.persisted.Placement = merged(s.persisted.Placement, placementOf(r.Plan)) // a change may have moved some nodes
	s.overrides = r.Overrides.DropSuperseded(file, s.cfg.Stack)
	s.cfg.Stack = s.overrides.Apply(s.cfg.Stack)
	if err := s.replan(); err != nil {
		return err
	}
	if runs, err := s.hosts.anyAlive(s.ctx, everyNode); !runs || err != nil {
		return err
	}
	wanted := layout{file: s.file, baseDir: s.cfg.BaseDir, overrides: s.overrides, plan: s.plan}
	s.wanted = &wanted
	now := layout{file: file, baseDir: r.BaseDir, overrides: r.Overrides, plan: r.Plan}
	now.plan.Hosts = slices.Clone(now.plan.Hosts)
	asked, cut := s.askedFor()
	for _, l := range append([]layout{wanted}, asked...) {
		now.plan = s.withUnwritten(now.plan, l, cut)
	}
	now.plan = s.withNew(now.plan, wanted)
	s.install(now)
	return nil
}

// askedFor returns what a change that is under way asks for, if there is one. cut is true if
// the change was interrupted and goes on by itself: see resume.
func (s *Supervisor) askedFor() (asked []layout, cut bool) {
	r, there, err := s.dir.readChange()
	if err != nil || !there {
		return nil, false // changeAtStart reports the error
	}
	l, err := s.layoutOf(r)
	if err != nil {
		return nil, false
	}
	return []layout{l}, !r.Held
}

// withUnwritten returns a plan in which nodes are what they run as, if a change has just given
// them other settings and could not record it. That includes a redis node or Sentinel that the
// change has just added: it may already be the master.
//
// If the change was interrupted and goes on (cut), only redis nodes and Sentinels that have
// moved are taken over like that. Nobody knows yet whether the other nodes are healthy: the
// change repeats the step, and puts the node back if it is not.
func (s *Supervisor) withUnwritten(p plan.Plan, of layout, cut bool) plan.Plan {
	for _, to := range of.host().Processes {
		is, had := nodePlanOf(p, to.Node)
		wanted, _ := of.nodePlan(to.Node)
		host := s.home(to.Node)
		moved := knownByAddress(to) && is.process.Address != to.Address
		if s.cfg.Several && had && is.host != wanted.host { // it may already run on its new host
			host, moved = s.hosts.at(wanted.host), true
		}
		r, err := host.readRecord(s.ctx, to.Node)
		switch {
		case err != nil || r.Plan != digestOf(to, wanted.files):
		case had && r.Plan != digestOf(is.process, is.files) && (moved || !cut):
			p = withNode(p, wanted)
		case !had && knownByAddress(to) && host.running(s.ctx, to.Node) != "":
			p = withNode(p, wanted)
		}
	}
	return p
}

// install makes a layout the one that is carried out. It does not add or remove nodes.
func (s *Supervisor) install(l layout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.fileDigest, s.overrides, s.plan = l.file, FileDigest(l.file, l.baseDir), l.overrides, l.plan
	s.cfg.Stack, s.cfg.BaseDir = l.stack(), l.baseDir
	s.host = l.host()
}

// placementOf returns on which host each node of a plan is.
func placementOf(p plan.Plan) plan.Placement {
	placed := plan.Placement{}
	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			placed[process.Node] = h.Name
		}
	}
	return placed
}

// nodePlan is what a plan has for one node.
type nodePlan struct {
	host    string
	process plan.Process
	files   []plan.File
	dirs    []string
}

// nodePlan returns what the layout has for a node, and reports whether it has one.
func (l layout) nodePlan(node string) (nodePlan, bool) { return nodePlanOf(l.plan, node) }

// listener returns another node that listens at the address of a node; empty: there is none.
func (l layout) listener(to nodePlan) string {
	for _, h := range l.plan.Hosts {
		i := slices.IndexFunc(h.Processes, func(o plan.Process) bool {
			return o.Node != to.process.Node && o.Kind.Traits().OwnPort() && o.Address == to.process.Address
		})
		if h.Name == to.host && i >= 0 {
			return h.Processes[i].Node
		}
	}
	return ""
}

func nodePlanOf(p plan.Plan, node string) (nodePlan, bool) {
	for _, h := range p.Hosts {
		i := slices.IndexFunc(h.Processes, func(p plan.Process) bool { return p.Node == node })
		if i < 0 {
			continue
		}
		return nodePlan{
			host: h.Name, process: h.Processes[i],
			files: slices.DeleteFunc(slices.Clone(h.Files), func(f plan.File) bool { return !inDirOf(node, f.Path) }),
			dirs:  slices.DeleteFunc(slices.Clone(h.Dirs), func(d string) bool { return !inDirOf(node, d) }),
		}, true
	}
	return nodePlan{}, false
}

// inDirOf reports whether a path of a plan is in a node's directory.
func inDirOf(node, path string) bool {
	return path == filepath.Join("nodes", node) || strings.HasPrefix(path, filepath.Join("nodes", node)+"/")
}

// withNode returns a plan with a node: in its former place, or added if the plan did not have it.
func withNode(p plan.Plan, to nodePlan) plan.Plan {
	at := slices.IndexFunc(p.Hosts, func(h plan.Host) bool { return h.Name == to.host })
	if at < 0 && to.host == plan.Local && len(p.Hosts) == 1 {
		at = 0 // the host has been named in the meantime: see withHosts
	}
	if at < 0 {
		return p
	}
	place := slices.IndexFunc(p.Hosts[at].Processes, func(p plan.Process) bool { return p.Node == to.process.Node })
	p = withoutNode(p, to.process.Node)
	h := &p.Hosts[at]
	if place < 0 || place > len(h.Processes) {
		place = len(h.Processes)
	}
	h.Processes = slices.Insert(h.Processes, place, to.process)
	slices.SortStableFunc(h.Processes, func(a, b plan.Process) int { return a.Stage - b.Stage })
	h.Files = append(h.Files, to.files...)
	h.Dirs = append(h.Dirs, to.dirs...)
	return p
}

// withoutNode returns a plan without a node. It does not modify p.
func withoutNode(p plan.Plan, node string) plan.Plan {
	p.Hosts = slices.Clone(p.Hosts)
	for i, h := range p.Hosts {
		h.Processes = slices.DeleteFunc(slices.Clone(h.Processes), func(p plan.Process) bool { return p.Node == node })
		h.Files = slices.DeleteFunc(slices.Clone(h.Files), func(f plan.File) bool { return inDirOf(node, f.Path) })
		h.Dirs = slices.DeleteFunc(slices.Clone(h.Dirs), func(d string) bool { return inDirOf(node, d) })
		p.Hosts[i] = h
	}
	return p
}

// putNode writes a node's files and puts the node into the plan. It does not tell the running
// process.
func (s *Supervisor) putNode(to nodePlan) error {
	if err := s.writeNode(to); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = withNode(s.plan, to)
	s.host = mergeHosts(s.plan.Hosts)
	return nil
}

// dropNode removes a node from the stack. The process has to have ended.
func (s *Supervisor) dropNode(name string) {
	host := s.home(name)
	s.mu.Lock()
	n := s.nodes[name]
	s.nodes = maps.Clone(s.nodes)
	delete(s.nodes, name)
	delete(s.sentinelPeriods, name)
	s.plan = withoutNode(s.plan, name)
	s.host = mergeHosts(s.plan.Hosts)
	s.mu.Unlock()
	s.statusBoard.remove(name)
	if n != nil {
		close(n.gone)
	}
	// A later node with the same name starts without this one's record.
	if err := host.Remove(s.ctx, recordFile(name)); err != nil {
		s.log.Error("cannot remove the record of a node that is in the stack no more", "node", name, "error", err)
	}
}

// writeNode makes a node's directories and writes its files. A file that the server itself
// rewrites is only written if it is missing.
func (s *Supervisor) writeNode(to nodePlan) error {
	if s.hosts.isAbsent(to.host) {
		return nil // see catchUp
	}
	host := s.hosts.at(to.host)
	for _, d := range append([]string{"logs"}, to.dirs...) { // the host may be new
		if err := host.MakeDir(s.ctx, d); err != nil {
			return fmt.Errorf("make the directory of %s: %w", to.process.Node, err)
		}
	}
	for _, f := range to.files {
		if f.Once && host.has(s.ctx, f.Path) {
			continue
		}
		if err := host.writeFile(s.ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// FileDigest returns a digest that differs if two stack files have different stacks. Relative
// paths in the file start from baseDir.
func FileDigest(file stack.Stack, baseDir string) string {
	sum := sha256.Sum256(append(file.Show(), baseDir...))
	return hex.EncodeToString(sum[:8])
}
