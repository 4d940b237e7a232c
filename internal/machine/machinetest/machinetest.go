// Package machinetest has the test that every implementation of machine.Machine has to
// pass, with real files, processes and sockets.
package machinetest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/logs"
	"holdfast/internal/machine"
)

// Test checks that a Machine does what the interface says. Open returns a Machine on
// this host whose state directory is dir; Test closes it.
func Test(t *testing.T, open func(t *testing.T, dir string) machine.Machine) {
	for name, test := range map[string]func(*host){
		"a file is written whole, and read":                 (*host).writesAndReads,
		"a file is written over in its place":               (*host).overwrites,
		"a file that cannot be written stays":               (*host).keepsWhatCannotBeReplaced,
		"what is missing is fs.ErrNotExist":                 (*host).knowsWhatIsMissing,
		"files are looked at, found, renamed and removed":   (*host).handlesFiles,
		"no name leads out of the state directory":          (*host).staysInside,
		"files outside are looked at":                       (*host).looksOutside,
		"a link is not read":                                (*host).readsNoLink,
		"a process runs, is signalled and ends":             (*host).runsAProcess,
		"a process that cannot start says why":              (*host).saysWhyNothingStarts,
		"a process is adopted":                              (*host).adopts,
		"a process that has ended is gone":                  (*host).knowsTheDead,
		"a process is stopped and goes on":                  (*host).seesAStop,
		"a group is signalled as one, and has its children": (*host).signalsAGroup,
		"a process is found by what it was started with":    (*host).finds,
		"a process outlives the Machine":                    (*host).leavesProcesses,
		"a node's last words are told":                      (*host).tellsLastWords,
		"a program runs to its end":                         (*host).runs,
		"a program is found":                                (*host).looksPrograms,
		"a file has a digest":                               (*host).digests,
		"a connection is made":                              (*host).dials,
		"a connection is refused":                           (*host).isRefused,
		"an address is free or taken":                       (*host).knowsFreeAddresses,
		"the host has facts":                                (*host).hasFacts,
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "hf") // a short path: that of a socket may have about 100 bytes
			if err != nil {
				t.Fatal(err)
			}

			t.Cleanup(func() { os.RemoveAll(dir) })
			for _, name := range []string{"logs", "nodes"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
					t.Fatal(err)
				}
			}

			m := open(t, dir)
			t.Cleanup(func() {
				if err := m.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})

			test(&host{T: t, Machine: m, dir: dir, ctx: t.Context()})
		})
	}
}

// host is a Machine under test.
type host struct {
	*testing.T
	machine.Machine
	dir string
	ctx context.Context
}

func (h *host) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *host) write(name, content string) {
	h.Helper()
	h.must(h.Write(h.ctx, machine.File{Name: name, Mode: 0o600, Content: []byte(content)}))
}

// start starts a shell script as the node x-1.
func (h *host) start(script string, env ...string) machine.Process {
	h.Helper()
	proc, err := h.Start(h.ctx, machine.Spec{Node: "x-1", Program: "/bin/sh", Args: []string{"-c", script}, Env: append(env, "PATH=/usr/bin:/bin")})
	h.must(err)
	h.Cleanup(func() {
		_ = proc.SignalGroup(syscall.SIGKILL) // it may have ended
		h.ended(proc)
	})
	return proc
}

func (h *host) alive(id machine.ID) bool {
	h.Helper()
	is, err := h.Alive(h.ctx, id)
	h.must(err)
	return is
}

// ended waits for the end of a process, and returns how it ended.
func (h *host) ended(proc machine.Process) {
	h.Helper()
	select {
	case <-proc.Done():
	case <-time.After(10 * time.Second):
		h.Fatalf("process %d has not ended within 10 s", proc.ID().PID)
	}
}

// within polls a condition until it is true.
func (h *host) within(what string, is func() bool) {
	h.Helper()
	if !clock.Within(10*time.Second, 5*time.Millisecond, is) {
		h.Fatalf("not within 10 s: %s", what)
	}
}

