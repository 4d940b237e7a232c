package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// drillResult is the part of a drill's JSON output that the tests use.
type drillResult struct {
	Result    string
	Why       []string
	Repeat    string
	Anomalies []struct{ What, Key, Text string }
	Checked   struct {
		Operations   int
		Acknowledged int `json:"acknowledged_writes"`
		ReadBack     int `json:"read_back"`
	}
	Faults []struct {
		Name, Evidence, Trouble string
		Targets                 []string
	}
	Notices []struct{ Node, Text string }
}

// runningDrill is a drill under way.
type runningDrill struct {
	t        *testing.T
	s        *instance
	cmd      *exec.Cmd
	out      bytes.Buffer
	progress string // the file with its progress messages
	ended    chan error
	slower   int // how many times it was restarted with a lower rate
}

// drill starts a drill of the stack.
func (s *instance) drill(args ...string) *runningDrill {
	s.t.Helper()
	return s.startDrill(s.command(append([]string{"drill", "--json"}, args...)...))
}

func (s *instance) startDrill(cmd *exec.Cmd) *runningDrill {
	s.t.Helper()
	d := &runningDrill{t: s.t, s: s}
	d.start(cmd)
	s.t.Cleanup(func() { // before the stack is taken down
		d.cmd.Process.Signal(os.Interrupt)
		select {
		case <-d.ended:
		case <-time.After(time.Minute):
			d.cmd.Process.Kill()
			<-d.ended
		}
	})
	return d
}

// start starts the drill's process.
func (d *runningDrill) start(cmd *exec.Cmd) {
	d.t.Helper()
	f, err := os.CreateTemp(d.s.dir, "progress")
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	d.cmd, d.progress, d.ended = cmd, f.Name(), make(chan error, 1)
	d.out.Reset()
	d.cmd.Stdout, d.cmd.Stderr = &d.out, f
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := d.ended
	go func() { ended <- cmd.Wait(); close(ended) }()
}

// tooFast is what a drill prints if the machine is too slow for its rate.
const tooFast = "choose a lower --rate"

// retrySlower restarts the drill with a lower rate, and reports whether it did. A busy machine may
// be too slow for any rate that is chosen beforehand.
func (d *runningDrill) retrySlower() bool {
	d.t.Helper()
	rates := []string{"200", "100", "50"}
	if d.slower == len(rates) {
		return false
	}
	rate := rates[d.slower]
	d.slower++
	d.t.Logf("the machine is too slow: again, with --rate %s", rate)
	if d.s.status().Supervisor != 0 { // otherwise it is a stack of the drill's own
		d.s.awaitHealthy()
	}
	old := d.cmd
	args := append(slices.Clone(old.Args), "--rate", rate)
	d.start(&exec.Cmd{Path: old.Path, Args: args, Env: old.Env, Dir: old.Dir, SysProcAttr: old.SysProcAttr})
	return true
}

// log returns what it has printed so far.
func (d *runningDrill) log() string {
	b, _ := os.ReadFile(d.progress)
	return string(b)
}

// wait waits for its end, and returns its exit code.
func (d *runningDrill) wait() int {
	d.t.Helper()
	select {
	case err := <-d.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			d.t.Fatal(err)
		}
	case <-time.After(5 * time.Minute):
		d.cmd.Process.Kill()
		d.t.Fatalf("the drill does not end:\n%s", d.log())
	}
	return d.cmd.ProcessState.ExitCode()
}

// verdict waits for its end, and returns what it found.
func (d *runningDrill) verdict() (v drillResult, code int) {
	d.t.Helper()
	code = d.wait()
	if strings.Contains(d.log(), tooFast) && d.retrySlower() {
		return d.verdict()
	}
	if err := json.Unmarshal(d.out.Bytes(), &v); err != nil {
		log := strings.TrimSpace(d.log())
		d.t.Fatalf("exit %d, and no verdict: %s\n%v\n%s%s", code, log[strings.LastIndex(log, "\n")+1:], err, d.out.Bytes(), log)
	}
	late := func(why string) bool { return strings.HasPrefix(why, "the rate was not reached") }
	if v.Result == "inconclusive" && !slices.ContainsFunc(v.Why, func(why string) bool { return !late(why) }) && d.retrySlower() {
		return d.verdict()
	}
	d.t.Logf("%s: %v; %d operations, %d anomalies, notices %v", v.Result, v.Why, v.Checked.Operations, len(v.Anomalies), v.Notices)
	return v, code
}

