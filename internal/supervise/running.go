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

// running is running.json: what the stack runs as, node by node, so that a later
// supervisor knows it whatever the stack file says by then. In the midst of a change
// its nodes are those of two plans.
type running struct {
	// Generation counts the changes.
	Generation int `json:"generation"`
	// Stack is the stack file, with every default (stack.Show), and BaseDir where its
	// relative paths start.
	Stack   string `json:"stack"`
	BaseDir string `json:"base_dir"`
	// Overrides are what was said at run time.
	Overrides stack.Overrides `json:"overrides"`
	Plan      plan.Plan       `json:"plan"`
}

const runningFile = "running.json"

// readRunning reads running.json; false: there is none, or it is of another version
// of Holdfast and of no use.
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
	r.Plan.Stack = r.Overrides.On(file)
	return r, file, true, nil
}

// LastFile returns the stack file that the stack of a state directory runs by, or was
// up with last, and where its relative paths start; false: it is not known.
func LastFile(stateDir string) (file stack.Stack, baseDir string, known bool) {
	r, file, known, err := dirAt(stateDir).readRunning()
	return file, r.BaseDir, known && err == nil
}

// Runs reports whether the stack of a state directory runs by this stack file, as this
// version of Holdfast reads both: one that is older writes down no key that is newer.
func Runs(stateDir string, file stack.Stack, baseDir string) (same, known bool) {
	last, lastDir, known := LastFile(stateDir)
	return known && FileDigest(last, lastDir) == FileDigest(file, baseDir), known
}

// layout is one version of what a stack is: a file, what was said at run time, and
// the plan of both.
type layout struct {
	file      stack.Stack
	baseDir   string
	overrides stack.Overrides
	plan      plan.Plan
	// ports and secrets are those that the plan was made with, where it was made now.
	ports   map[string]int
	secrets plan.Secrets
	// placement is where the nodes are to be, where the stack has hosts, and stay has those
	// that are where they were while others move. With balance, the placement is to be one
	// in which new hosts have their share.
	placement plan.Placement
	stay      map[string]plan.Place
	balance   bool
}

// stack is the layout's stack.
func (l layout) stack() stack.Stack { return l.plan.Stack }

// host is all that one supervisor carries out of the layout.
func (l layout) host() plan.Host { return together(l.plan.Hosts) }

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

