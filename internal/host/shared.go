package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"holdfast/internal/agree"
	"holdfast/internal/machine"
	"holdfast/internal/private"
)

// The files in which a supervisor records the stack are documents that the hosts agree on.
// Each host has copies in its state directory, for commands that have no supervisor to ask, and
// for the supervisor when this host leads.

// filePrefix is the prefix of these documents' names.
const filePrefix = "file/"

// sharedFiles are the names of these files, relative to the state directory, or patterns of
// them.
var sharedFiles = []string{"stack.json", "running.json", "change.json", "versions.json", "resting.json", "backup.json", "restore.json", "self-signed.pem", "changes/*.json"}

// isShared reports whether a file is one of which all hosts have a copy.
func isShared(name string) bool {
	for _, pattern := range sharedFiles {
		if is, _ := path.Match(pattern, name); is {
			return true
		}
	}
	return false
}

// share writes or removes this host's copy of a shared file. It does nothing on the leader,
// whose supervisor writes the files itself.
func (h *Host) share(e agree.Event) {
	name, is := strings.CutPrefix(e.Name, filePrefix)
	h.mu.Lock()
	leads := h.term != 0
	h.mu.Unlock()
	if !is || !isShared(name) || leads {
		return
	}
	if err := h.store(name, e); err != nil {
		h.cfg.Log.Error("a file that all hosts have cannot be written here", "file", name, "error", err)
	}
}

func (h *Host) store(name string, e agree.Event) error {
	target := filepath.Join(h.cfg.State, filepath.FromSlash(name))
	if e.Deleted {
		if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	return machine.WriteFile(target, 0o600, e.Data)
}

// retain removes shared files that have no document: files of a former leadership that were
// never agreed on, and files that were removed while this host was away.
func (h *Host) retain(documents []agree.Document) {
	if !h.member.Status().Member {
		return // its log is empty yet
	}
	there := map[string]bool{}
	for _, d := range documents {
		there[d.Name] = true
	}
	for _, pattern := range sharedFiles {
		found, _ := filepath.Glob(filepath.Join(h.cfg.State, filepath.FromSlash(pattern)))
		for _, file := range found {
			name, err := filepath.Rel(h.cfg.State, file)
			if err != nil || there[filePrefix+filepath.ToSlash(name)] {
				continue
			}
			if err := os.Remove(file); err != nil {
				h.cfg.Log.Error("a file that the stack does not have any more stays here", "file", name, "error", err)
			}
		}
	}
}

// agreed brings all shared files of this host to the state that the hosts have agreed on. It
// is called before a supervisor reads them.
func (h *Host) agreed(ctx context.Context) error {
	documents, err := h.member.List(ctx, filePrefix)
	if err != nil {
		return err
	}
	for _, d := range documents {
		name := strings.TrimPrefix(d.Name, filePrefix)
		if !isShared(name) {
			continue
		}
		if err := h.store(name, agree.Event{Document: d}); err != nil {
			return err
		}
	}
	h.retain(documents)
	return nil
}

// write makes the hosts agree on a file's content before the leader's supervisor writes the
// file, or on its removal if content is nil.
func (h *Host) write(ctx context.Context, term uint64, name string, content []byte) error {
	if !isShared(name) {
		return nil
	}
	change := agree.Change{Name: filePrefix + name, Data: content, Revision: agree.AnyRevision, Delete: content == nil}
	_, err := h.member.Write(ctx, term, change)
	return err
}

// sharedNow reads the shared files of a state directory, and returns them as documents by
// name.
func sharedNow(state string) (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, pattern := range sharedFiles {
		found, _ := filepath.Glob(filepath.Join(state, filepath.FromSlash(pattern)))
		for _, file := range found {
			name, err := filepath.Rel(state, file)
			if err != nil {
				return nil, err
			}
			content, err := private.Read(file)
			if err != nil {
				return nil, err
			}
			all[filePrefix+filepath.ToSlash(name)] = content
		}
	}
	return all, nil
}