func (h *host) looksOutside() {
	dir := h.TempDir() // outside the state directory
	for name, content := range map[string]string{"b.pem": "b", "sub/a.key": "a", "sub/deeper/no.pem": "no", "notes.txt": "no", ".hidden.pem": "no"} {
		h.must(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		h.must(os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	h.must(os.Symlink("b.pem", filepath.Join(dir, "link.pem")))
	h.must(os.Symlink("nowhere", filepath.Join(dir, "lost.pem"))) // does not affect the other files
	endings := []string{".pem", ".key"}
	got, err := h.LookOutside(h.ctx, dir, "", endings)
	want := map[string][]byte{"b.pem": []byte("b"), "link.pem": []byte("b"), "sub/a.key": []byte("a")}
	if err != nil || !maps.EqualFunc(got.Files, want, bytes.Equal) {
		h.Errorf("looked at %q, %v; want %q", got.Files, err, want)
	}
	if lost := got.Wrong["lost.pem"]; len(got.Wrong) != 1 || !errors.Is(lost, fs.ErrNotExist) || errors.Is(lost, fs.ErrPermission) {
		h.Errorf("a link that leads nowhere: %+v", got.Wrong)
	}
	again, err := h.LookOutside(h.ctx, dir, got.Digest, endings)
	if err != nil || again.Digest != got.Digest || again.Files != nil {
		h.Errorf("what is known came again: %q, %v", again.Files, err)
	}
	// Another content of the same length, within the same step of the clock.
	h.must(os.WriteFile(filepath.Join(dir, "b.pem"), []byte("c"), 0o644))
	other, err := h.LookOutside(h.ctx, dir, got.Digest, endings)
	if err != nil || string(other.Files["link.pem"]) != "c" {
		h.Errorf("after a change: %q, %v", other.Files, err)
	}
	one, err := h.LookOutside(h.ctx, filepath.Join(dir, "notes.txt"), "", nil)
	if err != nil || string(one.Files["."]) != "no" {
		h.Errorf("a file: %q, %v", one.Files, err)
	}
	if _, err := h.LookOutside(h.ctx, filepath.Join(dir, "none"), "", nil); !errors.Is(err, fs.ErrNotExist) {
		h.Errorf("no file: %v", err)
	}
	if _, err := h.LookOutside(h.ctx, "/dev/zero", "", nil); err == nil {
		h.Error("a device was read")
	}
}

func (h *host) writesAndReads() {
	h.must(h.MakeDir(h.ctx, "nodes/x-1/data"))
	h.must(h.MakeDir(h.ctx, "nodes/x-1/data")) // it exists already
	for _, content := range []string{"a long first content", "", "short"} {
		h.write("nodes/x-1/f", content)
		got, err := h.Read(h.ctx, "nodes/x-1/f")
		if err != nil || string(got) != content {
			h.Errorf("read %q, %v; want %q", got, err, content)
		}
	}
	info, err := os.Stat(h.Path("nodes", "x-1", "f"))
	h.must(err)
	if info.Mode().Perm() != 0o600 {
		h.Errorf("mode %v", info.Mode())
	}
	if entries, _ := os.ReadDir(h.Path("nodes", "x-1")); len(entries) != 2 {
		h.Errorf("it leaves %v", entries)
	}
}

func (h *host) overwrites() {
	for _, content := range []string{"12345678", "abc"} {
		h.must(h.Write(h.ctx, machine.File{Name: "nodes/f", Content: []byte(content), InPlace: true}))
	}
	if got, err := h.Read(h.ctx, "nodes/f"); err != nil || string(got) != "abc45678" {
		h.Errorf("read %q, %v", got, err)
	}
}

func (h *host) keepsWhatCannotBeReplaced() {
	h.must(h.MakeDir(h.ctx, "nodes/x-1/full"))
	h.write("nodes/x-1/full/file", "kept")
	err := h.Write(h.ctx, machine.File{Name: "nodes/x-1/full", Mode: 0o600, Content: []byte("new")})
	if err == nil || !strings.Contains(err.Error(), h.Path("nodes", "x-1", "full")) {
		h.Errorf("a file in the place of a directory: %v", err)
	}
	if entries, _ := os.ReadDir(h.Path("nodes", "x-1")); len(entries) != 1 {
		h.Errorf("it leaves %v", entries)
	}
}

func (h *host) knowsWhatIsMissing() {
	_, read := h.Read(h.ctx, "nodes/none")
	_, stat := h.Stat(h.ctx, "nodes/none")
	_, digest := h.Digest(h.ctx, h.Path("nodes", "none"))
	for what, err := range map[string]error{
		"read": read, "stat": stat, "digest": digest,
		"rename": h.Rename(h.ctx, "nodes/none", "nodes/other"),
		"write":  h.Write(h.ctx, machine.File{Name: "nodes/none/f", Mode: 0o600}),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			h.Errorf("%s: %v", what, err)
		}
	}
	h.must(h.Remove(h.ctx, "nodes/none"))
	if names, err := h.Glob(h.ctx, "none/*"); len(names) != 0 || err != nil {
		h.Errorf("glob: %q, %v", names, err)
	}
}

func (h *host) handlesFiles() {
	h.must(h.MakeDir(h.ctx, "nodes/b-1"))
	h.must(h.MakeDir(h.ctx, "nodes/a-1"))
	h.write("nodes/a-1/f", "12345")
	h.write("nodes/b-1/f", "")
	h.write("nodes/b-1/.hidden", "")

	if names, err := h.Glob(h.ctx, "nodes/*/f"); err != nil || !slices.Equal(names, []string{"nodes/a-1/f", "nodes/b-1/f"}) {
		h.Errorf("glob: %q, %v", names, err)
	}
	if names, err := h.Glob(h.ctx, "nodes/*/.*"); err != nil || !slices.Equal(names, []string{"nodes/b-1/.hidden"}) {
		h.Errorf("glob of hidden files: %q, %v", names, err)
	}
	if _, err := h.Glob(h.ctx, "nodes/["); err == nil {
		h.Error("a bad pattern is no error")
	}
	info, err := h.Stat(h.ctx, "nodes/a-1/f")
	if err != nil || info.Size != 5 || !info.Regular || time.Since(info.Modified).Abs() > time.Minute {
		h.Errorf("stat: %+v, %v", info, err)
	}
	if info, err := h.Stat(h.ctx, "nodes/a-1"); err != nil || info.Regular {
		h.Errorf("a directory: %+v, %v", info, err)
	}

	h.must(h.Rename(h.ctx, "nodes/a-1/f", "nodes/b-1/f"))
	if got, err := h.Read(h.ctx, "nodes/b-1/f"); err != nil || string(got) != "12345" {
		h.Errorf("after the rename: %q, %v", got, err)
	}
	h.must(h.Remove(h.ctx, "nodes/b-1"))
	if names, err := h.Glob(h.ctx, "nodes/*"); err != nil || !slices.Equal(names, []string{"nodes/a-1"}) {
		h.Errorf("after the removal: %q, %v", names, err)
	}
}

func (h *host) staysInside() {
	outside := filepath.Join(filepath.Dir(h.dir), filepath.Base(h.dir)+"-outside")
	h.must(os.WriteFile(outside, []byte("secret"), 0o600))
	h.Cleanup(func() { os.Remove(outside) })
	for _, name := range []string{"../" + filepath.Base(outside), outside, "nodes/../../" + filepath.Base(outside)} {
		_, read := h.Read(h.ctx, name)
		_, stat := h.Stat(h.ctx, name)
		_, glob := h.Glob(h.ctx, name)
		_, dial := h.Dial(h.ctx, "unix", name)
		for what, err := range map[string]error{
			"read": read, "stat": stat, "glob": glob, "dial": dial,
			"write":     h.Write(h.ctx, machine.File{Name: name, Mode: 0o600}),
			"remove":    h.Remove(h.ctx, name),
			"rename":    h.Rename(h.ctx, name, "nodes/f"),
			"rename to": h.Rename(h.ctx, "nodes", name),
			"make":      h.MakeDir(h.ctx, name+".d"),
		} {
			if err == nil {
				h.Errorf("%s of %s is done", what, name)
			}
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "secret" {
		h.Errorf("the file outside: %q, %v", b, err)
	}
}

func (h *host) readsNoLink() {
	h.must(os.WriteFile(filepath.Join(h.dir, "target"), []byte("12"), 0o600))
	h.must(os.Symlink("../target", filepath.Join(h.dir, "nodes", "link")))
	if b, err := h.Read(h.ctx, "nodes/link"); err == nil {
		h.Errorf("read %q", b)
	}
	if info, err := h.Stat(h.ctx, "nodes/link"); err != nil || info.Regular || info.Size != 2 {
		h.Errorf("stat: %+v, %v", info, err)
	}
}

func (h *host) runsAProcess() {
	proc := h.start(`trap 'echo bye > said; exit 7' TERM; echo "$WORD $PWD" > ready; while :; do sleep 0.01; done`, "WORD=hello")
	h.within("it writes into its home", func() bool {
		b, _ := os.ReadFile(h.Path("nodes", "x-1", "ready"))
		return string(b) == "hello "+h.Path("nodes", "x-1")+"\n"
	})
	if id := proc.ID(); id.PID == 0 || !h.alive(id) || proc.Exit() != "" || proc.Stopped() {
		h.Errorf("a process that runs: %+v, alive %v, exit %q, stopped %v", id, h.alive(id), proc.Exit(), proc.Stopped())
	}
	h.must(proc.Signal(syscall.SIGTERM))
	h.ended(proc)
	if !strings.Contains(proc.Exit(), "7") || h.alive(proc.ID()) {
		h.Errorf("exit %q, alive %v", proc.Exit(), h.alive(proc.ID()))
	}
	if b, _ := os.ReadFile(h.Path("nodes", "x-1", "said")); string(b) != "bye\n" {
		h.Errorf("it said %q", b)
	}
}

func (h *host) saysWhyNothingStarts() {
	text := h.Path("nodes", "text")
	h.must(os.WriteFile(text, []byte("words"), 0o600))
	for _, c := range []struct {
		spec machine.Spec
		want string
	}{
		{machine.Spec{Node: "x-1", Program: "/none/such"}, "/none/such does not exist"},
		{machine.Spec{Node: "x-1", Program: text}, "not executable"},
		{machine.Spec{Node: "x-1", Program: "/bin/sh", Dir: h.Path("none")}, h.Path("none") + " does not exist"},
	} {
		proc, err := h.Start(h.ctx, c.spec)
		if proc != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			h.Errorf("%+v: %v, %v; want %q", c.spec, proc, err, c.want)
		}
	}
}

func (h *host) adopts() {
	proc := h.start("sleep 1000")
	again, err := h.Adopt(h.ctx, proc.ID())
	h.must(err)
	if again.ID() != proc.ID() || again.Exit() != "" {
		h.Errorf("adopted %+v, exit %q", again.ID(), again.Exit())
	}
	h.must(again.SignalGroup(syscall.SIGKILL))
	h.ended(again)
	h.ended(proc)
	if again.Exit() == "" || proc.Exit() == "" {
		h.Errorf("exits %q and %q", again.Exit(), proc.Exit())
	}
}

func (h *host) knowsTheDead() {
	proc := h.start("exit 0")
	h.ended(proc)
	later := proc.ID()
	later.PID, later.Start = os.Getpid(), 1
	for what, id := range map[string]machine.ID{"one that has ended": proc.ID(), "another one's pid": later, "none": {}} {
		if h.alive(id) {
			h.Errorf("%s is alive", what)
		}
		if got, err := h.Adopt(h.ctx, id); !errors.Is(err, machine.ErrGone) || got != nil {
			h.Errorf("%s is adopted: %v, %v", what, got, err)
		}
	}
	if err := proc.Signal(syscall.SIGTERM); !errors.Is(err, machine.ErrGone) {
		h.Errorf("a signal to it: %v", err)
	}
	if err := proc.SignalGroup(syscall.SIGTERM); !errors.Is(err, machine.ErrGone) {
		h.Errorf("a signal to its group: %v", err)
	}
}

func (h *host) seesAStop() {
	proc := h.start("exec sleep 1000")
	h.must(proc.SignalGroup(syscall.SIGSTOP))
	h.within("it is stopped", proc.Stopped)
	if !h.alive(proc.ID()) {
		h.Error("a process that is stopped is dead")
	}
	h.must(proc.SignalGroup(syscall.SIGCONT))
	h.within("it goes on", func() bool { return !proc.Stopped() })
}

func (h *host) signalsAGroup() {
	proc := h.start("sleep 1000 & sleep 1000 & wait")
	h.within("it has two children", func() bool { return len(h.Children(h.ctx, proc.ID().PID)) == 2 })
	children := h.Children(h.ctx, proc.ID().PID)
	h.must(proc.SignalGroup(syscall.SIGKILL))
	h.ended(proc)
	for _, pid := range children {
		h.within("its children end", func() bool {
			b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
			return err != nil || bytes.Contains(b, []byte(") Z "))
		})
	}
}

func (h *host) finds() {
	facts, err := h.Facts(h.ctx)
	h.must(err)
	byName := h.start("exec sleep 1000", "TRACE=one")
	byLog, err := h.Start(h.ctx, machine.Spec{Node: "y-1", Program: "/bin/sleep", Args: []string{"1000"}})
	h.must(err)
	h.Cleanup(func() { _ = byLog.SignalGroup(syscall.SIGKILL); h.ended(byLog) })

	for what, c := range map[string]struct {
		trace machine.Trace
		want  []machine.ID
	}{
		"by its variable": {machine.Trace{Node: "none", Variable: "TRACE=one", Since: facts.Now}, []machine.ID{byName.ID()}},
		"by its log":      {machine.Trace{Node: "y-1", Variable: "TRACE=two", Since: facts.Now}, []machine.ID{byLog.ID()}},
		"of later":        {machine.Trace{Node: "y-1", Variable: "TRACE=one", Since: byLog.ID().Start + 1000}, nil},
		"nobody":          {machine.Trace{Node: "none", Variable: "TRACE=two"}, nil},
	} {
		if got, err := h.Find(h.ctx, c.trace); err != nil || !slices.Equal(got, c.want) {
			h.Errorf("%s: %v, %v; want %v", what, got, err, c.want)
		}
	}
}

func (h *host) leavesProcesses() {
	proc, err := h.Start(h.ctx, machine.Spec{Node: "x-1", Program: "/bin/sleep", Args: []string{"1000"}})
	h.must(err)
	h.Cleanup(func() { _ = syscall.Kill(proc.ID().PID, syscall.SIGKILL) }) // the machine does not look after it any more
	h.must(h.Close())
	if err := syscall.Kill(proc.ID().PID, 0); err != nil {
		h.Errorf("it ends with the Machine: %v", err)
	}
}

func (h *host) tellsLastWords() {
	writing, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- logs.Write(writing, h.dir) }()
	h.Cleanup(func() { stop(); <-ended })
	h.must(logs.Await(h.ctx, h.dir))

	began := time.Now()
	h.ended(h.start("echo first; echo second >&2; exit 1"))
	if got := h.Tail(h.ctx, "x-1", began); !slices.Equal(got, []string{"first", "second"}) {
		h.Errorf("its last words: %q", got)
	}
	if got := h.Tail(h.ctx, "x-1", time.Now().Add(time.Minute)); len(got) != 0 {
		h.Errorf("the last words of later: %q", got)
	}
	if got := h.Tail(h.ctx, "none", began); len(got) != 0 {
		h.Errorf("the last words of nobody: %q", got)
	}
}
