package drill

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/needtest"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// needHosts skips a test where hosts cannot be made. In continuous integration it fails instead.
func needHosts(t *testing.T) {
	t.Helper()
	if err := hostsPossible(); err != nil {
		needtest.Skip(t, err)
	}
}

// builtProgram returns the holdfast program to test; it builds one unless HOLDFAST_TEST_BINARY
// names it.
func builtProgram(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("HOLDFAST_TEST_BINARY"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "holdfast")
	build := exec.Command("go", "build", "-pgo=off", "-o", path, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build holdfast: %v\n%s", err, out)
	}
	return path
}

// startOwnStack returns a stack of the drill's own, with the journal that undoes it. The stack is
// removed when the test ends, however it ends.
func startOwnStack(t *testing.T, hosts int, disks bool) (*supervisedStack, *journal) {
	t.Helper()
	needHosts(t)
	self := builtProgram(t)
	j, err := openJournal(filepath.Join(t.TempDir(), journalName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := openJournal(j.path)
		if err == nil {
			err = left.undo(0)
		}
		if err != nil {
			t.Error(err)
		}
	})
	// A drill is called where the user's stack file is.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "holdfast.yaml"), []byte("name: another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	stack, err := standUp(t.Context(), self, j, Config{Stack: stack.Default(), Hosts: hosts}.ownStackSpec(requirements{disks: disks}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stack.close)
	requireWell(t, stack)
	return stack, j
}

