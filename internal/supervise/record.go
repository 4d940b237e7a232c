package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// A change is recorded before its first step (change.json), so that the next supervisor goes on
// with it. When it has ended, it is kept for some time (changes/).

// changeRecord is the content of change.json.
type changeRecord struct {
	ID    int       `json:"id"`
	Kind  string    `json:"kind"`
	Began time.Time `json:"began"`
	// Stack, BaseDir and Overrides are what the change asks for, as in running.
	Stack     string          `json:"stack"`
	BaseDir   string          `json:"base_dir"`
	Overrides stack.Overrides `json:"overrides"`
	// Placement says where the nodes are to be, if the stack has hosts.
	Placement plan.Placement `json:"placement,omitempty"`
	// Force are the nodes that are still to be restarted although nothing about them changes.
	Force []string `json:"force,omitempty"`
	// App is the application of a rollout. The rollout waits after Only of its nodes; 0: it does
	// not wait. Held is true while it waits.
	App  string `json:"app,omitempty"`
	Only int    `json:"only,omitempty"`
	Held bool   `json:"held,omitempty"`
	// Result is how the change ended; nil: it is under way.
	Result *Result `json:"result,omitempty"`
}

const (
	changeFile = "change.json"
	changesDir = "changes"
	// keptChanges is how many ended changes are kept.
	keptChanges = 50
)

func (d dir) writeChange(r changeRecord) error { return d.writeJSON(changeFile, r) }

// readChange reads the change that was under way, and reports whether there is one. A change
// that has ended does not count, even if its file could not be removed.
func (d dir) readChange() (r changeRecord, there bool, err error) {
	err = d.readJSON(changeFile, &r)
	if r.ID != 0 && d.hasEnded(r) {
		return changeRecord{}, false, nil
	}
	if err != nil && !errors.As(err, new(*fs.PathError)) {
		err = fmt.Errorf("%w. Move it away: the change that it speaks of is then given up, and 'holdfast apply' begins another", err)
	}
	return r, r.ID != 0, err
}

// UnfinishedChange returns the change that is recorded in a state directory and has not ended;
// nil: there is none.
func UnfinishedChange(stateDir string) *ChangeStatus {
	r, there, err := dirAt(stateDir).readChange()
	if err != nil || !there || r.Result != nil {
		return nil
	}
	return &ChangeStatus{ID: r.ID, Kind: r.Kind, Began: r.Began}
}

// hasEnded reports whether a change is in the archive with its result.
func (d dir) hasEnded(r changeRecord) bool {
	var kept changeRecord
	err := d.readJSON(keptAs(r.ID), &kept)
	return err == nil && kept.ID == r.ID && kept.Began.Equal(r.Began) && kept.Result != nil
}

// keptAs returns the file of an ended change.
func keptAs(id int) string { return filepath.Join(changesDir, fmt.Sprintf("%06d.json", id)) }

// keepChange writes the record of an ended change into the archive.
func (d dir) keepChange(r changeRecord) error {
	if err := os.MkdirAll(d.path(changesDir), 0o700); err != nil {
		return err
	}
	return d.writeJSON(keptAs(r.ID), r)
}

// archive keeps an ended change, and removes the oldest ones from the archive.
func (d dir) archive(r changeRecord) error {
	err := d.keepChange(r)
	// The file is removed also if the disk is full; otherwise the next supervisor would go on with
	// it.
	err = errors.Join(err, d.remove(changeFile))
	if err != nil {
		return err
	}
	old := d.archived()
	for _, path := range old[:max(0, len(old)-keptChanges)] {
		_ = d.remove(filepath.Join(changesDir, filepath.Base(path))) // if that fails, the record is kept for longer
	}
	return nil
}

// archived returns the files of the ended changes, the newest last.
func (d dir) archived() []string {
	paths, _ := filepath.Glob(d.path(changesDir, "*.json"))
	slices.Sort(paths)
	return paths
}

