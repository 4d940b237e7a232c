package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/export"
	"holdfast/internal/needtest"
	"holdfast/internal/supervise"
)

// userSystemd is the path of systemd, also for users' own instances.
const userSystemd = "/lib/systemd/systemd"

// systemd is a user's systemd that belongs to a test. It needs a machine that was booted by
// systemd, and only it is made to see one.
type systemd struct {
	*instance
	process *exec.Cmd
}

func newSystemd(t *testing.T) *systemd {
	if _, err := os.Stat(userSystemd); err != nil || os.Getuid() != 0 {
		needtest.Skip(t, fmt.Sprintf("it needs root, and systemd's programs (apt-get install systemd): %v, user %d", err, os.Getuid()))
	}
	s := &systemd{instance: newInstance(t, minimal(t))}
	run := filepath.Join(s.dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	s.env = []string{"XDG_RUNTIME_DIR=" + run, "XDG_CONFIG_HOME=" + filepath.Join(s.dir, "config"), "DBUS_SESSION_BUS_ADDRESS="}
	s.boot()
	t.Cleanup(func() { // before the instance's own cleanup
		s.shutDown()
		s.purge() // what runs without systemd is in its groups
		s.removeControlGroups()
	})
	return s
}

func (s *systemd) boot() {
	s.t.Helper()
	s.process = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", `
for c in $GROUPS_OF_ITS_OWN; do
	mkdir -p "$c" && echo $$ > "$c/cgroup.procs"
done
mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec `+userSystemd+` --user --log-target=console`)
	s.process.Env = append(os.Environ(), s.env...)
	s.process.Env = append(s.process.Env, "GROUPS_OF_ITS_OWN="+strings.Join(s.controlGroups(), " "))
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.await("systemd", 10*time.Second, func() bool { _, err := s.systemctl("list-units"); return err == nil })
}

// controlGroups returns the control groups of this systemd, one in each hierarchy. systemd moves
// all processes of the group in which it is started to a group called init.scope. In the root group
// these would be everybody's.
func (s *systemd) controlGroups() (all []string) {
	s.t.Helper()
	files, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // a single hierarchy, version 2
		files = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	for _, file := range files {
		all = append(all, filepath.Join(filepath.Dir(file), "holdfast-"+s.name))
	}
	return all
}

// removeControlGroups removes these groups, the innermost first.
func (s *systemd) removeControlGroups() {
	for _, group := range s.controlGroups() {
		var inside []string
		filepath.WalkDir(group, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				inside = append(inside, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(inside) {
			if err := syscall.Rmdir(dir); err != nil {
				s.t.Errorf("remove a control group: %v", err)
			}
		}
	}
}

// shutDown makes systemd stop its services and end.
func (s *systemd) shutDown() {
	if s.process == nil {
		return
	}
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	s.process.Wait() // systemd does not always end with 0
	s.process = nil
}

func (s *systemd) systemctl(words ...string) (string, error) {
	cmd := exec.Command("systemctl", append([]string{"--user", "--no-pager"}, words...)...)
	cmd.Env = append(os.Environ(), s.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *systemd) mustSystemctl(words ...string) {
	s.t.Helper()
	if out, err := s.systemctl(words...); err != nil {
		s.t.Fatalf("systemctl %v: %v\n%s", words, err, out)
	}
}

// nodes returns the process ids of all nodes as one text.
func (s *systemd) nodes() string {
	var all []string
	for _, n := range s.status().Nodes {
		all = append(all, fmt.Sprint(n.Name, " ", n.PID))
	}
	return strings.Join(all, ", ")
}

func TestSystemdKeepsTheStackUp(t *testing.T) {
	beside(t, oneStack)
	s := newSystemd(t)
	unit := export.UnitName(s.name)
	s.must("up", "-d")
	before := s.awaitHealthy().Supervisor
	nodes := s.nodes()

	said := s.must("service", "install", "--user")
	if !strings.Contains(said, unit) || !strings.Contains(said, "enable-linger") {
		t.Errorf("it says %q", said)
	}
	// The nodes are the same, adopted by systemd's supervisor.
	first := s.awaitHealthy().Supervisor
	if first == before || s.nodes() != nodes {
		t.Errorf("supervisor %d, before %d; nodes %s, before %s", first, before, s.nodes(), nodes)
	}
	if out, _ := s.systemctl("show", "--property=MainPID,StatusText", unit); !strings.Contains(out, fmt.Sprint("MainPID=", first)) || !strings.Contains(out, "is ready: 10 of 10 nodes up") {
		t.Errorf("systemd knows %q", out)
	}
	s.must("service", "install", "--user") // a second time changes nothing
	if got := s.awaitHealthy().Supervisor; got != first {
		t.Errorf("another supervisor: %d, before %d", got, first)
	}

	// The supervisor crashes.
	kill(t, first)
	s.await("another supervisor", 15*time.Second, func() bool { p := s.status().Supervisor; return p != 0 && p != first })
	s.awaitHealthy()
	if s.nodes() != nodes {
		t.Errorf("nodes %s, before %s", s.nodes(), nodes)
	}

	// The file changes. (A service that is just starting is not reloaded.)
	s.await("the service", 10*time.Second, func() bool { _, err := s.systemctl("is-active", unit); return err == nil })
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(string(text) + "timeouts: {client: 40s}\n")
	s.mustSystemctl("reload", unit)
	if s.statusCommand().Differs {
		t.Error("the file differs from what runs")
	}

	s.mustSystemctl("stop", unit)
	for _, n := range s.status().Nodes {
		if n.PID != 0 || n.State != supervise.Down {
			t.Errorf("%s is %s, pid %d", n.Name, n.State, n.PID)
		}
	}
	s.mustSystemctl("start", unit) // this returns when the stack is ready
	if !s.status().Ready {
		t.Errorf("%+v", s.status())
	}
	s.must("down")
	s.await("the end of the service", 10*time.Second, func() bool { _, err := s.systemctl("is-active", unit); return err != nil })

	// The machine boots.
	s.shutDown()
	s.boot()
	s.awaitHealthy()

	s.must("service", "remove", "--user")
	if st := s.status(); st.Supervisor != 0 {
		t.Errorf("a supervisor is there: %d", st.Supervisor)
	}
	requireWords(t, s.fails(1, "service", "remove", "--user"), "no service", unit)
}

func TestAServiceThatCannotBe(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t))
	s.env = []string{"SUDO_USER="}
	requireWords(t, s.fails(2, "service", "install", "--user", "--run-as", "daemon"), "--run-as", "--system")
	requireWords(t, s.fails(2, "service", "install", "--system", "--run-as", "nobody-of-that-name"), "no user", "useradd")
	if out := s.must("service", "install", "--system", "--run-as", "daemon", "--dry-run"); !strings.Contains(out, "\nUser=daemon\n") || !strings.Contains(out, "--file "+s.file) {
		t.Errorf("the unit: %s", out)
	}
	s.write("name: " + s.name + "\nentry: {listen: '127.0.0.1:81'}\n")
	if out := s.must("service", "install", "--system", "--run-as", "daemon", "--dry-run"); !strings.Contains(out, "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n") {
		t.Errorf("the unit: %s", out)
	}
	s.write("nodes: 3\n")
	s.fails(2, "service", "install")
	s.write("name: " + s.name + "\n" + minimal(t))
}
