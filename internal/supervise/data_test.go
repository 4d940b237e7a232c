package supervise

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/stack"
)

// stateDir is a state directory where 'up' is prepared, and nothing is started.
type stateDir struct {
	dir
	t *testing.T
}

// bootedStack returns the state directory of a stack that has been up and is down.
func bootedStack(t *testing.T) stateDir {
	t.Helper()
	// Not t.TempDir: a unix socket's path is limited to about a hundred bytes.
	path, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	d := stateDir{dirAt(path), t}
	s := d.prepared("")
	if err := s.markBooted(); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.host.Processes {
		if err := hostsAt(path).here.writeRecord(t.Context(), p.Node, record{Address: p.Address}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// prepare does what 'up' does before it starts anything.
func (d stateDir) prepare(text string) (*Supervisor, error) {
	d.t.Helper()
	file, _, err := stack.Parse("holdfast.yaml", []byte("name: shop\n"+text))
	if err != nil {
		d.t.Fatal(err)
	}
	s, err := Open(Config{Stack: file, BaseDir: d.root, StateDir: d.dir.root, Self: os.Args[0], Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	d.t.Cleanup(s.Close)
	err = s.Prepare()
	s.lock.Close() // so that the next supervisor can open it
	return s, err
}

func (d stateDir) prepared(text string) *Supervisor {
	d.t.Helper()
	s, err := d.prepare(text)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// hasData gives a redis node data that was last written the given time ago.
func (d stateDir) hasData(node string, ago time.Duration) {
	d.t.Helper()
	incr := filepath.Join(filepath.Dir(d.path(manifest(node))), "appendonly.aof.1.incr.aof")
	when := time.Now().Add(-ago)
	for _, file := range []string{d.path(manifest(node)), incr} {
		os.MkdirAll(filepath.Dir(file), 0o700)
		if err := os.WriteFile(file, []byte("file x"), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := os.Chtimes(incr, when, when); err != nil {
		d.t.Fatal(err)
	}
}

// sentinelSays makes a Sentinel's file name a master.
func (d stateDir) sentinelSays(s *Supervisor, sentinel, master string, epoch int64) {
	d.t.Helper()
	host, port := splitAddress(s.nodes[master].spec().Address)
	text := fmt.Sprintf("sentinel monitor shop %s %s 2\nsentinel config-epoch shop %d\n", host, port, epoch)
	if err := os.WriteFile(d.path("nodes", sentinel, sentinelConf), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// named returns the node that every Sentinel's file names as the master, with the epoch.
func (d stateDir) named(s *Supervisor) string {
	d.t.Helper()
	said := map[string]bool{}
	for sentinel, n := range s.nodes {
		if n.spec().Kind == plan.Sentinel {
			files, err := hostsAt(d.dir.root).sentinelFiles(d.t.Context())
			if err != nil {
				d.t.Fatal(err)
			}
			f := files[sentinel]
			said[fmt.Sprintf("%s in epoch %d", nodeAt(redisAddresses(s.host.Processes), f.Address), f.ConfigEpoch)] = true
		}
	}
	if len(said) != 1 {
		d.t.Errorf("the Sentinels' files name %v", said)
	}
	for one := range said {
		return one
	}
	return ""
}

func TestAStateDirectoryWithoutItsStackFileIsNoNewStack(t *testing.T) {
	for _, content := range []string{"", "{}\n", "null\n"} {
		d := bootedStack(t)
		s := d.prepared("")
		for _, sentinel := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
			d.sentinelSays(s, sentinel, "redis-3", 2)
		}
		for i, node := range []string{"redis-3", "redis-2", "redis-1"} {
			d.hasData(node, time.Duration(i)*time.Hour)
		}
		lose := func() {
			os.Remove(d.path(stateFile))
			if content != "" {
				if err := os.WriteFile(d.path(stateFile), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		lose()
		s = d.prepared("")
		if got := d.named(s); got != "redis-3 in epoch 2" || !s.booted.Load() {
			t.Errorf("stack.json is %q: %s, booted %t", content, got, s.booted.Load())
		}

		// The Sentinels' files are gone as well: no node becomes the master on a guess.
		names, err := hostsAt(d.dir.root).here.sentinelPaths(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			os.Remove(d.path(name))
		}
		lose()
		for _, text := range []string{"", "redis: {sentinels: 0}\n"} {
			_, err := d.prepare(text)
			if err == nil || !strings.Contains(err.Error(), "last written: redis-3 at") {
				t.Errorf("%q: %v", text, err)
			}
		}
		// The way out that the error advises works.
		for _, node := range []string{"redis-1", "redis-2"} {
			if err := os.Rename(d.path("nodes", node, "data"), d.path("kept-"+node)); err != nil {
				t.Fatal(err)
			}
		}
		if got := d.named(d.prepared("")); got != "redis-3 in epoch 0" {
			t.Error(got)
		}
	}
}

func TestADamagedStackFileIsRefusedWithAWayOut(t *testing.T) {
	d := bootedStack(t)
	if err := os.WriteFile(d.path(stateFile), []byte(`{"booted": tr`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, upErr := d.prepare("")
	_, planErr := Preview(stack.Default(), "/", d.root)
	for _, err := range []error{upErr, planErr} {
		if err == nil || !strings.Contains(err.Error(), "is damaged") || !strings.Contains(err.Error(), "Move it away") {
			t.Errorf("it says %v", err)
		}
	}
}

func TestSentinelsThatHaveNotHeardOfTheLastFailoverDoNotDecide(t *testing.T) {
	// Only one of three Sentinels knows of it, and the two others may reply first.
	d := bootedStack(t)
	s := d.prepared("")
	d.sentinelSays(s, "sentinel-1", "redis-1", 3)
	d.sentinelSays(s, "sentinel-2", "redis-1", 3)
	d.sentinelSays(s, "sentinel-3", "redis-2", 4)
	if got := d.named(d.prepared("")); got != "redis-2 in epoch 4" {
		t.Error(got)
	}

	// Only the supervisor knows of it: the Sentinels' disk was full.
	s.noteMaster(redisFacts{Sentinels: 1, Nodes: map[string]string{"redis-3": "r3"}, Views: []redis.View{{Address: "r3", Epoch: 7}}})
	if got := d.named(d.prepared("")); got != "redis-3 in epoch 7" {
		t.Error(got)
	}
}

func TestWhoIsTheMasterIsWrittenDownWhenTheDiskHasRoomAgain(t *testing.T) {
	s := &Supervisor{dir: dirAt(filepath.Join(t.TempDir(), "missing")), log: slog.New(slog.DiscardHandler)}
	f := redisFacts{Sentinels: 1, Nodes: map[string]string{"redis-3": r3}, Views: []redis.View{{Address: r3, Epoch: 7}}}
	s.noteMaster(f)
	if err := s.dir.open(); err != nil {
		t.Fatal(err)
	}
	s.noteMaster(f)
	if k, err := s.dir.readState(); err != nil || k.Redis.Replication.Master != "redis-3" {
		t.Errorf("%+v, %v", k.Redis, err)
	}
}

func TestWhereTheMastersDataIsGoneTheNodeThatWasWrittenToLastTakesItsPlace(t *testing.T) {
	for _, text := range []string{"", "redis: {sentinels: 0}\n"} {
		d := bootedStack(t)
		d.hasData("redis-2", time.Hour) // it was stopped first, and missed a write
		d.hasData("redis-3", time.Minute)
		if s := d.prepared(text); s.persisted.Redis.Replication.Master != "redis-3" {
			t.Errorf("%q: the master is %s", text, s.persisted.Redis.Replication.Master)
		}
		d.hasData("redis-1", 0)
		if s := d.prepared(text); s.persisted.Redis.Replication.Master != "redis-3" {
			t.Errorf("%q: its data is back, and the master is %s", text, s.persisted.Redis.Replication.Master)
		}
	}
}

func TestAMasterThatIsLeftOutWithoutSentinelsIsToComeBackWithThem(t *testing.T) {
	d := bootedStack(t)
	s := d.prepared("")
	for _, sentinel := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
		d.sentinelSays(s, sentinel, "redis-3", 2)
	}
	before, _ := os.ReadFile(d.path(stateFile))
	for text, want := range map[string]string{
		"redis: {replicas: 1}\n":               "(redis.replicas: 2)",
		"redis: {replicas: 1, sentinels: 0}\n": "(redis.replicas: 2, redis.sentinels: 3)",
	} {
		if _, err := d.prepare(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if after, _ := os.ReadFile(d.path(stateFile)); string(after) != string(before) || d.named(s) != "redis-3 in epoch 2" {
		t.Error("a refusal has changed something")
	}
}

func TestAtAColdStartAReplicaThatMissedWritesWaitsForOneThatHasThem(t *testing.T) {
	d := bootedStack(t)
	d.hasData("redis-1", 0)
	d.hasData("redis-2", time.Hour)
	d.hasData("redis-3", time.Minute)
	s := d.prepared("")
	views := []redis.View{{Address: s.nodes["redis-1"].spec().Address}, {Address: s.nodes["redis-1"].spec().Address}}
	waits := func(node string, standings map[string]redis.Standing) string {
		f := redisFacts{Sentinels: 3, Views: views, Nodes: redisAddresses(s.host.Processes), Standings: standings}
		return s.decide(t.Context(), node, time.Now(), &f).Wait
	}
	master := map[string]redis.Standing{"redis-1": {Master: true}}
	both := map[string]redis.Standing{"redis-1": {Master: true}, "redis-3": {Linked: true}}
	for _, tt := range []struct {
		node      string
		standings map[string]redis.Standing
		waitsFor  string
	}{
		{"redis-1", nil, ""}, {"redis-2", nil, "redis-1"}, {"redis-3", nil, "redis-1"},
		{"redis-2", master, "redis-3"}, {"redis-3", master, ""},
		{"redis-2", both, ""},
	} {
		got := waits(tt.node, tt.standings)
		if (got == "") != (tt.waitsFor == "") || !strings.Contains(got, tt.waitsFor) {
			t.Errorf("%s, when %v answer: %q", tt.node, tt.standings, got)
		}
	}

	// Later, or where Redis runs, no node waits: the Sentinels know which replica has what.
	s.cold.Store(false)
	if got := waits("redis-2", nil); got != "" {
		t.Error(got)
	}
}
