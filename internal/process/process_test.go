package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/clock"
)

// shell starts a shell script, and ends it at the end of the test.
func shell(t *testing.T, script string) (*Process, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := Start(Spec{Path: "/bin/sh", Args: []string{"-c", script}, Log: log, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.SignalGroup(syscall.SIGKILL)
		<-p.Done()
	})
	return p, log
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !clock.Within(10*time.Second, 5*time.Millisecond, cond) {
		t.Fatalf("not within 10 s: %s", what)
	}
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

func TestAProcessWritesToItsLogAndTellsHowItEnded(t *testing.T) {
	p, log := shell(t, "echo out; echo err >&2; exit 3")
	<-p.Done()
	if got := read(log); got != "out\nerr\n" {
		t.Errorf("log = %q", got)
	}
	if p.Exit() != "exit status 3" {
		t.Errorf("exit = %q", p.Exit())
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("a signal to an ended process answers %v, want ErrGone", err)
	}
}

func TestAMissingProgramIsAnError(t *testing.T) {
	_, err := Start(Spec{Path: "/nonexistent/program", Log: filepath.Join(t.TempDir(), "log")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("err = %v", err)
	}
}

func TestAKilledGroupTakesItsChildrenAlong(t *testing.T) {
	p, log := shell(t, "sleep 1000 & echo $!; wait")
	await(t, "the child's pid", func() bool { return strings.Contains(read(log), "\n") })
	child, err := strconv.Atoi(strings.TrimSpace(read(log)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := identify(child)
	if err != nil {
		t.Fatal(err)
	}
	p.SignalGroup(syscall.SIGKILL)
	<-p.Done()
	await(t, "the end of the child", func() bool { return !Alive(id) })
}

func TestAProcessHasASessionOfItsOwn(t *testing.T) {
	p, _ := shell(t, "sleep 1000")
	if sid, err := unix.Getsid(p.ID().PID); err != nil || sid != p.ID().PID {
		t.Errorf("session = %d, %v, want %d", sid, err, p.ID().PID)
	}
}

func TestWhatALeaderLeavesBehindGoesWithIt(t *testing.T) {
	p, log := shell(t, "sleep 1000 & echo $!")
	<-p.Done()
	child, err := strconv.Atoi(strings.TrimSpace(read(log)))
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the child", func() bool {
		s, err := state(child)
		return err != nil || s == 'Z'
	})
}

func TestAStoppedProcessIsSeenAsStopped(t *testing.T) {
	// The shell must not be just starting a command: if the new process is stopped
	// before it begins the command (vfork), the shell itself does not stop.
	p, _ := shell(t, "sleep 1000 & wait")
	if err := p.SignalGroup(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, "the stop", p.Stopped)
	p.SignalGroup(syscall.SIGCONT)
	await(t, "the go", func() bool { return !p.Stopped() })
}

func TestAnAdoptedProcessTellsItsEnd(t *testing.T) {
	p, _ := shell(t, "sleep 1000")
	a, err := Adopt(p.ID())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.Done():
		t.Fatal("ended before it was killed")
	default:
	}
	a.SignalGroup(syscall.SIGKILL)
	select {
	case <-a.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("its end was not noticed")
	}
}

func TestAZombieIsDead(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "exit 0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // until then it is a zombie
	await(t, "the zombie", func() bool {
		s, err := state(cmd.Process.Pid)
		return err == nil && s == 'Z'
	})
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if Alive(id) {
		t.Error("a zombie counts as alive")
	}
	if _, err := Adopt(id); !errors.Is(err, ErrGone) {
		t.Errorf("Adopt answers %v, want ErrGone", err)
	}
}

func TestAnotherProcessWithTheSamePidIsNotAdopted(t *testing.T) {
	p, _ := shell(t, "sleep 1000")
	for name, id := range map[string]ID{
		"later start": {PID: p.ID().PID, Start: p.ID().Start + 1, Boot: p.ID().Boot},
		"other boot":  {PID: p.ID().PID, Start: p.ID().Start, Boot: "other"},
	} {
		if _, err := Adopt(id); !errors.Is(err, ErrGone) {
			t.Errorf("%s: Adopt answers %v, want ErrGone", name, err)
		}
	}
}
