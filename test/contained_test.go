package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/process"
	"holdfast/internal/supervise"
)

// nobodyKnown is a user without an entry in /etc/passwd.
const nobodyKnown = "31999"

// containerStack is a stack whose supervisor is the first process of a pid namespace. It has a
// read-only root file system, no home, no variables except PATH, and an unknown user. For a
// supervisor this looks like a container.
type containerStack struct {
	t                   *testing.T
	dir, state, program string
	entry               string
	life                *exec.Cmd
	first               int // pid of its first process, outside
	out                 *syncBuffer
	ended               chan struct{}
}

func newContainerStack(t *testing.T) *containerStack {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	b := &containerStack{t: t, dir: dir, state: filepath.Join(dir, "state"), program: filepath.Join(dir, "holdfast")}
	t.Cleanup(func() {
		if b.life != nil {
			b.kill()
		}
		if t.Failed() && b.out != nil {
			t.Logf("its log:\n%s", b.out.String())
		}
		os.RemoveAll(dir)
	})
	port := freePort(t)
	b.entry = fmt.Sprintf("http://127.0.0.1:%d", port)
	text := fmt.Sprintf("name: boxed\nentry: {listen: \"127.0.0.1:%d\"}\n", port)
	program, err := os.ReadFile(binary)
	for _, err := range []error{
		err, os.Chmod(dir, 0o755), os.Mkdir(b.state, 0o700), os.Chown(b.state, 31999, 31999),
		os.WriteFile(b.program, program, 0o755), os.WriteFile(filepath.Join(dir, "holdfast.yaml"), []byte(text), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// asUnknownUser returns a command line that the unknown user runs without an environment.
func (b *containerStack) asUnknownUser(args ...string) []string {
	return append([]string{
		"setpriv", "--reuid=" + nobodyKnown, "--regid=" + nobodyKnown, "--clear-groups", "--no-new-privs",
		"env", "-i", "PATH=" + os.Getenv("PATH"), b.program, "--state", b.state,
	}, args...)
}

// begin starts the container, and waits until it serves.
func (b *containerStack) begin() {
	b.t.Helper()
	const inside = `mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"`
	args := append([]string{"--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", inside, b.state},
		b.asUnknownUser("up", "-f", filepath.Join(b.dir, "holdfast.yaml"), "--log-format", "json")...)
	b.life, b.out, b.ended = exec.Command("unshare", args...), &syncBuffer{}, make(chan struct{})
	b.life.Stdout, b.life.Stderr = b.out, b.out
	if err := b.life.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer close(b.ended)
		_ = b.life.Wait()
	}()
	b.await("the container to serve", func() bool {
		st, ok := b.status()
		return ok && st.Ready && st.Phase == supervise.PhaseRunning
	})
	below := process.Children(b.life.Process.Pid)
	if len(below) != 1 {
		b.t.Fatalf("below unshare are the processes %v", below)
	}
	b.first = below[0]
}

func (b *containerStack) await(what string, is func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		select {
		case <-b.ended:
			b.t.Fatalf("the container has ended instead of %s (%v)", what, b.life.ProcessState)
		default:
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not in time: %s", what)
		}
	}
}

// status returns the answer of 'holdfast status'. Its pids are those inside.
func (b *containerStack) status() (st supervise.Status, ok bool) {
	args := b.asUnknownUser("status", "--json", "-f", filepath.Join(b.dir, "holdfast.yaml"))
	out, err := exec.Command(args[0], args[1:]...).Output()
	return st, err == nil && json.Unmarshal(out, &st) == nil
}

// signal sends a signal to a process by its pid inside.
func (b *containerStack) signal(pid int, sig string) {
	b.t.Helper()
	if out, err := exec.Command("nsenter", "-t", fmt.Sprint(b.first), "-p", "kill", "-"+sig, fmt.Sprint(pid)).CombinedOutput(); err != nil {
		b.t.Fatalf("kill -%s %d: %v: %s", sig, pid, err, out)
	}
}

// kill ends the container as an orchestrator does after its time-out.
func (b *containerStack) kill() {
	_ = syscall.Kill(b.first, syscall.SIGKILL)
	_ = b.life.Process.Kill()
	<-b.ended
	b.life = nil
}

// stop ends the container as an orchestrator does at first.
func (b *containerStack) stop() {
	b.t.Helper()
	if err := syscall.Kill(b.first, syscall.SIGTERM); err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-b.ended:
	case <-time.After(time.Minute):
		b.t.Fatal("the container does not end")
	}
	if code := b.life.ProcessState.ExitCode(); code != 0 {
		b.t.Errorf("the container ended with %d", code)
	}
	b.life = nil
}