// assertHolds waits for its end, and checks that the stack has held.
func (d *runningDrill) assertHolds(faults ...string) drillResult {
	d.t.Helper()
	v, code := d.verdict()
	if v.Result != "holds" || code != 0 {
		d.t.Errorf("the verdict is %s (exit %d): %v %v\n%s", v.Result, code, v.Why, v.Anomalies, d.log())
	}
	var names []string
	for _, f := range v.Faults {
		names = append(names, f.Name)
		if f.Evidence == "" {
			d.t.Errorf("there is no evidence for %s", f.Name)
		}
	}
	if !slices.Equal(names, faults) {
		d.t.Errorf("it ran %v, want %v", names, faults)
	}
	if v.Checked.Acknowledged == 0 || v.Checked.ReadBack == 0 {
		d.t.Errorf("nothing was checked: %+v", v.Checked)
	}
	return v
}

// hasAnomaly reports whether an anomaly of one of these kinds was found.
func (v drillResult) hasAnomaly(what ...string) bool {
	for _, a := range v.Anomalies {
		if slices.Contains(what, a.What) {
			return true
		}
	}
	return false
}

// hasNotice reports whether the drill noticed something that no fault explains, in these words.
func (v drillResult) hasNotice(words string) bool {
	for _, n := range v.Notices {
		if strings.Contains(n.Text, words) {
			return true
		}
	}
	return false
}

// awaitPhase waits until the drill reports that it does something.
func (d *runningDrill) awaitPhase(words string) {
	d.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(d.log(), words); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(d.log(), tooFast) {
			d.wait()
			d.retrySlower()
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the drill never says %q:\n%s", words, d.log())
		}
	}
}

// requireNothingLeft checks that a drill left nothing behind: no key, no file except its report,
// and no stopped process.
func (s *instance) requireNothingLeft() {
	s.t.Helper()
	if _, body := get(s.t, s.status().Entry+"/v1/keys?limit=1000&prefix=holdfast-drill:"); !strings.Contains(body, `"keys":[]`) {
		s.t.Errorf("keys are left: %s", body)
	}
	for _, name := range []string{"drill.lock", "drill-undo.json"} {
		if _, err := os.Stat(filepath.Join(s.state, name)); err == nil {
			s.t.Errorf("%s is left", name)
		}
	}
	for _, n := range s.status().Nodes {
		if stopped(n.PID) {
			s.t.Errorf("%s stands still", n.Name)
		}
	}
}

// lowRate are the arguments of a drill beside which other tests run.
var lowRate = []string{"--rate", "100"}

// quickRollout is a part of a stack file: changes do not wait for long.
const quickRollout = "\nrollout: {settle: 200ms}\n"

// requireUnchanged records what the stack is. The function that it returns checks that the stack is
// the same again, and that its file was not written.
func (s *instance) requireUnchanged() func() {
	s.t.Helper()
	look := func() (supervise.RunsAs, []byte) {
		r, err := supervise.ReadRunsAs(s.state)
		if err != nil {
			s.t.Fatal(err)
		}
		file, err := os.ReadFile(s.file)
		if err != nil {
			s.t.Fatal(err)
		}
		return r, file
	}
	was, text := look()
	nodes := len(s.status().Nodes)
	return func() {
		s.t.Helper()
		now, file := look()
		if d := was.Differences(now); len(d) > 0 {
			s.t.Errorf("the stack is not what it was: %q", d)
		}
		if !bytes.Equal(file, text) {
			s.t.Errorf("the stack file is another one: %s", file)
		}
		if st := s.statusCommand(); len(st.Nodes) != nodes || st.Differs || st.Change != nil || st.Stopped != nil {
			s.t.Errorf("the status is %+v", st)
		}
	}
}

func TestADrillOfAStackThatHolds(t *testing.T) {
	s, _ := runningInstance(t, minimal(t)+quickRollout)
	unchanged := s.requireUnchanged()
	faults := []string{"kill-web", "kill-replica", "kill-supervisor", "kill-master", "kill-stalled-master", "slow-link", "switchover", "restart-master", "switchover-kill-supervisor", "apply", "busy-writing-script"}
	v := s.drill(faults...).assertHolds(faults...)
	s.requireNothingLeft()
	unchanged()
	for _, want := range []string{"replied BUSY", "became master in its place", "was ended by the supervisor"} {
		if script := v.Faults[len(faults)-1]; !strings.Contains(script.Evidence, want) {
			t.Errorf("the evidence for %s does not say %q: %s", script.Name, want, script.Evidence)
		}
	}
	// Judging its history again gives the same result, and its page opens.
	files, _ := filepath.Glob(filepath.Join(s.state, "drills", "*", "history.jsonl"))
	if len(files) != 1 {
		t.Fatalf("histories: %v", files)
	}
	var again drillResult
	if err := json.Unmarshal([]byte(s.must("drill", "check", files[0], "--json")), &again); err != nil || again.Result != v.Result || again.Checked != v.Checked {
		t.Errorf("judged again: %+v, %v", again, err)
	}
	page, err := os.ReadFile(filepath.Join(filepath.Dir(files[0]), "report.html"))
	if err != nil || !bytes.Contains(page, []byte("kill-stalled-master")) {
		t.Errorf("the report: %v", err)
	}
	if !strings.Contains(v.Repeat, "holdfast drill kill-web kill-replica") { // the command as it was called
		t.Errorf("repeat it with %q", v.Repeat)
	}
}

