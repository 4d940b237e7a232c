package supervise

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/release"
)

// Each of several hosts has its own copies, made from its own disk: a program's files are at
// the same path on all hosts, and the nodes run from the copy of their host. The digest shows
// whether the files are the same. Every host makes every copy, because any host may lead.

// ReleasesCommand is the hidden subcommand by which a host makes and removes copies: package
// cli.
const (
	ReleasesCommand = "releases"
	ReleasesAdd     = "add"
	ReleasesPrune   = "prune"
)

// copyLimit is how long a host may take for a copy.
const copyLimit = time.Minute

// spreadRelease makes all present hosts copy the files of which a release with this digest was
// made. A host that is away makes its copy when it is back: see lacksRelease.
func (s *Supervisor) spreadRelease(ctx context.Context, app, source, digest string) error {
	if !s.cfg.Several {
		return nil
	}
	return s.onHosts(ctx, func(host home) error { return host.needRelease(ctx, s.cfg.Self, app, source, digest) })
}

// onHosts calls do for all present hosts, at once.
func (s *Supervisor) onHosts(ctx context.Context, do func(host home) error) error {
	all := s.hosts.all()
	failed := make([]error, len(all))
	var doing sync.WaitGroup
	for i, host := range all {
		doing.Go(func() {
			if host.Present(ctx) {
				failed[i] = do(host)
			}
		})
	}
	doing.Wait()
	return errors.Join(failed...)
}

// needRelease makes a host copy the files of a release, unless it has the release.
func (h home) needRelease(ctx context.Context, self, app, source, digest string) error {
	store := plan.ReleasesDir(app)
	if h.has(ctx, path.Join(store, release.ManifestName(digest))) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, copyLimit)
	defer cancel()
	out, err := h.Run(ctx, h.self(ctx, self), ReleasesCommand, ReleasesAdd, h.Path(store), source)
	said := strings.TrimSpace(string(out.Text))
	switch {
	case err != nil:
		return fmt.Errorf("host %s does not copy %s: %w", h.name, quote.Shell(source), err)
	case out.Code != 0:
		return fmt.Errorf("host %s does not copy %s: %s", h.name, quote.Shell(source), quote.Cut(strings.TrimPrefix(said, "holdfast: "), longDetail))
	case said != digest:
		return fmt.Errorf("the files in %s on host %s are others than those of the release %s: bring the same ones to all hosts", quote.Shell(source), h.name, digest)
	}
	return nil
}

// lacksRelease makes a host that was away copy the release that a node is to run from. It
// returns why that failed; nil: the release is there.
func (s *Supervisor) lacksRelease(ctx context.Context, host home, p *plan.Process) error {
	app := s.stack().Apps[p.App]
	if !s.cfg.Several || p.Release == "" || app.Release == "" {
		return nil
	}
	return host.needRelease(ctx, s.cfg.Self, p.App, plan.Resolve(s.baseDir(), app.Release), p.Release)
}

// pruneHosts makes all present hosts remove an application's releases, except the needed ones.
func (s *Supervisor) pruneHosts(app string, needed []string) {
	if !s.cfg.Several {
		return
	}
	err := s.onHosts(s.ctx, func(host home) error {
		ctx, cancel := context.WithTimeout(s.ctx, copyLimit)
		defer cancel()
		there, err := host.Glob(ctx, path.Join(plan.ReleasesDir(app), release.ManifestName("*")))
		if err != nil || !slices.ContainsFunc(there, func(name string) bool {
			return !slices.ContainsFunc(needed, func(digest string) bool { return path.Base(name) == release.ManifestName(digest) })
		}) {
			return err
		}
		args := append([]string{ReleasesCommand, ReleasesPrune, host.Path(plan.ReleasesDir(app))}, needed...)
		out, err := host.Run(ctx, host.self(ctx, s.cfg.Self), args...)
		if err == nil && out.Code != 0 {
			err = errors.New(quote.Cut(strings.TrimSpace(string(out.Text)), longDetail))
		}
		return err
	})
	if err != nil {
		s.log.Error("an old release is not removed on a host", "app", app, "error", err)
	}
}
