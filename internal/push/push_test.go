package push

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeSSH puts an ssh on PATH that runs its command on this machine, with a home directory of the
// test, which it returns.
func fakeSSH(t *testing.T, text string) (home string) {
	t.Helper()
	home = t.TempDir()
	path := filepath.Join(home, "ssh", "ssh")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(path)+":"+os.Getenv("PATH"))
	t.Setenv("HOME", home)
	t.Setenv("XDG_STATE_HOME", "")
	return home
}

// here is the script of an ssh that runs the last of its arguments, the command line.
const here = `for last; do :; done
echo "You have mail."
exec sh -c "$last"
`

// joins is the script of a holdfast that prints how it was called.
const joins = `#!/bin/sh
case $1 in
version) echo "holdfast v9 (commit abc, go1 linux/amd64)" ;;
join) read -r token; echo "joined with $# arguments: $*, by $token"; echo "progress" >&2 ;;
esac
`

func TestAMachineIsLookedAtAndJoins(t *testing.T) {
	home := fakeSSH(t, here)
	program := filepath.Join(home, "it's a place", "holdfast")
	target := Target{To: "two", Stack: "shop", Program: program, State: filepath.Join(home, "the state")}
	s, m, err := Open(t.Context(), target, int64(len(joins)))
	if err != nil {
		t.Fatal(err)
	}
	if m.System != Own || m.There || m.Program != program || m.Joined || m.State != target.State {
		t.Errorf("it is %+v", m)
	}
	var said []string
	if err := s.Join("hf1_secret", strings.NewReader(joins), func(line string) { said = append(said, line) }); err != nil {
		t.Fatal(err)
	}
	want := "joined with 5 arguments: join - -d --state " + target.State + ", by hf1_secret"
	if all := strings.Join(said, "\n"); !strings.Contains(all, want) || !strings.Contains(all, "progress") {
		t.Errorf("it says %q, want %q", all, want)
	}

	// Now the program is there, and the machine is a host.
	if err := os.MkdirAll(target.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(target.State, "host.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, m, err = Open(t.Context(), target, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if !m.There || m.Version != "holdfast v9 (commit abc, go1 linux/amd64)" || !m.Joined {
		t.Errorf("it is %+v", m)
	}

	// Without paths, the usual ones are used.
	s, m, err = Open(t.Context(), Target{To: "two", Stack: "shop"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if m.State != filepath.Join(home, ".local/state/holdfast/shop") || !strings.HasSuffix(m.Program, "/bin/holdfast") {
		t.Errorf("it is %+v", m)
	}
}

func TestAProgramThatDoesNotArriveWholeIsNotPutThere(t *testing.T) {
	home := fakeSSH(t, here)
	program := filepath.Join(home, "holdfast")
	s, _, err := Open(t.Context(), Target{To: "two", Stack: "shop", Program: program}, int64(len(joins))+1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Join("hf1_secret", strings.NewReader(joins), func(string) {}); err == nil || !strings.Contains(err.Error(), "could not be put onto two") {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(program + "*"); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestWhyAMachineIsNotReachedOrDoesNotJoin(t *testing.T) {
	for name, c := range map[string]struct{ ssh, words string }{
		"ssh fails":          {"echo 'ssh: connect to host two: Connection refused' >&2; exit 255", "ssh to two failed: ssh: connect to host two: Connection refused"},
		"it says nothing":    {"exit 255", "does not say why"},
		"no shell there":     {"echo 'This account is currently not available.'; exit 1", "exit status 1"},
		"it ends at once":    {"exit 0", "ended before it was asked"},
		"a cursor is moved":  {"printf '\\033[2J' >&2; exit 255", `\x1b[2J`},
		"a signal ends it":   {"kill -9 $$", "killed"},
		"an endless line":    {"head -c 3000000 /dev/zero; exit 255", "does not say why"},
		"holdfast complains": {here[:strings.Index(here, "exec")] + "echo '" + mark + "ready'; read -r x; echo 'a warning' >&2; echo 'holdfast: no room' >&2; exit 1", "no room"},
	} {
		t.Run(name, func(t *testing.T) {
			fakeSSH(t, c.ssh)
			s, _, err := Open(t.Context(), Target{To: "two", Stack: "shop"}, 0)
			if err == nil {
				err = s.Join("hf1_secret", nil, func(line string) {
					if strings.Contains(line, "no room") {
						t.Error("the error is shown twice")
					}
				})
			}
			if err == nil || !strings.Contains(err.Error(), c.words) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%v, want %q", err, c.words)
			}
		})
	}
	t.Setenv("PATH", t.TempDir())
	if _, _, err := Open(t.Context(), Target{To: "two"}, 0); !errors.Is(err, ErrNoSSH) {
		t.Errorf("%v", err)
	}
}

func TestAnInterruptionEndsSSH(t *testing.T) {
	fakeSSH(t, "exec sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Open(ctx, Target{To: "two"}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestSystemsAreCalledAsGoCallsThem(t *testing.T) {
	for uname, want := range map[string]string{"Linux x86_64": "linux/amd64", "Linux aarch64": "linux/arm64", "Darwin arm64": "darwin/arm64", "Linux riscv64": "linux/riscv64"} {
		if got := System(uname); got != want {
			t.Errorf("%s is %s", uname, got)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := SystemOf(self); Own[:5] == "linux" && (got != Own || err != nil) {
		t.Errorf("this program is for %s, %v", got, err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := SystemOf(script); err == nil || !strings.Contains(err.Error(), "no program for Linux") {
		t.Errorf("%v", err)
	}
	if _, err := SystemOf(script + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// The script must be one line that passes through any login shell.
func TestTheScriptIsOneLineForAnyShell(t *testing.T) {
	if strings.ContainsAny(script, "\n'!") {
		t.Errorf("%s", script)
	}
	if out, err := exec.Command("sh", "-n", "-c", script).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
