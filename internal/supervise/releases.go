package supervise

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/quote"
	"holdfast/internal/release"
	"holdfast/internal/stack"
)

// store returns the store of an application's releases.
func (s *Supervisor) store(app string) release.Store {
	return release.At(s.dir.path(plan.ReleasesDir(app)))
}

// copyReleases makes the copies that a request needs: those of the application that is rolled
// out, and of all that have none yet. It adds their digests to the request.
func (s *Supervisor) copyReleases(ctx context.Context, req *Request) error {
	now, _ := s.current()
	final, err := s.target(now, *req)
	if err != nil {
		return err
	}
	anew := ""
	if req.Rollout != nil && !req.Rollout.Undo {
		anew = req.Rollout.App
	}
	if err := s.checkSource(final.stack(), final.baseDir, anew); err != nil {
		return err
	}
	made, err := s.addReleases(ctx, final.stack(), final.baseDir, anew)
	if err != nil {
		return err
	}
	req.Overrides.Releases = merged(req.Overrides.Releases, made)
	return nil
}

// checkSource checks an application's program and directory in the files that are to be copied,
// instead of in an existing copy.
func (s *Supervisor) checkSource(of stack.Stack, baseDir, name string) error {
	app, there := of.Apps[name]
	if !there || app.Release == "" {
		return nil
	}
	app.Digest = ""
	of.Apps = map[string]stack.App{name: app}
	var wrong []error
	for _, e := range CheckReferences(of, baseDir, machine.Variable(s.cfg.Environ, "PATH")) {
		wrong = append(wrong, e)
	}
	return errors.Join(wrong...)
}

// addReleases copies the programs that have no release yet, and in any case that of the
// application anew. It returns the digests by application.
func (s *Supervisor) addReleases(ctx context.Context, of stack.Stack, baseDir, anew string) (map[string]string, error) {
	made := map[string]string{}
	for _, name := range of.AppNames() {
		app := of.Apps[name]
		if app.Release == "" || app.Digest != "" && name != anew {
			continue
		}
		source := plan.Resolve(baseDir, app.Release)
		digest, err := s.store(name).Add(ctx, source)
		if err == nil {
			err = s.spreadRelease(ctx, name, source, digest)
		}
		if err != nil {
			return nil, fmt.Errorf("apps.%s.release: %w", name, err)
		}
		s.log.Info("a release was copied", "app", name, "release", digest)
		made[name] = digest
	}
	return made, nil
}

// prepareReleases makes the copies that a starting stack needs, and makes the plan again with
// them.
func (s *Supervisor) prepareReleases() error {
	made, err := s.addReleases(s.ctx, s.stack(), s.cfg.BaseDir, "")
	if err != nil {
		return err
	}
	if err := s.checkReleases(s.stack(), func(name string) string {
		return fmt.Sprintf("have apps.%s say what it said before and 'holdfast up'; then 'holdfast rollout %[1]s' with --command and --dir brings other files and another command at once", name)
	}); err != nil || len(made) == 0 {
		return err
	}
	s.mu.Lock()
	s.overrides = s.overrides.With(stack.Overrides{Releases: made})
	s.cfg.Stack = s.overrides.Apply(s.file)
	s.mu.Unlock()
	if err := s.replan(); err != nil {
		return err
	}
	for _, p := range s.processes() {
		n := s.node(p.Node)
		n.now.Store(&p)
		n.outdated.Store(n.proc != nil && n.settingsDigest != s.digest(p))
	}
	return nil
}

// checkReleases returns why applications cannot run from their releases, each with advice.
func (s *Supervisor) checkReleases(of stack.Stack, advice func(app string) string) error {
	var wrong []error
	for _, name := range of.AppNames() {
		app := of.Apps[name]
		if app.Release == "" || app.Digest == "" {
			continue
		}
		changed, err := s.store(name).Check(app.Digest)
		if s.cfg.Several && errors.Is(err, release.ErrMissing) { // this host was away when the others got the release
			err = s.hosts.here.needRelease(s.ctx, s.cfg.Self, name, plan.Resolve(s.baseDir(), app.Release), app.Digest)
		}
		if len(changed) > 0 {
			s.log.Warn("a release is not as it was copied: give the program another place for what it writes", "app", name, "release", app.Digest, "files", somePaths(changed))
		}
		home := s.store(name).Path(app.Digest)
		if err == nil {
			err = checkProgramFile(app, app.Command[0], home, machine.Variable(s.cfg.Environ, "PATH"))
		}
		if err == nil {
			err = process.Enterable(filepath.Join(home, relativeDir(app.Dir)))
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s runs from a copy of its files (apps.%[1]s.release): %w; %s", name, err, advice(name)))
		}
	}
	return errors.Join(wrong...)
}

// somePaths joins the first of several paths, quoted.
func somePaths(paths []string) string {
	const shown = 5
	var all []string
	for _, path := range paths[:min(shown, len(paths))] {
		all = append(all, quote.Shell(path))
	}
	if more := len(paths) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}

// relativeDir returns a directory of a release; empty: the directory is outside.
func relativeDir(dir string) string {
	if filepath.IsAbs(dir) {
		return ""
	}
	return dir
}

// pruneReleases removes old releases, and those of rollouts that were undone. What cannot be
// removed is tried again the next time.
func (s *Supervisor) pruneReleases() {
	versions, err := s.dir.readVersions()
	if err != nil {
		s.log.Error("no old release is removed", "error", err)
		return
	}
	for name, app := range s.stack().Apps {
		if app.Release == "" {
			continue
		}
		needed := lastReleases(versions[name], app.KeepReleases)
		for _, p := range s.processes() {
			if p.App == name {
				needed = append(needed, p.Release)
			}
		}
		needed = append(needed, app.Digest)
		if err := s.store(name).Prune(needed); err != nil {
			s.log.Error("an old release is not removed", "app", name, "error", err)
		}
		s.pruneHosts(name, needed)
	}
}

// lastReleases returns the releases that an application ran last, at most so many, but at least
// those of its last two versions.
func lastReleases(versions []Version, most int) (digests []string) {
	for i, v := range slices.Backward(versions) {
		if v.Release == "" || slices.Contains(digests, v.Release) {
			continue
		}
		if len(digests) >= most && i < len(versions)-2 {
			break
		}
		digests = append(digests, v.Release)
	}
	return digests
}
