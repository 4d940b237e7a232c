package process

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The figures of a node include the processes that its first process has started.
func TestFiguresCountTheWholeSession(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "sh")
	if err := os.WriteFile(own, program, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := Start(Spec{
		Path: own, Dir: dir, Log: filepath.Join(dir, "log"), Env: os.Environ(),
		Args: []string{"-c", `i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec 7>a; (exec 8>b 9>c; echo ready > ready; sleep 60) & wait`},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		p.SignalGroup(syscall.SIGKILL)
		<-p.Done()
	}()
	pid := p.ID().PID
	var f Figures
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if f = FiguresOf(pid, 1<<30)[pid]; exists(filepath.Join(dir, "ready")) && f.OpenFiles >= 6 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("figures: %+v", f)
		}
	}
	if f.CPU == 0 || f.Memory < 1<<18 || f.MaxFiles < f.OpenFiles || f.Age > time.Minute || f.Replaced {
		t.Errorf("figures: %+v", f)
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if f := FiguresOf(pid)[pid]; !f.Replaced {
		t.Errorf("the program's file is gone: %+v", f)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
