// Package examine gathers the facts that package doctor judges. Stack asks the supervisor
// (examine.go), every node (ask.go) and the machine (machine.go), each for a short time; the nodes
// are asked concurrently.
//
// It changes nothing, and also works if the supervisor or the whole stack is down: that something
// does not answer is a fact, too. Package doctor decides what the facts mean.
package examine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/doctor"
	"holdfast/internal/drill"
	"holdfast/internal/plan"
	"holdfast/internal/private"
	"holdfast/internal/process"
	"holdfast/internal/redis"
	"holdfast/internal/release"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// Config describes the stack to examine.
type Config struct {
	Stack stack.Stack
	// BaseDir is the start of the stack file's relative paths, and StateDir the stack's state
	// directory. Both are absolute.
	BaseDir, StateDir string
	// Host is the name of this host; empty: the stack has only this one.
	Host string
	// Mistakes is the error of the stack file, if it has mistakes. Stack then does not come from
	// that file.
	Mistakes error
	// KeptPages are the files of pages that are missing or broken. Stack then has the pages of
	// before.
	KeptPages []*supervise.ReferenceError
	// SearchPath is the PATH that nodes inherit.
	SearchPath string
}

// patience limits how long one question may take.
const patience = 2 * time.Second

// leaderPatience limits how long the hosts of a stack may take to elect a leader.
const leaderPatience = 15 * time.Second

// examination is an examination under way.
type examination struct {
	Config
	seen    supervise.Inspection
	secrets plan.Secrets
	way     redis.Way
	facts   doctor.Facts
	// versions are the versions of the installed server programs.
	versions map[plan.Program]string
	// elsewhere holds, by node, the host of each node that is not on this host.
	elsewhere map[string]string
	mu        sync.Mutex // guards facts.Unseen
}

// Stack gathers the facts of a stack.
func Stack(ctx context.Context, cfg Config) doctor.Facts {
	e := &examination{Config: cfg, versions: map[plan.Program]string{}, elsewhere: map[string]string{}}
	e.facts = doctor.Facts{Now: time.Now(), Stack: cfg.Stack, StateDir: cfg.StateDir, Kept: supervise.HasState(cfg.StateDir)}
	if cfg.Mistakes != nil {
		e.facts.Mistakes = cfg.Mistakes.Error()
	}
	for _, page := range cfg.KeptPages {
		e.facts.KeptPages = append(e.facts.KeptPages, page.Error())
	}

	e.machine()
	for _, wrong := range supervise.CheckReferences(cfg.Stack, cfg.BaseDir, cfg.SearchPath) {
		e.facts.References = append(e.facts.References, wrong.Error())
	}

	if e.facts.Kept {
		if err := private.CheckDir(cfg.StateDir); err != nil {
			e.facts.Open = err.Error()
		}
	}

	e.drill()
	e.backup()

	var err error
	if e.seen, err = supervise.Inspect(cfg.Stack, cfg.BaseDir, cfg.StateDir); err != nil {
		e.facts.Unreadable = err.Error()
		e.unseen("the nodes", "the state directory cannot be read")
		return e.facts
	}
	if e.secrets, err = supervise.Secrets(cfg.StateDir); err != nil {
		e.unseen("Redis and the Sentinels", err.Error())
	}

	// A running stack is judged by the stack file that it runs by.
	e.Config.Stack, e.facts.Stack, e.facts.Differs = e.seen.Plan.Stack, e.seen.Plan.Stack, e.seen.Differs
	e.way, err = supervise.Way(cfg.StateDir, e.Config.Stack)
	// A machine that has not joined its stack yet has no certificate, and nothing to ask.
	if joined := len(e.seen.Nodes) > 0; err != nil && (joined || !errors.Is(err, fs.ErrNotExist)) {
		e.unseen("Redis and the Sentinels", err.Error())
	}

	e.facts.Epoch, e.facts.Rewriting = e.seen.Redis.ConfigEpoch, e.seen.Rewriting
	status := e.supervisor(ctx)
	e.changes(status)
	e.listNodes(status)
	e.measure()
	e.askAll(ctx)
	e.ports()
	e.files()
	e.releases()
	e.certificates()
	return e.facts
}

