package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// A change turns the stack that runs into another one, node by node, while it serves. Whatever
// is more than an operator's action on one node is a change:
//
//	s.Change(ctx, Request{Kind: "apply", File: text, BaseDir: dir}, onEvent)       another stack file
//	s.Change(ctx, Request{Kind: "scale", Overrides: stack.Overrides{Nodes: …}}, …)  a setting made at run time
//	s.Change(ctx, Request{Kind: "restart", Force: []string{"web-1"}}, onEvent)      nodes restarted as they are
//
// One request may combine these. Preview returns what a request would do and why it would be
// refused; Change refuses the same before it does anything. Then the supervisor writes the
// change down (record.go) and carries it out (steps.go). The change goes on when its caller goes
// away, and the next supervisor continues it when this one dies. The first node that does not
// become well stops the change, and is put back to what it was.
//
// A change is computed anew from what runs (running.json) whenever it begins or continues. That
// is why its steps look before they act.

// kindUp is the kind of the change that a start makes.
const kindUp = "up"

// Request describes a change that is asked of the stack.
type Request struct {
	// Kind names the command that asks: apply, scale, rollout, restart, up.
	Kind string `json:"kind"`
	// File is a stack file with every default (stack.Show). BaseDir is the absolute directory
	// that its relative paths start from. If both are empty, the stack file stays.
	File    string `json:"file,omitempty"`
	BaseDir string `json:"base_dir,omitempty"`
	// atStart is true before anything is started: the request is only checked.
	atStart bool
	// Overrides change the settings that were made at run time: see stack.Overrides.With.
	Overrides stack.Overrides `json:"overrides,omitzero"`
	// Force names nodes that are restarted although nothing about them changes.
	Force []string `json:"force,omitempty"`
	// Rollout is another version of an application's program.
	Rollout *Rollout `json:"rollout,omitempty"`
	// Anyway allows a node to be drained although no other node of its application serves.
	Anyway bool `json:"anyway,omitempty"`
	// Generation is the generation that the request was made for; 0 means any.
	Generation int `json:"generation,omitempty"`
}

// ChangePlan describes what a request would do.
type ChangePlan struct {
	Generation  int                `json:"generation"`
	Differences []stack.Difference `json:"differences,omitempty"`
	Nodes       []plan.NodeChange  `json:"nodes"`
	// Steps are in order. If the change has several parts, the groups' numbers continue across
	// them.
	Steps []plan.Step `json:"steps,omitempty"`
	// Replaced names the nodes that are restarted because their program's file was replaced.
	Replaced []string `json:"replaced,omitempty"`
	// Tokens names the nodes that are restarted because their tokens file (kv.tokens-file) has
	// changed since they read it.
	Tokens []string `json:"tokens,omitempty"`
	// Refused lists the reasons why the change would not begin.
	Refused []string `json:"refused,omitempty"`
}

// Empty reports whether there is nothing to do.
func (p ChangePlan) Empty() bool {
	return len(p.Steps) == 0 && len(p.Differences) == 0
}

// Additions reports whether the request only adds to what runs: nodes, applications, and the
// routes to them. A request that touches no node at all counts as one, too.
func (p ChangePlan) Additions() bool {
	if len(p.Steps) == 0 {
		return true
	}
	added := []string{"routes", "rollout"}
	for _, n := range p.Nodes {
		if n.Action == plan.Start {
			added = append(added, n.Causes...)
		}
	}
	starts := false
	for _, s := range p.Steps {
		switch starts = starts || s.Action == plan.Start; {
		case s.Action == plan.Stop || s.Action == plan.Restart || s.Action == plan.Forget || s.Late:
			return false
		}
	}
	return starts && !slices.ContainsFunc(p.Differences, func(d stack.Difference) bool {
		// More nodes mean a lower limit of streams for each web node.
		return !strings.HasSuffix(d.Key, ".kv.limits.streams") &&
			!slices.ContainsFunc(added, func(key string) bool { return d.Key == key || strings.HasPrefix(d.Key, key+".") })
	})
}

// Event is one event of a change.
type Event struct {
	// ID is the change's: see Result.
	ID int `json:"id,omitempty"`
	// Step counts from 1 to Of.
	Step   int         `json:"step"`
	Of     int         `json:"of"`
	Node   string      `json:"node,omitempty"`
	Action plan.Action `json:"action,omitempty"`
	// What is what happened to the step: begun, done, failed, or put back.
	What string `json:"what"`
	// Text adds details, if there are any.
	Text string `json:"text,omitempty"`
}

