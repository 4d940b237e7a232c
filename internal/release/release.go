// Package release keeps releases of a user's program: copies of its files, named by
// their content. Nodes run from a release, and an older one can be used again. A
// release exists whole or not at all, even after a loss of power. Store adds, checks,
// lists and removes releases; copy.go copies the files, and repair.go restores changed
// ones. Which release a node runs is not decided here.
package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/quote"
)

// Store is the directory with the releases of one application:
//
//	DIGEST/          the files
//	DIGEST.manifest  the list of the files; DIGEST is the digest of this list
//	.new-…, .old-…   leftovers of interrupted calls
//
// Only one process at a time may change it.
type Store struct{ dir string }

// At returns the store in a directory, which need not exist yet.
func At(dir string) Store { return Store{dir} }

const (
	manifestEnd = ".manifest"
	newPrefix   = ".new-"
	oldPrefix   = ".old-"
)

// minFree is how much disk space a copy has to leave for the stack's own data, in bytes.
const minFree = 64 << 20

// ErrMissing is wrapped by the error of Check for a release that does not exist.
var ErrMissing = errors.New("there is no such release")

// ManifestName returns the name of a release's manifest, which is beside its directory. It is
// written last, so a release with a manifest is complete.
func ManifestName(digest string) string { return digest + manifestEnd }

// Path returns the directory of a release.
func (s Store) Path(digest string) string { return filepath.Join(s.dir, digest) }

// Add copies the files of a directory, and returns the digest of the release. If that
// release exists already, unchanged, it is kept as it is.
func (s Store) Add(ctx context.Context, source string) (digest string, err error) {
	if source, err = s.checkSource(source); err != nil {
		return "", err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory for releases: %w", err)
	}
	s.sweep()
	if err := s.checkRoom(ctx, source); err != nil {
		return "", err
	}

	target, err := os.MkdirTemp(s.dir, newPrefix)
	if err != nil {
		return "", fmt.Errorf("copy %s: %w", quote.Shell(source), err)
	}
	defer func() { _ = removeAll(target) }() // does nothing after the rename
	c := copier{ctx: ctx, from: source, to: target}
	entries, err := c.copyAll()
	if err != nil {
		return "", s.explain(source, err)
	}
	manifest := manifestText(entries)
	digest = digestOf(manifest)
	if changed, err := s.Check(digest); err == nil && len(changed) == 0 {
		return digest, nil
	}
	if err := s.place(digest, target, manifest, entries); err != nil {
		return "", s.explain(source, err)
	}
	return digest, nil
}

// place makes a copy the release of a digest. The manifest is written last, because a
// release without one does not count. If the release exists but was changed, its
// directory stays, because nodes may run in it; only its files are replaced.
func (s Store) place(digest, target, manifest string, entries []entry) error {
	if err := syncAll(target); err != nil {
		return err
	}
	err := os.Rename(target, s.Path(digest))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		err = repair(s.Path(digest), target, entries)
	}
	if err != nil {
		return err
	}
	draft := filepath.Join(s.dir, newPrefix+digest+manifestEnd)
	if err := os.WriteFile(draft, []byte(manifest), 0o600); err != nil {
		return err
	}
	if err := syncPath(draft); err != nil {
		return err
	}
	if err := os.Rename(draft, s.Path(digest)+manifestEnd); err != nil {
		return err
	}
	return syncPath(s.dir)
}

// explain returns the error for a failed copy of source.
func (s Store) explain(source string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("the disk of %s is too full for a copy of %s: nothing was changed; make room there, or keep fewer releases (keep-releases)", quote.Shell(s.dir), quote.Shell(source))
	}
	return fmt.Errorf("copy %s: %w", quote.Shell(source), err)
}