func (e *examination) unseen(what, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.facts.Unseen = append(e.facts.Unseen, doctor.Unseen{What: what, Why: why})
}

// status asks the supervisor. While another host takes over the lead, it repeats the question for
// up to leaderPatience.
func (e *examination) status(ctx context.Context) (supervise.Status, error) {
	client := control.NewClient(e.StateDir)
	for began := time.Now(); ; {
		asked, cancel := context.WithTimeout(ctx, patience)
		st, err := client.Status(asked)
		cancel()
		busy := new(control.BusyError)
		if !errors.As(err, &busy) || !busy.Later || time.Since(began) > leaderPatience {
			return st, err
		}
		if !clock.Sleep(ctx, patience/10) {
			return st, err
		}
	}
}

// supervisor asks the supervisor for the status; it is empty if no supervisor answers.
func (e *examination) supervisor(ctx context.Context) supervise.Status {
	s := &e.facts.Supervisor
	s.PID = e.seen.Supervisor
	st, err := e.status(ctx)
	switch {
	case err == nil:
		s.PID, s.Phase = st.Supervisor, string(st.Phase)
		for _, v := range st.Virtual {
			s.Virtual = append(s.Virtual, doctor.Virtual(v))
		}
		for _, c := range st.Certificates {
			e.facts.Certificates = append(e.facts.Certificates, doctor.Certificate{
				Path: c.File, For: "an entry", Subject: strings.Join(c.Names, ", "), Ends: c.Ends, Entry: true, Refused: c.Refused, Gap: c.Gap,
			})
		}
		for _, u := range st.Unserved {
			s.Unserved = append(s.Unserved, doctor.Unserved{App: u.App, Balancer: u.Balancer, Why: u.Why})
		}
	case s.PID == 0: // no supervisor runs
		return supervise.Status{}
	case errors.Is(err, control.ErrNoSupervisor):
		s.Silent = "it does not listen on its socket"
	case errors.Is(err, context.DeadlineExceeded):
		s.Silent = fmt.Sprintf("no answer within %v", patience)
	default:
		s.Silent = err.Error()
	}
	if st.Host != "" && st.Host != e.Host {
		return st // the supervisor's process is on another host
	}
	if id, err := process.Identify(s.PID); err == nil {
		s.Process = &doctor.Process{PID: s.PID, Stopped: process.Stopped(id)}
	}
	return st
}

// changes records changes of the stack that are under way, or that were stopped.
func (e *examination) changes(status supervise.Status) {
	c := e.seen.Change
	if status.Change != nil {
		c = *status.Change
	}
	switch {
	case c.ID != 0:
		e.facts.Changes = append(e.facts.Changes, doctor.Change{What: c.Kind, Since: c.Began, Running: status.Supervisor != 0})
	case status.Stopped != nil:
		e.facts.Changes = append(e.facts.Changes, doctor.Change{What: status.Stopped.Kind, Since: status.Stopped.Ended, Stopped: status.Stopped.Why, Left: status.Stopped.Left})
	}
}