func requireWell(t *testing.T, stack *supervisedStack) supervise.Status {
	t.Helper()
	if why := stack.awaitWell(t.Context(), 30*time.Second); why != "" {
		t.Fatalf("the stack is not well: %s", why)
	}
	st, err := stack.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// contextFor returns a context for a fault.
func contextFor(t *testing.T, stack *supervisedStack, j *journal) *faultContext {
	return &faultContext{
		stack: stack, journal: j, record: &history.Fault{}, began: time.Now(),
		random: rand.New(rand.NewPCG(1, 1)), say: t.Logf,
	}
}

// ask sends a request to an entry, on a new connection.
func ask(t *testing.T, url string, patience time.Duration) (string, error) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestAStackOnHostsIsCutLostAndTakenAwayAgain(t *testing.T) {
	stack, j := startOwnStack(t, 3, false)
	before := requireWell(t, stack)
	if _, err := ask(t, stack.entries[0]+"/set?key=kelp&value=holdfast", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, entry := range stack.entries {
		if got, err := ask(t, entry+"/get?key=kelp", 5*time.Second); err != nil || !strings.Contains(got, "holdfast") {
			t.Errorf("%s answers %q, %v", entry, got, err)
		}
	}
	for _, n := range before.Nodes {
		if one := stack.hosts.hostOf(n); one.name == "" || !strings.HasPrefix(n.Address, one.address.String()+":") {
			t.Errorf("%s is on host %q at %s", n.Name, n.Host, n.Address)
		}
	}

	t.Run("a supervisor that comes back adopts the nodes on their hosts", func(t *testing.T) {
		id, err := process.Identify(before.Supervisor)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Signal(id, 9, false); err != nil {
			t.Fatal(err)
		}
		if err := await(t.Context(), "its end", 5*time.Second, func() bool { return !process.Alive(id) }); err != nil {
			t.Fatal(err)
		}
		again := stack.startHostStep(stack.hosts.named(before.Host), "")
		if err := again.perform(); err != nil {
			t.Fatal(err)
		}
		after := requireWell(t, stack)
		for _, n := range before.Nodes {
			now, _ := after.Node(n.Name)
			if now.PID != n.PID || now.Host != n.Host || now.Address != n.Address {
				t.Errorf("%s was %d on %s at %s, and is %d on %s at %s", n.Name, n.PID, n.Host, n.Address, now.PID, now.Host, now.Address)
			}
		}
	})

	t.Run("a host is cut off and comes back", func(t *testing.T) {
		fc, mark := contextFor(t, stack, j), j.checkpoint()
		one := stack.hosts.all[1]
		if err := fc.cut(t.Context(), time.Second, one.name, []host{one}, both(hostNames(one), append(hostNames(stack.hosts.except(one)...), clients))); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(fc.record.Evidence, "host-1 to host-2: ") { // the clients may not have sent anything meanwhile
			t.Errorf("the evidence is %q", fc.record.Evidence)
		}
		if got, err := ask(t, stack.entries[1]+"/get?key=kelp", 300*time.Millisecond); err == nil {
			t.Errorf("a host that is cut off answers %q", got)
		}
		if got, err := ask(t, stack.entries[0]+"/get?key=kelp", 5*time.Second); err != nil || !strings.Contains(got, "holdfast") {
			t.Errorf("the other side answers %q, %v", got, err)
		}
		if err := j.undo(mark); err != nil {
			t.Fatal(err)
		}
		requireWell(t, stack)
		if got, err := ask(t, stack.entries[1]+"/get?key=kelp", 5*time.Second); err != nil || !strings.Contains(got, "holdfast") {
			t.Errorf("the host that is back answers %q, %v", got, err)
		}
	})

	t.Run("the master's host is lost, and the drill with it", func(t *testing.T) {
		ctx, kill := context.WithCancel(t.Context())
		defer kill()
		fc := contextFor(t, stack, j)
		master, err := fc.randomUpNode(ctx, plan.Redis, "master")
		if err != nil {
			t.Fatal(err)
		}
		lost := make(chan error, 1)
		go func() { lost <- fc.lose(ctx, stack.hosts.hostOf(master)) }()
		if err := fc.awaitMaster(ctx, master.Name); err != nil {
			t.Fatal(err)
		}
		// Longer than a start takes: nothing on the host may run before the host is back.
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if pids, err := stack.hosts.hostOf(master).pids(ctx); err != nil || len(pids) > 0 {
			t.Errorf("processes %v run, and their host is away (%v)", pids, err)
		}
		kill()
		<-lost
	})

	// Only the journal of the drill is left.
	st, err := stack.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := openJournal(j.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.undo(0); err != nil {
		t.Fatal(err)
	}
	requireNothingLeft(t, stack, st)
}

func TestAFullDiskUnderTheMasterCostsTheClientsAPause(t *testing.T) {
	stack, j := startOwnStack(t, 0, true)
	st := requireWell(t, stack)
	master, err := contextFor(t, stack, j).randomUpNode(t.Context(), plan.Redis, "master")
	if err != nil {
		t.Fatal(err)
	}
	// Redis notices the full disk only when it has something to write.
	writing, stop := context.WithCancel(t.Context())
	var refused []string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; writing.Err() == nil; n++ {
			got, err := ask(t, st.Entry+"/incr/full-disk", 10*time.Second)
			if err != nil || !strings.Contains(got, `{"result":`+strconv.Itoa(n+1)+`}`) {
				refused = append(refused, fmt.Sprintf("%s %v", got, err))
			}
		}
	}()
	fc, mark := contextFor(t, stack, j), j.checkpoint()
	err = fc.fillDisk(t.Context(), master)
	if err == nil {
		err = fc.awaitMaster(t.Context(), master.Name)
	}
	stop()
	<-ended
	if err != nil {
		t.Fatal(err)
	}
	if len(refused) > 0 {
		t.Errorf("%d writes went wrong, the first: %s", len(refused), refused[0])
	}
	if err := j.undo(mark); err != nil {
		t.Fatal(err)
	}
	st = requireWell(t, stack)
	if err := j.undo(0); err != nil {
		t.Fatal(err)
	}
	requireNothingLeft(t, stack, st)
}

// requireNothingLeft checks that nothing of a drill's own stack is left behind.
func requireNothingLeft(t *testing.T, stack *supervisedStack, last supervise.Status) {
	t.Helper()
	tag := stack.state()
	if stack.hosts != nil {
		tag = stack.hosts.tag
	}
	for _, look := range [][]string{{"ip", "netns", "list"}, {"ip", "link"}, {"ip", "address"}, {"cat", "/proc/mounts"}} {
		var out string
		err := await(t.Context(), "", 5*time.Second, func() bool { // the kernel takes a moment
			b, err := exec.Command(look[0], look[1:]...).Output()
			out = string(b)
			return err == nil && !strings.Contains(out, tag) && !strings.Contains(out, stack.state())
		})
		if err != nil {
			t.Errorf("%s shows what the drill has left (%s):\n%s", strings.Join(look, " "), tag, out)
		}
	}
	if _, err := os.Stat(filepath.Dir(stack.state())); err == nil {
		t.Errorf("%s is left", filepath.Dir(stack.state()))
	}
	if id, err := process.Identify(last.Supervisor); err == nil {
		t.Errorf("the supervisor (%v) is left", id)
	}
	for _, n := range last.Nodes {
		if _, err := process.Identify(n.PID); n.PID != 0 && err == nil {
			t.Errorf("%s (pid %d) is left", n.Name, n.PID)
		}
	}
}
