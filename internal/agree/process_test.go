package agree

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childKey is the environment variable with the childConfig of a process that is to
// run as a member instead of as a test.
const childKey = "AGREE_CHILD"

// childConfig configures a member in a process of its own.
type childConfig struct {
	Dir, Name, Address string
	Write              bool   // write document after document while it leads
	FileLimit          uint64 // the largest size of a file in bytes; 0: no limit
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childKey); text != "" {
		if err := child(text); err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child runs a member that prints what happens, one line for each event, and reads
// commands from its input.
func child(text string) error {
	var cfg childConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}

	if cfg.FileLimit > 0 {
		signal.Ignore(syscall.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: cfg.FileLimit, Max: cfg.FileLimit}); err != nil {
			return err
		}
	}

	var out sync.Mutex
	say := func(words ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(words...)
	}

	listener, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return err
	}

	var m *Member
	started := make(chan struct{})
	m, err = Start(Config{
		Dir: cfg.Dir, Name: cfg.Name, Address: cfg.Address, Listener: listener,
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		},
		Lead: func(ctx context.Context, term uint64) {
			<-started
			say("lead", term)
			defer say("end", term)
			for i := 0; cfg.Write && ctx.Err() == nil; i++ {
				name := fmt.Sprintf("n/%s/%d/%d", cfg.Name, term, i)
				if _, err := m.Put(ctx, term, name, []byte(strings.Repeat("x", 1000)), 0); err == nil {
					say("acknowledged", name)
				}
			}
			<-ctx.Done()
		},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}

	close(started)
	say("id", m.ID())
	go func() {
		<-m.Done()
		say("stopped", m.Err())
	}()

	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		switch words := strings.Fields(in.Text()); words[0] {
		case "add":
			say("added", m.Add(ctx, words[1], words[2]))
		case "list":
			docs, err := m.List(ctx, "n/")
			var names []string
			for _, doc := range docs {
				names = append(names, doc.Name)
			}
			say("list", err, strings.Join(names, " "))
		}
		cancel()
	}
	return m.Stop(context.Background())
}

// childProcess is a member in a process of its own.
type childProcess struct {
	childConfig
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{}
	all   *children
	mine  []line
}

type line struct {
	at   time.Time
	from *childProcess
	text string
}

// children are the processes of a test, with everything that they have printed.
type children struct {
	tb testing.TB
	mu sync.Mutex
	of map[string]*childProcess
	// said has the lines of all processes in the order of their arrival.
	said []line
}

func newChildren(tb testing.TB, change func(*childConfig), names ...string) *children {
	c := &children{tb: tb, of: map[string]*childProcess{}}
	tb.Cleanup(func() {
		for _, p := range c.of {
			p.kill()
		}
	})

	for i, name := range names {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		cfg := childConfig{Name: name, Dir: filepath.Join(tb.TempDir(), name), Address: listener.Addr().String()}
		listener.Close()
		if change != nil {
			change(&cfg)
		}

		p := &childProcess{childConfig: cfg, all: c}
		c.of[name] = p
		if i == 0 {
			if err := Bootstrap(cfg.Dir, name, cfg.Address, nil); err != nil {
				tb.Fatal(err)
			}
		}

		p.start()
		id := p.hears("id ")
		for i > 0 {
			if leader := c.leader(); leader.asks(fmt.Sprintf("add %s %s", strings.TrimPrefix(id, "id "), cfg.Address), "added ") == "added <nil>" {
				break
			}
		}
	}
	return c
}

func (p *childProcess) start() {
	text, _ := json.Marshal(p.childConfig)
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childKey+"="+string(text))
	p.cmd.Stderr = os.Stderr

	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		p.all.tb.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.all.tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.all.tb.Fatal(err)
	}

	p.ended = make(chan struct{})
	p.all.mu.Lock()
	p.mine = nil
	p.all.mu.Unlock()

	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			p.all.mu.Lock()
			said := line{time.Now(), p, lines.Text()}
			p.mine = append(p.mine, said)
			p.all.said = append(p.all.said, said)
			p.all.mu.Unlock()
		}
		p.cmd.Wait()
	}()
}

func (p *childProcess) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// hears waits for a line of this process that begins with prefix, and takes it.
func (p *childProcess) hears(prefix string) (text string) {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		p.all.mu.Lock()
		for i, said := range p.mine {
			if strings.HasPrefix(said.text, prefix) {
				p.mine = slices.Delete(p.mine, i, i+1)
				p.all.mu.Unlock()
				return said.text
			}
		}
		p.all.mu.Unlock()
		if time.Now().After(end) {
			p.all.tb.Fatalf("%s did not say %q", p.Name, prefix)
		}
	}
}

func (p *childProcess) asks(command, answer string) string {
	fmt.Fprintln(p.in, command)
	return p.hears(answer)
}

// leads returns the process that leads by the last lines printed, and when its
// leadership began. It returns nil if the last leadership has ended.
func (c *children) leads() (p *childProcess, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.said) - 1; i >= 0; i-- {
		switch said := c.said[i]; {
		case strings.HasPrefix(said.text, "end "):
			return nil, time.Time{}
		case strings.HasPrefix(said.text, "lead "):
			return said.from, said.at
		}
	}
	return nil, time.Time{}
}