// listNodes lists the nodes of the plan, and running nodes that are no longer in it.
func (e *examination) listNodes(status supervise.Status) {
	planned := map[string]bool{}
	e.findElsewhere()
	for _, p := range e.processes() {
		planned[p.Node] = true
		if host := e.elsewhere[p.Node]; host != "" {
			st, _ := status.Node(p.Node)
			e.facts.Nodes = append(e.facts.Nodes, reported(p, host, st, e.seen.Drained[p.Node]))
			continue
		}
		r := e.seen.Nodes[p.Node]
		n := doctor.Node{
			Name: p.Node, Kind: p.Kind, App: p.App, Address: p.Address,
			Want: r.Want, State: string(r.State), Since: r.Since, Crashes: r.Crashes, Outdated: r.Outdated, Drained: e.seen.Drained[p.Node],
		}
		n.Process = processOf(r.Process)
		n.Died = n.Process == nil && r.Process.PID != 0 && r.State != supervise.Down && r.State != ""
		if n.Process == nil {
			n.State, n.Outdated = string(supervise.Down), false
		} else if r.Address != "" && p.Kind.Traits().OwnPort() {
			n.Address = r.Address
		}
		if st, there := status.Node(p.Node); there {
			n.State, n.Since, n.Crashes, n.Detail = string(st.State), st.Since, st.Crashes, st.Detail
		}
		e.facts.Nodes = append(e.facts.Nodes, n)
	}
	for _, name := range slices.Sorted(maps.Keys(e.seen.Nodes)) {
		r := e.seen.Nodes[name]
		if p := processOf(r.Process); p != nil && !planned[name] {
			e.facts.Nodes = append(e.facts.Nodes, doctor.Node{Name: name, Address: r.Address, Stray: true, Process: p, State: string(r.State), Since: r.Since})
		}
	}
}

// findElsewhere finds the nodes of other hosts. Facts that only their own machine knows are
// recorded as unseen.
func (e *examination) findElsewhere() {
	if e.Host == "" {
		return
	}
	for _, h := range e.seen.Plan.Hosts {
		if h.Name == e.Host {
			continue
		}
		for _, p := range h.Processes {
			e.elsewhere[p.Node] = h.Name
		}
		e.unseen("the machine, the files and the balancers of host "+h.Name, "they are seen there alone: 'holdfast doctor' on that host")
	}
}

// reported returns a node of another host, as the supervisor knows it.
func reported(p plan.Process, host string, st supervise.NodeStatus, drained bool) doctor.Node {
	n := doctor.Node{
		Name: p.Node, Kind: p.Kind, App: p.App, Host: host, Address: p.Address, Want: "up", Drained: drained,
		State: string(st.State), Since: st.Since, Crashes: st.Crashes, Detail: st.Detail,
	}
	switch {
	case st.PID != 0:
		n.Process = &doctor.Process{PID: st.PID, Stopped: st.State == supervise.Paused}
	case st.State == supervise.Down:
		n.Want = string(supervise.Down)
	}
	return n
}

// processOf returns the process of a record; nil: it does not run.
func processOf(id process.ID) *doctor.Process {
	if id.PID == 0 || !process.Alive(id) {
		return nil
	}
	return &doctor.Process{PID: id.PID, Stopped: process.Stopped(id)}
}

// processes returns the processes of the plan, on all hosts.
func (e *examination) processes() (all []plan.Process) {
	for _, h := range e.seen.Plan.Hosts {
		all = append(all, h.Processes...)
	}
	return all
}

// measure adds the kernel's figures of each process.
func (e *examination) measure() {
	of := map[int]*doctor.Process{}
	for _, n := range e.facts.Nodes {
		if n.Process != nil && e.elsewhere[n.Name] == "" {
			of[n.Process.PID] = n.Process
		}
	}
	if p := e.facts.Supervisor.Process; p != nil {
		of[p.PID] = p
	}
	for pid, f := range process.FiguresOf(slices.Collect(maps.Keys(of))...) {
		p := of[pid]
		p.Age, p.Replaced, p.OpenFiles, p.MaxFiles, p.HugePages = f.Age, f.Replaced, f.OpenFiles, f.MaxFiles, f.HugePages
	}
}

// drill records what a drill has left.
func (e *examination) drill() {
	left, err := drill.LeftIn(e.StateDir)
	e.facts.Drill = doctor.Drill{Running: left.Running, Left: left.Broken, Keys: left.Keys}
	if err != nil {
		e.facts.Drill.Damaged = err.Error()
	}
}

