package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"holdfast/internal/logs"
	"holdfast/internal/process"
	"holdfast/internal/quote"
)

// Start implements Processes.
func (m *Local) Start(_ context.Context, spec Spec) (Process, error) {
	home := m.Path("nodes", spec.Node)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, known(err)
	}
	wd := spec.Dir
	if wd == "" {
		wd = home
	}
	output, err := logs.OpenPipe(m.dir, spec.Node)
	if err != nil {
		return nil, err
	}
	proc, err := process.Start(process.Spec{
		Path: spec.Program, Args: spec.Args, Env: spec.Env, Dir: wd, Output: output,
		Private: spec.Private,
	})
	if err != nil {
		output.Close()
		return nil, explainStart(spec, wd, err)
	}
	m.tasks.Go(func() { logs.HandOver(m.life, m.dir, spec.Node, output) })
	return proc, nil
}

// explainStart returns a better error for a program that could not be started, in those cases
// in which the kernel's error is misleading.
func explainStart(spec Spec, wd string, err error) error {
	if info, statErr := os.Stat(wd); statErr != nil || !info.IsDir() {
		return fmt.Errorf("cannot start in the directory %s: %w", quote.Shell(wd), process.Enterable(wd))
	}
	if why := process.Runnable(spec.Program, Variable(spec.Env, "PATH")); why != nil {
		return fmt.Errorf("cannot start: %w", why)
	}
	return err
}

// Variable returns the last value of a variable in an environment, or "".
func Variable(environ []string, name string) string {
	for i := len(environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// Adopt implements Processes.
func (m *Local) Adopt(_ context.Context, id ID) (Process, error) {
	proc, err := process.Adopt(id)
	if err != nil {
		return nil, err // not proc, which would be an interface around a nil pointer
	}
	return proc, nil
}

// Alive implements Processes.
func (m *Local) Alive(_ context.Context, id ID) (bool, error) {
	return id.PID != 0 && process.Alive(id), nil
}

// Find implements Processes.
func (m *Local) Find(_ context.Context, t Trace) ([]ID, error) {
	return process.Find(t.Variable, logs.Pipe(m.dir, t.Node), t.Since), nil
}

// Children implements Processes.
func (m *Local) Children(_ context.Context, pid int) []int { return process.Children(pid) }

// Run implements Processes.
func (m *Local) Run(ctx context.Context, program string, args ...string) (Output, error) {
	var text bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		return Output{}, fmt.Errorf("run %s: %w", program, ctx.Err())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Output{}, err
	}
	return Output{Text: text.Bytes(), Code: cmd.ProcessState.ExitCode(), How: cmd.ProcessState.String()}, nil
}

// LookPath implements Processes.
func (m *Local) LookPath(_ context.Context, name string) (string, error) { return LookPath(name) }

// sbin are the directories of servers that a user's PATH may lack.
var sbin = []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin"}

// LookPath returns the absolute path of a program. It looks on PATH, and for a bare name also
// in the directories in which distributions put servers.
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	if !errors.Is(err, exec.ErrNotFound) || filepath.Base(name) != name {
		return "", err
	}
	for _, dir := range sbin {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}
