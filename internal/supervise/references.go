package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/token"
)

// ReferenceError is the error of a stack file that names something which is missing on this
// machine, or cannot be used.
type ReferenceError struct {
	Reference stack.Reference
	Err       error
}

func (e *ReferenceError) Error() string { return e.Reference.Key() + ": " + e.Err.Error() }
func (e *ReferenceError) Unwrap() error { return e.Err }

// CheckReferences checks everything on the disk that a stack names. Relative paths start from
// baseDir; searchPath is the PATH that nodes inherit.
func CheckReferences(s stack.Stack, baseDir, searchPath string) []*ReferenceError {
	var wrong []*ReferenceError
	for _, r := range s.References() {
		if app := s.Apps[r.App]; app.Digest != "" && (r.InRelease || r.Path == app.Release) {
			continue // it runs from a copy: see checkReleases
		}
		home := baseDir
		if r.InRelease {
			home = plan.Resolve(baseDir, s.Apps[r.App].Release)
		}
		var err error
		switch r.Kind {
		case stack.ProgramFile:
			err = checkProgramFile(s.Apps[r.App], r.Path, home, searchPath)
		case stack.Directory:
			err = process.Enterable(plan.Resolve(home, r.Path))
		case stack.TokensFile:
			err = checkTokens(plan.Resolve(baseDir, r.Path))
		case stack.PageFile:
			_, err = withPage(s, r, baseDir)
		case stack.Certificate, stack.Certificates:
			_, err = readCertificates(r, baseDir)
		}
		if err != nil {
			wrong = append(wrong, &ReferenceError{r, err})
		}
	}
	return wrong
}

// WithPages returns a stack that has the content of the page files which its file names, so
// that the pages are there on every host and in every container.
func WithPages(s stack.Stack, baseDir string) (stack.Stack, []*ReferenceError) {
	var wrong []*ReferenceError
	for _, r := range s.References() {
		if r.Kind != stack.PageFile {
			continue
		}
		with, err := withPage(s, r, baseDir)
		if err != nil {
			wrong = append(wrong, &ReferenceError{r, err})
			continue
		}
		s = with
	}
	return s, wrong
}

// maxPage is the largest size of a page file that is read. It is more than HAProxy accepts, so
// that the author of a larger page is told its size.
const maxPage = 1 << 20 // bytes

func withPage(s stack.Stack, r stack.Reference, baseDir string) (stack.Stack, error) {
	file := plan.Resolve(baseDir, r.Path)
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, fmt.Errorf("%s does not exist: write where the file of the page is, or the page itself, below a | after the status", quote.Shell(file))
	case err != nil:
		return s, err
	case !info.Mode().IsRegular():
		return s, fmt.Errorf("%s is no ordinary file: write that of a page", quote.Shell(file))
	case info.Size() > maxPage:
		return s, fmt.Errorf("%s: the page is too large for an answer of HAProxy's own: it has %d bytes", quote.Shell(file), info.Size())
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return s, err
	}
	if s, err = s.WithPage(r, content); err != nil {
		return s, fmt.Errorf("%s: %w", quote.Shell(file), err)
	}
	return s, nil
}

func checkProgramFile(a stack.App, name, baseDir, searchPath string) error {
	if own, set := a.Env["PATH"]; set {
		searchPath = own
	}
	path := plan.ResolveProgram(baseDir, name)
	if !strings.Contains(path, "/") {
		found, err := machine.LookPath(path)
		if words := strings.Fields(name); errors.Is(err, exec.ErrNotFound) && len(words) > 1 {
			return fmt.Errorf("there is no program %s on PATH: write each argument as an item of its own, such as [%s]", quote.Shell(name), strings.Join(words, ", "))
		}
		if _, beside := os.Stat(filepath.Join(baseDir, name)); errors.Is(err, exec.ErrNotFound) && beside == nil {
			return fmt.Errorf("there is no program %s on PATH, and there is one in %s: write %s if that is meant", quote.Shell(name), quote.Shell(baseDir), quote.Shell("./"+name))
		}
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("there is no program %s on PATH: install it, or write where it is", quote.Shell(name))
		}
		if err != nil {
			return fmt.Errorf("the program %s: %w", quote.Shell(name), err)
		}
		path = found
	}
	return process.Runnable(path, searchPath)
}

func checkTokens(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist", quote.Shell(path))
	}
	if err != nil {
		return err
	}
	_, err = token.Parse(path, data)
	return err
}