// Result is how a change ended.
type Result struct {
	ID    int       `json:"id"`
	Kind  string    `json:"kind"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	// Done is true when the stack is what was asked for. Otherwise Why is what stopped it.
	Done bool   `json:"done"`
	Why  string `json:"why,omitempty"`
	// Held is true for a rollout that waits after its first nodes: see Rollout.Only.
	Held bool `json:"held,omitempty"`
	// Unfinished is true when the supervisor ended in the middle; the next one continues.
	Unfinished bool `json:"unfinished,omitempty"`
	// Left names the nodes that a stopped change has left with settings other than the stack's.
	// If it is empty, the stack is what it was before.
	Left []string `json:"left,omitempty"`
	// Steps is how many steps were done, out of Of.
	Steps int `json:"steps"`
	Of    int `json:"of"`
}

// ArgumentError is the error of a request with a value that the stack cannot have.
type ArgumentError struct{ err error }

func (e *ArgumentError) Error() string { return e.err.Error() }
func (e *ArgumentError) Unwrap() error { return e.err }

func badArgument(format string, args ...any) error {
	return &ArgumentError{fmt.Errorf(format, args...)}
}

// BusyError is the error of a change that is asked for while another one is under way.
type BusyError struct{ Change ChangeStatus }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another change is under way (%s, since %s: %s); 'holdfast status' shows it", e.Change.Kind, e.Change.Began.Format(time.TimeOnly), e.Change.At())
}

// StartingError is the error of a request that comes before the supervisor has brought up the
// nodes, or has found those that run.
type StartingError struct{}

func (*StartingError) Error() string { return "the stack is being started: try again when it is up" }

// ChangeStatus is the published state of a change that is under way.
type ChangeStatus struct {
	ID    int       `json:"id"`
	Kind  string    `json:"kind"`
	Began time.Time `json:"began"`
	// Held is the application whose rollout waits after its first nodes; empty if none waits.
	Held string `json:"held,omitempty"`
	Event
}

// At returns, for a person, which step the change is at.
func (c ChangeStatus) At() string {
	if c.Held != "" {
		return fmt.Sprintf("it waits after the first nodes; 'holdfast rollout %s --continue' goes on, --undo takes it back", c.Held)
	}
	if c.Node == "" {
		return "it begins"
	}
	return fmt.Sprintf("step %d of %d, %s %s", c.Step, c.Of, c.Action, c.Node)
}

// changing holds the one change that is under way. It is safe for concurrent use.
type changing struct {
	mu      sync.Mutex
	now     *ChangeStatus // nil if there is none
	stopped *Result       // the last change, if it was stopped
}

// begin claims the place of the one change for a new one. It may also take the place of app's
// rollout, if that one waits, and then returns the status of the rollout. The error is a
// *BusyError.
func (c *changing) begin(kind, app string) (before *ChangeStatus, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil && (c.now.Held == "" || c.now.Held != app) {
		return nil, &BusyError{*c.now}
	}
	before = c.now
	c.now = &ChangeStatus{Kind: kind, Began: time.Now()}
	return before, nil
}

// end gives the place to next; nil frees it.
func (c *changing) end(next *ChangeStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = next
}

func (c *changing) set(change func(*ChangeStatus)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil {
		change(c.now)
	}
}

// keep remembers the result of the last change if that was stopped, and forgets any earlier one.
func (c *changing) keep(r Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped = nil; !r.Done {
		c.stopped = &r
	}
}

// status returns the change that is under way, if any, and the last change, if that was stopped.
func (c *changing) status() (*ChangeStatus, *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		return nil, c.stopped
	}
	now := *c.now
	return &now, c.stopped
}

// current returns the layout that is being carried out, and its generation.
func (s *Supervisor) current() (layout, int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return layout{file: s.file, baseDir: s.cfg.BaseDir, overrides: s.overrides, plan: s.plan}, s.generation
}

// Preview returns what a request would do and why it would be refused, and changes nothing. It
// returns an error only for a request that makes no sense.
func (s *Supervisor) Preview(ctx context.Context, req Request) (ChangePlan, error) {
	req.Force = append(req.Force, s.inPlace(req.Rollout)...)
	programs, tokens := s.replacedFor(req)
	req.Force = slices.Concat(req.Force, programs, tokens)
	p, _, err := s.prepare(ctx, req)
	p.Replaced, p.Tokens = programs, tokens
	return p, err
}

// Change carries out a request. It returns when the change is done or was stopped. An error
// means that the change did not begin (such as a *RefusedError, a *BusyError, a *StartingError,
// an *ArgumentError or a *ReferenceError), or that ctx ended first: then the change goes on.
// onEvent is called for every event, by one goroutine at a time; it may be nil.
func (s *Supervisor) Change(ctx context.Context, req Request, onEvent func(Event)) (Result, error) {
	if s.stopping.Load() {
		return Result{}, errStopping
	}
	if s.statusBoard.snapshot().Phase == PhaseStarting && req.Kind != kindUp {
		return Result{}, &StartingError{}
	}

	before, err := s.changing.begin(req.Kind, req.Rollout.settles())
	if err != nil {
		return Result{}, err
	}
	req.Force = append(req.Force, s.inPlace(req.Rollout)...)
	programs, tokens := s.replacedFor(req)
	req.Force = slices.Concat(req.Force, programs, tokens)

	ended := make(chan Result, 1)
	began := make(chan error, 1)
	events := make(chan Event, backlog)
	s.tasks.Go(func() {
		c, err := s.beginChange(s.ctx, req, before != nil)
		if err != nil {
			s.changing.end(s.heldOnDisk())
			began <- err
			return
		}
		began <- nil
		c.onEvent = func(e Event) {
			select {
			case events <- e:
			default: // the reader is too slow, or has left: the change does not wait
			}
		}
		r := c.run(s.ctx)
		s.putVersionBack(s.ctx, c, &r)
		s.changing.end(c.heldStatus(r))
		ended <- r // only now, so that the next change may follow at once
	})

	if err := <-began; err != nil {
		if s.ctx.Err() != nil {
			err = errors.New("the supervisor has ended before the change began; 'holdfast status' shows whether the next one knows of it")
		}
		return Result{}, err
	}
	for {
		select {
		case e := <-events:
			if onEvent != nil {
				onEvent(e)
			}
		case r := <-ended:
			for len(events) > 0 {
				if e := <-events; onEvent != nil {
					onEvent(e)
				}
			}
			return r, nil
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
}

// beginChange checks a request and writes the change down. waits is true if a rollout waits
// which the request may continue or take back.
func (s *Supervisor) beginChange(ctx context.Context, req Request, waits bool) (*changeRun, error) {
	s.noteAbsent(ctx)
	var held changeRecord // is taken back, unless the request is refused
	if req.Rollout != nil && (waits || req.Rollout.Continue) {
		var c *changeRun
		var err error
		if c, held, err = s.settleHeld(*req.Rollout, waits); c != nil || err != nil {
			return c, err
		}
		req.Rollout = nil // what is taken back becomes what is declared
	}

	if err := s.copyReleases(ctx, &req); err != nil {
		return nil, err
	}
	preview, final, err := s.prepare(ctx, req)
	if err != nil {
		return nil, err
	}
	if req.Generation != 0 && req.Generation != preview.Generation {
		return nil, refused("the stack has been changed meanwhile: look at the plan again")
	}
	if len(preview.Refused) > 0 {
		return nil, refused("%s", strings.Join(preview.Refused, "\n"))
	}

	r := changeRecord{
		ID: max(s.dir.newestChange(preview.Generation), held.ID) + 1, Kind: req.Kind, Began: time.Now(),
		Stack: string(final.file.Show()), BaseDir: final.baseDir, Overrides: final.overrides, Placement: final.placement, Force: req.Force,
	}
	if req.Rollout != nil {
		r.App, r.Only = req.Rollout.App, req.Rollout.Only
	}
	if err := s.keepPorts(final); err != nil {
		return nil, err
	}
	if err := s.dir.writeChange(r); err != nil {
		return nil, err
	}

	if held.ID != 0 { // from here on nothing waits
		held.Result = &Result{ID: held.ID, Kind: held.Kind, Began: held.Began, Ended: time.Now(), Why: "it was taken back while it waited"}
		if err := s.dir.keepChange(held); err != nil {
			s.log.Error("cannot write down that a rollout was taken back", "error", err)
		}
	}
	return &changeRun{sup: s, record: r, final: final, of: len(preview.Steps)}, nil
}

// prepare computes the layout and the steps that a request leads to, and checks them.
func (s *Supervisor) prepare(ctx context.Context, req Request) (ChangePlan, layout, error) {
	s.noteAbsent(ctx)
	now, generation := s.current()
	final, err := s.target(now, req)
	if err != nil {
		return ChangePlan{}, layout{}, err
	}
	p := ChangePlan{Generation: generation, Differences: stack.Differences(now.stack(), final.stack())}
	p.Nodes = plan.Diff(now.host(), final.host(), p.Differences)
	for _, name := range req.Force {
		if s.node(name) == nil {
			return p, final, &UnknownNodeError{Node: name, Nodes: s.names()}
		}
	}

	p.Refused = plan.Refusals(now.stack(), final.stack(), p.Nodes)
	if r := final.stack().Redis; req.Kind != kindUp && (r.Replicas == 0 || r.Sentinels == 0) {
		for _, n := range p.Nodes {
			if n.Kind == plan.Redis && n.Action == plan.Restart {
				p.Refused = append(p.Refused, n.Node+": it has to be started anew for that, and nobody can take its place (redis.replicas, redis.sentinels); take the stack down, and up again: the data stays")
			}
		}
	}
	if err := s.checkRotated(req.Overrides.Drained); err != nil {
		return p, final, err
	}
	p.Refused = append(p.Refused, s.checkDrains(now, final, req.Anyway)...)
	if req.Kind != kindUp {
		p.Refused = append(p.Refused, s.checkLast(p.Nodes, final)...)
	}
	if len(p.Refused) > 0 {
		return p, final, nil
	}

	parts, err := s.changeParts(now, final, req.Force)
	if err != nil {
		return p, final, err
	}
	group := 0
	for _, part := range parts {
		for _, step := range part.steps {
			step.Group += group
			p.Steps = append(p.Steps, step)
		}
		if len(p.Steps) > 0 {
			group = p.Steps[len(p.Steps)-1].Group + 1
		}
	}
	if req.Kind != kindUp {
		p.Refused = append(p.Refused, s.checkAbsent(p.Steps, now, final)...)
	}
	if err := s.checkServers(ctx, final, parts); err != nil {
		if req.atStart { // what runs goes on; the change is refused when its turn comes
			s.log.Warn("the servers of Redis cannot become what the stack file says", "error", err)
		} else {
			p.Refused = append(p.Refused, err.Error())
		}
	}
	if err := s.checkChange(ctx, now, final, parts); err != nil {
		var wrong *ReferenceError
		if errors.As(err, &wrong) {
			return p, final, err
		}
		p.Refused = append(p.Refused, err.Error())
	}

	if req.Kind != kindUp { // at a start the steps themselves wait for the nodes
		p.Refused = append(p.Refused, s.checkLeaving(ctx, final, p.Nodes)...)
	}
	return p, final, nil
}

// target returns the layout that a request asks for.
func (s *Supervisor) target(now layout, req Request) (layout, error) {
	final := layout{file: now.file, baseDir: now.baseDir, overrides: now.overrides}
	if req.File != "" {
		file, _, err := stack.Parse("the stack file", []byte(req.File))
		if err != nil {
			return layout{}, err
		}
		if len(file.Hosts) > 1 && !s.cfg.Several {
			return layout{}, &ArgumentError{ErrSeveralHosts}
		}
		if len(file.Hosts) > 0 && !s.cfg.Several && file.Encrypts() {
			return layout{}, ErrPlainSoFar
		}
		final.file, final.baseDir, final.overrides = file, req.BaseDir, now.overrides.DropSuperseded(now.file, file)
		if wrong := s.checkNewHosts(s.ctx, now, final); len(wrong) > 0 {
			return layout{}, refused("%s", strings.Join(wrong, "\n"))
		}
		final.balance = len(now.file.Hosts) > 0 && len(newHosts(now, final)) > 0
	}
	final.overrides = final.overrides.With(req.Overrides)
	if req.Rollout != nil {
		change, err := s.rolledOut(now, *req.Rollout)
		if err != nil {
			return layout{}, err
		}
		final.overrides = final.overrides.With(change)
	}
	for _, name := range slices.Sorted(maps.Keys(req.Overrides.Nodes)) {
		if _, there := final.file.Apps[name]; !there {
			return layout{}, &UnknownAppError{name, final.file.AppNames()}
		}
	}
	for name, n := range final.overrides.Nodes {
		if n == final.file.Apps[name].Nodes { // the file says the same
			delete(final.overrides.Nodes, name)
		}
	}
	// Overrides that are in force already are not checked again: an older version may have
	// accepted what this one refuses.
	if err := final.overrides.Changed(now.overrides).Check(final.file); err != nil {
		return layout{}, &ArgumentError{err}
	}
	final, err := s.planned(final, final.overrides.Apply(final.file))
	final.overrides = withoutGone(final.overrides, now, final)
	return final, err
}