// checkSource returns the directory that a path leads to, or an error if it cannot be copied.
func (s Store) checkSource(source string) (string, error) {
	real, err := filepath.EvalSymlinks(source)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s does not exist", quote.Shell(source))
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a directory", quote.Shell(source))
	}
	// Parents of the store may not exist yet.
	for at := s.dir; ; at = filepath.Dir(at) {
		if there, err := os.Stat(at); err == nil && os.SameFile(there, info) {
			return "", fmt.Errorf("the state directory is in %s, and would be copied into itself: choose another directory for release, or for --state", quote.Shell(source))
		}
		if at == filepath.Dir(at) {
			return real, nil
		}
	}
}

// checkRoom returns an error if a copy would leave less than minFree on the disk.
func (s Store) checkRoom(ctx context.Context, source string) error {
	size, err := sizeOf(ctx, source)
	if err != nil {
		return err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.dir, &disk); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", quote.Shell(s.dir), err)
	}
	if free := int64(disk.Bavail) * int64(disk.Bsize); free < size+minFree {
		return fmt.Errorf("%s has %d MiB of files, and the disk of %s has %d MiB free, of which %d have to stay: make room there, or keep fewer releases (keep-releases)",
			quote.Shell(source), size>>20, quote.Shell(s.dir), free>>20, minFree>>20)
	}
	return nil
}

// Check returns an error if a release does not exist, or lacks a file. Changed are the
// paths of files that were changed, for example by the program itself; nodes can run from
// such a release all the same. Files that were added are ignored.
func (s Store) Check(digest string) (changed []string, err error) {
	text, err := os.ReadFile(s.Path(digest) + manifestEnd)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrMissing, quote.Text(digest))
	}
	if err != nil {
		return nil, err
	}

	if digestOf(string(text)) != digest {
		return nil, fmt.Errorf("the release %s is damaged: its manifest is another one's", digest)
	}
	entries, err := readManifest(string(text))
	if err != nil {
		return nil, fmt.Errorf("the release %s is damaged: %w", digest, err)
	}

	for _, e := range entries {
		is, err := describe(s.Path(digest), e.path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("the release %s is damaged: it has no %s any more", digest, quote.Shell(e.path))
		}
		if err != nil || is != e { // a file that cannot be read counts as changed
			changed = append(changed, e.path)
		}
	}
	return changed, nil
}

// List returns the digests of the releases.
func (s Store) List() ([]string, error) {
	found, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var digests []string
	for _, f := range found {
		if digest, is := strings.CutSuffix(f.Name(), manifestEnd); is && !strings.HasPrefix(digest, ".") {
			digests = append(digests, digest)
		}
	}
	return digests, err
}

// Prune removes the releases that are not needed any more.
func (s Store) Prune(needed []string) error {
	s.sweep()
	digests, err := s.List()
	if err != nil {
		return err
	}
	for _, digest := range digests {
		if slices.Contains(needed, digest) {
			continue
		}
		if err := s.remove(digest); err != nil {
			return fmt.Errorf("remove the release %s: %w", digest, err)
		}
	}
	return nil
}

// remove removes a release. It first removes the manifest and renames the directory, so
// that an interruption leaves nothing that looks like a release.
func (s Store) remove(digest string) error {
	err := os.Remove(s.Path(digest) + manifestEnd)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old := filepath.Join(s.dir, fmt.Sprintf("%s%s-%d", oldPrefix, digest, time.Now().UnixNano()))
	err = os.Rename(s.Path(digest), old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeAll(old)
}

// sweep removes the leftovers of interrupted calls. It ignores errors: leftovers do no
// harm.
func (s Store) sweep() {
	for _, prefix := range []string{newPrefix, oldPrefix} {
		left, _ := filepath.Glob(filepath.Join(globQuote(s.dir), prefix+"*"))
		for _, path := range left {
			_ = removeAll(path)
		}
	}
}

// globQuote returns a pattern that matches only the path.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// digestOf returns the digest of a manifest, which names the release: the first 8 bytes of
// its SHA-256, in hexadecimal.
func digestOf(manifest string) string {
	sum := sha256.Sum256([]byte(manifest))
	return hex.EncodeToString(sum[:8])
}

// removeAll is os.RemoveAll, but it also removes directories that their owner may not write
// to.
func removeAll(path string) error {
	_ = filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}