func (b *containerStack) get(path string) string {
	b.t.Helper()
	resp, err := http.Get(b.entry + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(body)
}

// zombies returns processes inside that were not waited for.
func (b *containerStack) zombies() (all []string) {
	for _, pid := range process.Children(b.first) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, _ := bytes.Cut(stat, []byte(") ")); bytes.HasPrefix(rest, []byte("Z")) {
			all = append(all, string(stat))
		}
	}
	return all
}

func TestAStackLivesInAContainerLifeAfterLife(t *testing.T) {
	beside(t, oneStack)
	b := newContainerStack(t)
	b.begin()
	if got := b.get("/set?key=imooc&value=imooc.com"); got != "OK. We have set imooc to be imooc.com" {
		t.Fatalf("set: %q", got)
	}
	before, _ := b.status()

	b.kill() // this also kills everything inside

	b.begin()
	if got := b.get("/get?key=imooc"); got != "imooc.com" {
		t.Errorf("in the second life: %q", got)
	}
	after, _ := b.status()
	was := map[int]string{}
	for _, n := range before.Nodes {
		was[n.PID] = n.Name
	}
	again := 0
	for _, n := range after.Nodes {
		if _, is := was[n.PID]; is {
			again++
		}
		if n.State != supervise.Up || n.Restarts != 0 {
			t.Errorf("%s is %s, started %d times again", n.Name, n.State, n.Restarts)
		}
	}
	t.Logf("%d of %d pids are those of the life before", again, len(after.Nodes))
	for _, word := range []string{"adopted", "not in the stack any more"} {
		if strings.Contains(b.out.String(), word) {
			t.Errorf("processes of the former life were taken for this one's: %s", word)
		}
	}

	b.survivesItsSupervisor(after)

	b.stop()
	b.saysJSON()
}

// survivesItsSupervisor kills the supervisor, which is a child of the first process.
func (b *containerStack) survivesItsSupervisor(before supervise.Status) {
	b.t.Helper()
	b.signal(before.Supervisor, "KILL")
	var now supervise.Status
	b.await("another supervisor", func() bool {
		st, ok := b.status()
		now = st
		return ok && st.Supervisor != before.Supervisor && st.Ready && st.Phase == supervise.PhaseRunning
	})
	web := 0
	for i, n := range now.Nodes {
		if n.PID != before.Nodes[i].PID {
			b.t.Errorf("%s was started again with its supervisor", n.Name)
		}
		if n.Name == "web-1" {
			web = n.PID
		}
	}
	b.signal(web, "KILL") // by now its parent is the first process
	b.await("web-1 to be started again", func() bool {
		st, ok := b.status()
		for _, n := range st.Nodes {
			if ok && n.Name == "web-1" && n.State == supervise.Up && n.PID != web {
				return true
			}
		}
		return false
	})
	b.await("an end of zombies", func() bool { return len(b.zombies()) == 0 })
}

// saysJSON checks everything that the container has written.
func (b *containerStack) saysJSON() {
	b.t.Helper()
	nodes := map[string]int{}
	for line := range strings.Lines(b.out.String()) {
		var said struct {
			Time time.Time
			Node string
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil || said.Time.IsZero() || said.Node == "" {
			b.t.Errorf("no line of the log: %q (%v)", line, err)
		}
		nodes[said.Node]++
	}
	for _, node := range []string{"holdfast", "supervisor", "redis-1", "sentinel-1", "balancer-1"} {
		if nodes[node] == 0 {
			b.t.Errorf("the log has no line of %s: %v", node, nodes)
		}
	}
	if text := b.out.String(); !strings.Contains(text, "ready to exit, bye bye") {
		b.t.Error("the log lacks the last words of Redis")
	}
}

func TestWhatMakesNoSenseInAContainerIsRefused(t *testing.T) {
	needRoot(t)
	for args, says := range map[string]string{
		"up -d":                         "leave out -d",
		"up --contained -d":             "leave out -d",
		"up --log-format yaml":          "it is text or json",
		"up --log-format json --detach": "in the background nobody sees it",
	} {
		words := append([]string{"--pid", "--fork", "--mount-proc", "--kill-child", binary}, strings.Fields(args)...)
		out, err := exec.Command("unshare", words...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), says) {
			t.Errorf("%s: %v: %s", args, err, out)
		}
	}
}
