package supervise

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/release"
	"holdfast/internal/stack"
)

// versions.json records, for each application, the versions of its program that all its nodes
// have run, the oldest first.

// Version is what the nodes of an application ran from a time on.
type Version struct {
	// Number counts the versions of an application from 1.
	Number int       `json:"number"`
	Since  time.Time `json:"since"`
	// By is the kind of change that brought it: up, apply, rollout or undo.
	By string `json:"by"`
	// Release is the digest of its files; empty: the files were used in place.
	Release string        `json:"release,omitempty"`
	Program stack.Program `json:"program"`
}

// same reports whether two versions are the same program.
func (v Version) same(o Version) bool {
	return v.Release == o.Release && slices.Equal(v.Program.Command, o.Program.Command) && v.Program.Dir == o.Program.Dir && maps.Equal(v.Program.Env, o.Program.Env)
}

const (
	versionsFile = "versions.json"
	keptVersions = 50
)

func (d dir) readVersions() (map[string][]Version, error) {
	all := map[string][]Version{}
	err := d.readJSON(versionsFile, &all)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return all, err
}

// Versions returns the versions that an application ran, the oldest first. kept reports, by
// number, whether a version's files still exist.
func Versions(stateDir, app string) (all []Version, kept map[int]bool, err error) {
	versions, err := dirAt(stateDir).readVersions()
	if err != nil {
		return nil, nil, err
	}
	kept = map[int]bool{}
	store := release.At(dirAt(stateDir).path(plan.ReleasesDir(app)))
	there, err := store.List()
	for _, v := range versions[app] {
		kept[v.Number] = slices.Contains(there, v.Release)
	}
	return versions[app], kept, err
}

// noteVersions records what the applications run from now on.
func (s *Supervisor) noteVersions(by string) {
	all, err := s.dir.readVersions()
	if err != nil {
		s.log.Error("what ran before is not known any more", "error", err)
		all = map[string][]Version{}
	}
	changed := false
	of := s.stack()
	for _, name := range of.AppNames() {
		app := of.Apps[name]
		if app.Kind() != stack.Command {
			continue
		}
		v := Version{
			Number: 1, Since: time.Now(), By: by, Release: app.Digest,
			Program: stack.Program{Command: app.Command, Dir: app.Dir, Env: app.Env},
		}
		if before := all[name]; len(before) > 0 {
			last := before[len(before)-1]
			if v.same(last) {
				continue
			}
			v.Number = last.Number + 1
		}
		all[name] = append(all[name], v)
		all[name] = all[name][max(0, len(all[name])-keptVersions):]
		changed = true
	}
	if !changed {
		return
	}
	if err := s.dir.writeJSON(versionsFile, all); err != nil {
		s.log.Error("cannot write down what the applications run", "error", err)
	}
}

// versionBefore returns the overrides that bring back what an application ran before.
func (s *Supervisor) versionBefore(now layout, name string) (stack.Overrides, error) {
	all, err := s.dir.readVersions()
	if err != nil {
		return stack.Overrides{}, err
	}
	app := now.stack().Apps[name]
	ran := all[name]
	if len(ran) < 2 {
		return stack.Overrides{}, refused("nothing is known that %s ran before: there is nothing to go back to", name)
	}
	v := ran[len(ran)-2]
	switch {
	case v.Release != "" && app.Release == "":
		return stack.Overrides{}, refused("what %s ran before was a release, and the stack file has no apps.%s.release any more: put it back, and 'holdfast apply'", name, name)
	case v.Release == "" && app.Release != "":
		return stack.Overrides{}, refused("what %s ran before was not a release, and its files may be others by now: there is nothing to go back to", name)
	}
	return stack.Overrides{
		Programs: map[string]stack.Program{name: unlessDeclared(now.file.Apps[name], v.Program)},
		Releases: map[string]string{name: v.Release},
	}, nil
}

// Shown returns the version's program without the values of its environment.
func (v Version) Shown() RunTimeProgram { return shownProgram(v.Program) }