// findRunning makes the plan of the stack file and of what was said at run time. Where
// nodes run, what they run as is carried out first, and the file becomes a change of
// that: see changeAtStart.
func (s *Supervisor) findRunning() error {
	if s.cfg.Pod {
		// Nothing runs when a pod begins, and what its volume says of an earlier one is out
		// of date: the stack file of the manifests is the generation.
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
	s.kept.Placement = with(s.kept.Placement, placementOf(r.Plan)) // a change may have moved some
	s.overrides = r.Overrides.Rebase(file, s.cfg.Stack)
	s.cfg.Stack = s.overrides.On(s.cfg.Stack)
	if err := s.replan(); err != nil {
		return err
	}
	if runs, err := s.hosts.anyAlive(s.ctx, anyKind); !runs || err != nil {
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

// askedFor is what a change that is under way asks for, if one is. Cut is true when the
// next step of that change is not waited for, but goes on: see resume.
func (s *Supervisor) askedFor() (asked []layout, cut bool) {
	r, there, err := s.dir.readChange()
	if err != nil || !there {
		return nil, false // changeAtStart tells of it
	}
	l, err := s.layoutOf(r)
	if err != nil {
		return nil, false
	}
	return []layout{l}, !r.Held
}

// withUnwritten is a plan in which nodes that a change has just given other settings,
// before it could be written down, are what they run as. A redis node or Sentinel that it
// has just started is a part of the stack, too: it may be the master already.
//
// Where the change was cut off and goes on, only redis nodes and Sentinels that have moved
// are. Nobody knows yet whether the other nodes are well: the change takes the step again,
// and puts the node back where it is not.
func (s *Supervisor) withUnwritten(p plan.Plan, of layout, cut bool) plan.Plan {
	for _, to := range of.host().Processes {
		is, had := partOf(p, to.Node)
		wanted, _ := of.part(to.Node)
		host := s.home(to.Node)
		moved := member(to) && is.process.Address != to.Address
		if s.cfg.Several && had && is.host != wanted.host { // then it may run there
			host, moved = s.hosts.at(wanted.host), true
		}
		r, err := host.readRecord(s.ctx, to.Node)
		switch {
		case err != nil || r.Plan != digestOf(to, wanted.files):
		case had && r.Plan != digestOf(is.process, is.files) && (moved || !cut):
			p = withNode(p, wanted)
		case !had && member(to) && host.running(s.ctx, to.Node) != "":
			p = withNode(p, wanted)
		}
	}
	return p
}

// install has a layout be what is carried out. Nodes are made elsewhere.
func (s *Supervisor) install(l layout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.fileDigest, s.overrides, s.plan = l.file, FileDigest(l.file, l.baseDir), l.overrides, l.plan
	s.cfg.Stack, s.cfg.BaseDir = l.stack(), l.baseDir
	s.host = l.host()
}

// placementOf is on which of several hosts the nodes of a plan are.
func placementOf(p plan.Plan) plan.Placement {
	placed := plan.Placement{}
	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			placed[process.Node] = h.Name
		}
	}
	return placed
}

// part is all of a plan that is one node's.
type part struct {
	host    string
	process plan.Process
	files   []plan.File
	dirs    []string
}

// part is a node of the layout.
func (l layout) part(node string) (part, bool) { return partOf(l.plan, node) }

// listener returns another node that listens where a node is to listen; empty: none.
func (l layout) listener(to part) string {
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

func partOf(p plan.Plan, node string) (part, bool) {
	for _, h := range p.Hosts {
		i := slices.IndexFunc(h.Processes, func(p plan.Process) bool { return p.Node == node })
		if i < 0 {
			continue
		}
		return part{
			host: h.Name, process: h.Processes[i],
			files: slices.DeleteFunc(slices.Clone(h.Files), func(f plan.File) bool { return !inDirOf(node, f.Path) }),
			dirs:  slices.DeleteFunc(slices.Clone(h.Dirs), func(d string) bool { return !inDirOf(node, d) }),
		}, true
	}
	return part{}, false
}

// inDirOf reports whether a path of a plan is in a node's directory.
func inDirOf(node, path string) bool {
	return path == filepath.Join("nodes", node) || strings.HasPrefix(path, filepath.Join("nodes", node)+"/")
}

// withNode is a plan in which a node is as given, in its place; it may not have had it
// before.
func withNode(p plan.Plan, to part) plan.Plan {
	at := slices.IndexFunc(p.Hosts, func(h plan.Host) bool { return h.Name == to.host })
	if at < 0 && to.host == plan.Local && len(p.Hosts) == 1 {
		at = 0 // it has got a name in the meantime: see withHosts
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

// withoutNode is a plan without a node. It shares nothing with the other one that is
// changed.
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

// putNode writes a node's files and has the node be as given from now on. What runs
// is told elsewhere.
func (s *Supervisor) putNode(to part) error {
	if err := s.writeNode(to); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = withNode(s.plan, to)
	s.host = together(s.plan.Hosts)
	return nil
}

// dropNode has the stack be without a node.
func (s *Supervisor) dropNode(name string) {
	host := s.home(name)
	s.mu.Lock()
	n := s.nodes[name]
	s.nodes = maps.Clone(s.nodes)
	delete(s.nodes, name)
	delete(s.paces, name)
	s.plan = withoutNode(s.plan, name)
	s.host = together(s.plan.Hosts)
	s.mu.Unlock()
	s.board.remove(name)
	if n != nil {
		close(n.gone)
	}
	// A later node of that name begins anew.
	if err := host.Remove(s.ctx, recordFile(name)); err != nil {
		s.log.Error("cannot remove the record of a node that is in the stack no more", "node", name, "error", err)
	}
}

// writeNode makes a node's directories and writes its files. What a server rewrites
// is only written when it is not there.
func (s *Supervisor) writeNode(to part) error {
	if s.hosts.lacks(to.host) {
		return nil // see catchUp
	}
	host := s.hosts.at(to.host)
	for _, d := range append([]string{"logs"}, to.dirs...) { // its host may be a new one
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

// FileDigest tells stack files apart whose stacks differ. Paths in them are relative to
// baseDir.
func FileDigest(file stack.Stack, baseDir string) string {
	sum := sha256.Sum256(append(file.Show(), baseDir...))
	return hex.EncodeToString(sum[:8])
}