// What others do meanwhile must not count as the drill's own fault.
func TestADrillNoticesWhatItDidNotDo(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t))
	d := s.drill(append([]string{"pause-sentinel"}, lowRate...)...)
	d.awaitPhase("pausing sentinel")
	victim := s.node("web-1")
	kill(t, victim.PID)
	v, code := d.verdict()
	if v.Result != "inconclusive" || code != 1 {
		t.Errorf("the verdict is %s, exit %d", v.Result, code)
	}
	if len(v.Notices) == 0 || v.Notices[0].Node != "web-1" {
		t.Errorf("notices: %+v", v.Notices)
	}
	s.requireNothingLeft()
}

func TestADrillThatIsInterruptedUndoesWhatItBroke(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t)+quickRollout)
	unchanged := s.requireUnchanged()
	for name, sig := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
		d := s.drill(append([]string{"pause-web"}, lowRate...)...)
		d.awaitPhase("pausing web")
		s.await("a web node standing still", 5*time.Second, func() bool { return len(s.stoppedWebNodes()) == 1 })
		d.cmd.Process.Signal(sig)
		code := d.wait()
		if code == 0 {
			t.Errorf("%s: exit 0", name)
		}
		s.await("the node going on", 10*time.Second, func() bool { return len(s.stoppedWebNodes()) == 0 })
		s.await("the end of the undo process", 30*time.Second, func() bool {
			_, err := os.Stat(filepath.Join(s.state, "drill.lock"))
			return err != nil
		})
		s.awaitHealthy()
		s.requireNothingLeft()
	}
	requireWords(t, s.must("drill", "undo"), "undone: 0")

	// A drill's change of the stack is undone even if its supervisor was killed.
	for fault, words := range map[string]string{"apply": "restart web-", "apply-kill-supervisor": "killing supervisor"} {
		d := s.drill(append([]string{fault}, lowRate...)...)
		d.awaitPhase(words)
		d.cmd.Process.Kill()
		d.wait()
		s.await("the end of the undo process", time.Minute, func() bool {
			_, err := os.Stat(filepath.Join(s.state, "drill.lock"))
			return err != nil
		})
		s.awaitHealthy()
		s.requireNothingLeft()
		unchanged()
	}
}

// stoppedWebNodes returns the web nodes that are stopped.
func (s *instance) stoppedWebNodes() []string {
	var all []string
	for _, n := range s.status().Nodes {
		if n.Kind == plan.Web && stopped(n.PID) {
			all = append(all, n.Name)
		}
	}
	return all
}

func TestWhatADrillRefuses(t *testing.T) {
	beside(t, oneStack)
	s := newInstance(t, minimal(t))
	requireWords(t, s.fails(2, "drill", "kill-mastre"), "kill-mastre", "kill-master", "--list")
	requireWords(t, s.fails(2, "drill", "--rate", "0"), "--rate 0")
	requireWords(t, s.fails(2, "drill", "--for", "1m"), "--random")
	requireWords(t, s.fails(2, "drill", "--url", "https://shop.example/"), "https://shop.example/", "speaks plain HTTP", "http://")
	requireWords(t, s.fails(1, "drill"), "does not run", "up -d", "--own")
	requireWords(t, s.fails(2, "drill", "check", "no-such-file"), "no-such-file")
	bad := filepath.Join(s.dir, "bad.jsonl")
	if err := os.WriteFile(bad, []byte("{\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	requireWords(t, s.fails(2, "drill", "check", bad), bad, "line 1")
	s.requireNothingRuns()
	list := s.must("drill", "--list")
	requireWords(t, list, "kill-master", "cut-master", "hosts")

	s.must("up", "-d")
	s.awaitHealthy()
	s.must("stop", "web-2")
	requireWords(t, s.fails(1, "drill", "kill-web"), "not well", "web-2 is down", "nothing was broken")
	if n := s.node("web-2"); n.State != supervise.Down {
		t.Errorf("web-2 is %s", n.State)
	}

	// Undoing a fault would replace the running stack with the declared one.
	s.write("name: " + s.name + "\nentry: {listen: '127.0.0.1:6399'}\n")
	requireWords(t, s.fails(1, "drill", "kill-web"), "not the one that", s.file, "its entry is", "--file")
}