func (c *children) leader() *childProcess {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if p, _ := c.leads(); p != nil {
			return p
		}
		if time.Now().After(end) {
			c.tb.Fatal("nobody leads")
		}
	}
}

// killLeader kills the leader and waits for the next one, for at most patience.
func (c *children) killLeader() (killed *childProcess, after time.Duration) {
	killed = c.leader()
	at := time.Now()
	killed.kill()
	for end := at.Add(patience); ; time.Sleep(time.Millisecond) {
		if p, began := c.leads(); p != nil && began.After(at) {
			return killed, began.Sub(at)
		}
		if time.Now().After(end) {
			c.tb.Fatal("nobody took over")
		}
	}
}

func TestNoAcknowledgedWriteIsLostWhenLeadersAreKilled(t *testing.T) {
	t.Parallel()
	c := newChildren(t, func(cfg *childConfig) { cfg.Write = true }, "one", "two", "three")
	for range 5 {
		time.Sleep(300 * time.Millisecond) // under writes
		killed, _ := c.killLeader()
		killed.start()
		killed.hears("id ")
	}
	time.Sleep(300 * time.Millisecond)
	for _, p := range c.of { // and all at once
		p.cmd.Process.Kill()
	}
	for _, p := range c.of {
		<-p.ended
	}

	c.mu.Lock()
	var acknowledged []string
	for _, said := range c.said {
		if name, ok := strings.CutPrefix(said.text, "acknowledged "); ok {
			acknowledged = append(acknowledged, name)
		}
	}
	c.said = nil
	c.mu.Unlock()

	for _, p := range c.of {
		p.Write = false
		p.start()
	}

	var words []string
	soon(t, "an answer of the leader", func() bool {
		words = strings.Fields(c.leader().asks("list", "list "))
		return words[1] == "<nil>"
	})
	there := map[string]bool{}
	for _, name := range words[2:] {
		there[name] = true
	}
	t.Logf("%d acknowledged, %d there", len(acknowledged), len(there))
	if len(acknowledged) < 10 {
		t.Errorf("only %d writes were acknowledged", len(acknowledged))
	}
	for _, name := range acknowledged {
		if !there[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
}

func TestAMemberWithAFullDiskStaysOut(t *testing.T) {
	t.Parallel()
	c := newChildren(t, func(cfg *childConfig) {
		cfg.Write = true
		if cfg.Name == "one" {
			cfg.FileLimit = 512 << 10
		}
	}, "one", "two", "three")
	text := c.of["one"].hears("stopped ")
	if !strings.Contains(text, syscall.EFBIG.Error()) || !strings.Contains(text, "cannot write "+filepath.Join(c.of["one"].Dir, fileName)) {
		t.Error(text)
	}
	// The others go on, and the member comes back when there is room on its disk.
	if l := c.leader(); l.Name == "one" {
		t.Error("it leads")
	}
	c.of["one"].kill()
	c.of["one"].FileLimit = 0
	c.of["one"].start()
	c.of["one"].hears("id ")
	killed, _ := c.killLeader()
	if now := c.leader(); now == killed {
		t.Error("nobody took over")
	}
}

// BenchmarkReplacingAKilledLeader measures the time from the kill until the Lead of
// another member runs, which then has everything that was written.
func BenchmarkReplacingAKilledLeader(b *testing.B) {
	c := newChildren(b, nil, "one", "two", "three")
	var took []time.Duration
	for b.Loop() {
		time.Sleep(time.Second)
		killed, after := c.killLeader()
		took = append(took, after)
		killed.start()
		killed.hears("id ")
	}
	slices.Sort(took)
	b.ReportMetric(took[0].Seconds()*1e3, "min-ms")
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "median-ms")
	b.ReportMetric(took[len(took)-1].Seconds()*1e3, "max-ms")
}

// BenchmarkAtRest measures the processor time that three idle members use. It takes
// a minute.
func BenchmarkAtRest(b *testing.B) {
	c := newChildren(b, nil, "one", "two", "three")
	time.Sleep(2 * time.Second)
	const period = time.Minute

	for b.Loop() {
		before := map[string]time.Duration{}
		for name, p := range c.of {
			before[name] = cpuTime(b, p.cmd.Process.Pid)
		}
		time.Sleep(period)

		leader := c.leader()
		var followers time.Duration
		for name, p := range c.of {
			used := cpuTime(b, p.cmd.Process.Pid) - before[name]
			if p == leader {
				b.ReportMetric(100*float64(used)/float64(period), "leader-%core")
			} else {
				followers = max(followers, used)
			}
		}
		b.ReportMetric(100*float64(followers)/float64(period), "follower-%core")

		leads := 0
		for _, said := range c.said {
			if strings.HasPrefix(said.text, "lead ") {
				leads++
			}
		}
		b.ReportMetric(float64(leads), "leads") // more than one means that the members were not at rest
	}
}

// cpuTime returns the processor time of a process: the sum over its threads of the
// scheduler's count in nanoseconds. /proc/PID/stat counts only ticks of 10 ms.
func cpuTime(b *testing.B, pid int) (sum time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		b.Fatal(pid, err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		var ran int64
		fmt.Sscan(string(text), &ran)
		sum += time.Duration(ran)
	}
	return sum
}