// ports records which programs hold addresses that the stack needs and does not have.
func (e *examination) ports() {
	balanced := false // a balancer runs, and so the balancers' ports are the stack's
	for _, n := range e.facts.Nodes {
		balanced = balanced || n.Kind.Traits().SharesAddress && n.Process != nil
	}
	reported := map[string]bool{}
	for i, p := range e.processes() {
		n := &e.facts.Nodes[i]
		if e.elsewhere[p.Node] != "" || n.Process != nil || p.Address == "" || reported[p.Address] || p.Kind.Traits().SharesAddress && balanced {
			continue
		}
		if who, held := supervise.Holder(p.Address); held {
			n.Holder, reported[p.Address] = who, true
		}
		if p.Admin == "" {
			continue
		}
		if who, held := supervise.Holder(p.Admin); held {
			e.facts.Ports = append(e.facts.Ports, doctor.Port{Address: p.Admin, For: "the metrics of " + p.Node, Holder: who})
		}
	}
	if balanced || len(e.seen.Plan.Hosts) != 1 {
		return
	}
	others := e.Config.Stack.OtherListenAddresses()
	if port := e.seen.Ports[plan.PortRedisMaster]; port != 0 {
		others[net.JoinHostPort("127.0.0.1", strconv.Itoa(port))] = "the balancers' way to the Redis master"
	}
	for _, address := range slices.Sorted(maps.Keys(others)) {
		if who, held := supervise.Holder(address); held && !reported[address] {
			e.facts.Ports = append(e.facts.Ports, doctor.Port{Address: address, For: others[address], Holder: who})
		}
	}
}

// files compares the generated files with the plan.
func (e *examination) files() {
	for _, h := range e.seen.Plan.Hosts {
		for _, f := range h.Files {
			node := filepath.Base(filepath.Dir(f.Path))
			if _, started := e.seen.Nodes[node]; f.Once || !started {
				continue
			}
			b, err := os.ReadFile(filepath.Join(e.StateDir, f.Path))
			switch {
			case errors.Is(err, os.ErrNotExist):
				e.facts.Files = append(e.facts.Files, doctor.File{Path: f.Path, Node: node, Missing: true})
			case err != nil:
				e.unseen(f.Path, err.Error())
			case string(b) != f.Content:
				e.facts.Files = append(e.facts.Files, difference(f.Path, node, string(b), f.Content))
			}
		}
	}
}

// releases checks the copies of programs' files from which nodes run.
func (e *examination) releases() {
	seen := map[string]bool{}
	for _, p := range e.processes() {
		if p.Release == "" || seen[p.App+" "+p.Release] {
			continue
		}
		seen[p.App+" "+p.Release] = true
		changed, err := release.At(filepath.Join(e.StateDir, plan.ReleasesDir(p.App))).Check(p.Release)
		r := doctor.Release{App: p.App, Digest: p.Release, Changed: changed}
		if err != nil {
			r.Damaged = err.Error()
		}
		if err != nil || len(changed) > 0 {
			e.facts.Releases = append(e.facts.Releases, r)
		}
	}
}

// secretLine are words that occur in lines with a password.
var secretLine = []string{"pass", "auth", "AUTH", "hash", "#"}

// difference returns the first line in which two texts differ. It hides what may be a password.
func difference(path, node, has, wants string) doctor.File {
	d := doctor.File{Path: path, Node: node}
	hasLines, wantLines := strings.Split(has, "\n"), strings.Split(wants, "\n")
	for i := range max(len(hasLines), len(wantLines)) {
		h, w := "", ""
		if i < len(hasLines) {
			h = hasLines[i]
		}
		if i < len(wantLines) {
			w = wantLines[i]
		}
		if h == w {
			continue
		}
		d.Line, d.Has, d.Wants = i+1, shown(h), shown(w)
		break
	}
	return d
}

// shown returns a line of a generated file in a form that may be shown.
func shown(line string) string {
	trimmed := strings.TrimSpace(line)
	if strings.HasPrefix(trimmed, "# ") {
		return line
	}
	for _, word := range secretLine {
		if strings.Contains(trimmed, word) {
			name, _, _ := strings.Cut(trimmed, " ")
			return name + " …"
		}
	}
	return line
}