// newestChange returns the highest number of a change so far. A failed change has a number, but
// does not make a generation.
func (d dir) newestChange(generation int) int {
	newest := generation
	for _, path := range d.archived() {
		if id, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".json")); err == nil {
			newest = max(newest, id)
		}
	}
	return newest
}

// EndedChanges returns the archived changes of a stack, the newest last.
func EndedChanges(stateDir string) ([]Result, error) {
	d := dirAt(stateDir)
	var all []Result
	for _, path := range d.archived() {
		var r changeRecord
		if err := d.readJSON(filepath.Join(changesDir, filepath.Base(path)), &r); err != nil {
			return nil, err
		}
		if r.Result != nil {
			all = append(all, *r.Result)
		}
	}
	return all, nil
}

// layoutOf returns what a recorded change asks for.
func (s *Supervisor) layoutOf(r changeRecord) (layout, error) {
	file, _, err := stack.Parse(changeFile, []byte(r.Stack))
	if err != nil {
		return layout{}, err
	}
	return s.planned(layout{file: file, baseDir: r.BaseDir, overrides: r.Overrides, placement: r.Placement}, r.Overrides.Apply(file))
}

// awaitChange makes the changes of a start and waits for them. If ctx ends first, they go on.
func (s *Supervisor) awaitChange(ctx context.Context) error {
	ended := make(chan error, 1)
	s.tasks.Go(func() { ended <- s.changeAtStart() })
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// changeAtStart goes on with a change that an earlier supervisor left. Then it changes the
// stack to what its file says, if that differs.
func (s *Supervisor) changeAtStart() error {
	r, there, err := s.dir.readChange()
	if err != nil {
		return err
	}
	if there && r.Held {
		s.log.Info("a rollout waits, and what the stack file has changed waits with it", "app", r.App)
		s.changing.end(r.heldStatus())
		return nil
	}
	if there {
		if err := s.resume(r); err != nil {
			return err
		}
	}
	if s.wanted == nil {
		return nil
	}
	req := Request{Kind: kindUp, File: string(s.wanted.file.Show()), BaseDir: s.wanted.baseDir, Force: s.outdatedNodes()}
	if p, _, err := s.prepare(s.ctx, req); err == nil && p.Empty() {
		return nil
	}
	return s.changeNow(req)
}

// outdatedNodes returns the nodes whose running processes differ from the plan. Nodes that a
// resumed change has restarted are not among them.
func (s *Supervisor) outdatedNodes() (names []string) {
	for _, p := range s.processes() {
		if !s.node(p.Node).outdated.Load() {
			continue
		}
		if r, err := s.home(p.Node).readRecord(s.ctx, p.Node); err != nil || r.Plan != s.digest(p) {
			names = append(names, p.Node)
		}
	}
	return names
}

// changeNow makes a change during the start.
func (s *Supervisor) changeNow(req Request) error {
	result, err := s.Change(s.ctx, req, nil)
	switch {
	case err != nil:
		return fmt.Errorf("the stack runs as before, and not as its file says: %w", err)
	case !result.Done:
		return errors.New(result.Why)
	}
	return nil
}

// resume goes on with a change. If that is impossible, it gives the change up.
func (s *Supervisor) resume(r changeRecord) error {
	final, err := s.layoutOf(r)
	if err == nil {
		_, err = s.changing.begin(r.Kind, "")
	}
	if err != nil {
		err = fmt.Errorf("the change that was under way (%s) cannot go on: %w", r.Kind, err)
		r.Result = &Result{ID: r.ID, Kind: r.Kind, Began: r.Began, Ended: time.Now(), Why: err.Error()}
		return errors.Join(err, s.dir.archive(r))
	}
	var result Result
	c := &changeRun{sup: s, record: r, final: final, onEvent: func(Event) {}}
	defer func() { s.changing.end(c.heldStatus(result)) }()
	s.log.Info("a change goes on that a supervisor before has begun", "kind", r.Kind, "id", r.ID)
	result = c.run(s.ctx)
	s.putVersionBack(s.ctx, c, &result)
	if !result.Done && !result.Held {
		return errors.New(result.Why)
	}
	return nil
}
