package supervise

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

func TestWhoWasTheMasterIsReadFromTheSentinelsFiles(t *testing.T) {
	at := func(address string, epoch int64) sentinelFile {
		return sentinelFile{Address: address, ConfigEpoch: epoch, LeaderEpoch: epoch, CurrentEpoch: epoch}
	}
	files := func(f ...sentinelFile) map[string]sentinelFile {
		all := map[string]sentinelFile{}
		for i := range f {
			all["sentinel-"+string(rune('1'+i))] = f[i]
		}
		return all
	}
	addresses := map[string]string{"redis-1": r1, "redis-2": r2, "redis-3": r3, "sentinel-1": "127.0.0.1:8001"}
	seen := func(master string, epoch int64) plan.Replication {
		return plan.Replication{Master: master, ConfigEpoch: epoch, LeaderEpoch: epoch, CurrentEpoch: epoch}
	}
	tests := []struct {
		name      string
		seen      plan.Replication
		rewriting bool
		files     map[string]sentinelFile
		want      plan.Replication
		err       string
	}{
		{name: "all say the same", seen: seen("redis-1", 0), files: files(at(r2, 3), at(r2, 3), at(r2, 3)), want: seen("redis-2", 3)},
		{name: "one alone has heard of the last failover", files: files(at(r1, 3), at(r3, 4), at(r1, 3)), want: seen("redis-3", 4)},
		{name: "no failover yet", files: files(at(r1, 0), at(r1, 0)), want: seen("redis-1", 0)},
		{name: "the files are gone", seen: seen("redis-3", 7), want: seen("redis-3", 7)},
		{name: "the files are older than what was seen", seen: seen("redis-3", 7), files: files(at(r1, 6)), want: seen("redis-3", 7)},
		{name: "a failover while no supervisor ran", seen: seen("redis-3", 7), files: files(at(r1, 7), at(r2, 8)), want: seen("redis-2", 8)},
		{name: "the file of a Sentinel that was taken out long ago", files: files(at("127.0.0.1:9", 1), at(r2, 5)), want: seen("redis-2", 5)},
		{name: "killed while the files were written anew: they speak of two sets of addresses",
			seen: seen("redis-2", 5), rewriting: true, files: files(at(r1, 5), at(r3, 5)), want: seen("redis-2", 5)},
		{name: "two in one epoch", files: files(at(r1, 4), at(r2, 4)), want: seen("", 4), err: "both named in epoch 4"},
		{name: "one that was never a node", seen: seen("redis-1", 2), files: files(at("127.0.0.1:9", 4)), want: seen("", 4), err: "where no node of this stack listened"},
		{name: "a Sentinel's own address is no redis node", files: files(at("127.0.0.1:8001", 4)), want: seen("", 4), err: "no node of this stack"},
		{name: "nothing is known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := lastKnownMaster(redisMemory{Addresses: addresses, Replication: tt.seen, Rewriting: tt.rewriting}, tt.files)
			if got != tt.want {
				t.Errorf("lastKnownMaster = %+v, want %+v", got, tt.want)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// If power is lost while a node moves, a Sentinel may name the node's former address.
func TestAMasterIsKnownByTheAddressThatItHasJustLeft(t *testing.T) {
	const left = "127.0.0.1:9"
	m := redisMemory{Addresses: map[string]string{"redis-1": r1, "redis-2": r2}, Departed: map[string]string{left: "redis-2"}}
	files := map[string]sentinelFile{"sentinel-1": {Address: left, ConfigEpoch: 4}}
	if got, err := lastKnownMaster(m, files); err != nil || got.Master != "redis-2" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheAddressThatANodeLeavesIsWrittenDownUntilNoSentinelKnowsIt(t *testing.T) {
	s, _ := oneNode(t, "true")
	note := func(node, address string) map[string]string {
		if err := s.noteAddress(node, address); err != nil {
			t.Fatal(err)
		}
		k, err := s.dir.readState()
		if err != nil {
			t.Fatal(err)
		}
		return k.Redis.Departed
	}
	if left := note("redis-4", r1); len(left) > 0 {
		t.Errorf("a new node: %v", left)
	}
	if left := note("redis-4", r2); len(left) != 1 || left[r1] != "redis-4" {
		t.Errorf("it moves: %v", left)
	}
	if left := note("redis-4", r1); len(left) != 1 || left[r2] != "redis-4" {
		t.Errorf("it moves back: %v", left)
	}
	if left := note("redis-4", ""); len(left) != 2 {
		t.Errorf("it goes: %v", left)
	}
	a := healthySentinelsView()
	k := a.Known["sentinel-2"]
	k.Replicas[r2] = redis.KnownReplica{}
	if err := s.noteForgotten(a); err != nil || len(s.departed()) != 1 || s.persisted.Redis.Departed[r2] == "" {
		t.Errorf("one Sentinel knows one of them: %v, %v", s.persisted.Redis.Departed, err)
	}
	delete(k.Replicas, r2)
	delete(a.Known, "sentinel-3")
	if err := s.noteForgotten(a); err != nil || len(s.departed()) != 1 {
		t.Errorf("one Sentinel does not answer: %v, %v", s.persisted.Redis.Departed, err)
	}
}

func TestAMoveIsToldFromWhatIsNew(t *testing.T) {
	was := redisMemory{Watch: "shop", Addresses: map[string]string{"redis-1": r1, "redis-2": r2, "sentinel-1": r3}}
	tests := []struct {
		name, watch string
		wanted      map[string]string
		moved       string
		any         bool
	}{
		{name: "nothing", watch: "shop", wanted: was.Addresses},
		{name: "one more", watch: "shop", wanted: map[string]string{"redis-1": r1, "redis-2": r2, "redis-3": "127.0.0.1:1", "sentinel-1": r3}, any: true},
		{name: "one less", watch: "shop", wanted: map[string]string{"redis-1": r1, "sentinel-1": r3}, any: true},
		{name: "an exchange", watch: "shop", wanted: map[string]string{"redis-1": r2, "redis-2": r1, "sentinel-1": r3}, any: true, moved: "redis-1 would move"},
		{name: "a Sentinel moves", watch: "shop", wanted: map[string]string{"redis-1": r1, "redis-2": r2, "sentinel-1": "127.0.0.1:1"}, any: true, moved: "sentinel-1 would move"},
		{name: "another name", watch: "store", wanted: was.Addresses, any: true, moved: "called store"},
		{name: "no Sentinels", watch: "shop", wanted: map[string]string{"redis-1": r1, "redis-2": r2}, any: true, moved: "no Sentinels any more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := addressChanges(was, tt.watch, tt.wanted)
			if got.Any != tt.any || (got.Moved == "") != (tt.moved == "") || !strings.Contains(got.Moved, tt.moved) {
				t.Errorf("moves = %+v", got)
			}
		})
	}
	if got := addressChanges(redisMemory{Addresses: map[string]string{"redis-1": r1}}, "shop", was.Addresses); got.Moved != "the stack would get Sentinels" {
		t.Errorf("moves = %+v", got)
	}
	if got := addressChanges(redisMemory{}, "shop", was.Addresses); got.Moved != "" || !got.Any {
		t.Errorf("at the first boot: %+v", got)
	}
}

func TestASentinelsFileIsReadAsRedisWritesIt(t *testing.T) {
	// Redis 7.0.15 wrote this file after a failover.
	const written = `# State of sentinel-1 in the stack "shop"
sentinel myid 0c6e0e5f1e8d4b7c8b0f8bb3a7d7c4a1f2b3c4d5
sentinel monitor shop 127.0.0.1 29902 2
sentinel down-after-milliseconds shop 500

# Generated by CONFIG REWRITE
protected-mode yes
sentinel config-epoch shop 3
sentinel leader-epoch shop 4
sentinel known-replica shop 127.0.0.1 29901
sentinel known-sentinel shop 127.0.0.1 29905 1c6e0e5f1e8d4b7c8b0f8bb3a7d7c4a1f2b3c4d5
sentinel current-epoch 5
`
	got, err := parseSentinelFile(written)
	if want := (sentinelFile{Address: "127.0.0.1:29902", ConfigEpoch: 3, LeaderEpoch: 4, CurrentEpoch: 5}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "port 1\n", "sentinel monitor shop\n", "sentinel monitor shop 127.0.0.1 1 2\nsentinel config-epoch shop x\n"} {
		if f, err := parseSentinelFile(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, f)
		}
	}
}

func TestWithoutAnyMemoryOnlyANodeThatAloneHasDataIsTheMaster(t *testing.T) {
	withData := func(nodes ...string) *Supervisor {
		s := &Supervisor{dir: dirAt(t.TempDir()), persisted: persistedState{Booted: true}}
		s.hosts = hostsAt(s.dir.root)
		for _, n := range append(nodes, "sentinel-1") {
			file := s.dir.path(manifest(n))
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if isRedis(n) {
				if err := os.WriteFile(file, []byte("file x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.home(n).writeRecord(t.Context(), n, record{Address: n}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.findLastMaster(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := withData("redis-2"); s.persisted.Redis.Replication.Master != "redis-2" || s.masterUnknown != nil || !s.persisted.Redis.Rewriting {
		t.Errorf("%+v, %v", s.persisted.Redis, s.masterUnknown)
	}
	if s := withData("redis-1", "redis-2"); s.masterUnknown == nil || s.persisted.Redis.Replication.Master != "" {
		t.Errorf("%+v, %v", s.persisted.Redis, s.masterUnknown)
	}
}

// Contradicting files do not matter while a Sentinel runs, which knows better. If only Redis
// runs, new files would name a master by guessing.
func TestWithoutASentinelThatRunsContradictingFilesAreRefused(t *testing.T) {
	running := func(nodes ...string) error {
		s := &Supervisor{dir: dirAt(t.TempDir()), persisted: persistedState{Booted: true, Redis: redisMemory{Watch: "shop", Addresses: map[string]string{}}}}
		s.hosts = hostsAt(s.dir.root)
		s.cfg.Stack.Redis.Enabled = true
		s.plan.Name = "shop"
		s.masterUnknown = errors.New("two were named")
		for _, n := range nodes {
			s.orphans = append(s.orphans, orphan{node: n})
		}
		return s.checkMaster()
	}
	if err := running("redis-1", "sentinel-2"); err != nil {
		t.Errorf("with a Sentinel: %v", err)
	}
	if err := running("redis-1"); err == nil || !strings.Contains(err.Error(), "two were named. Take the stack down") {
		t.Errorf("with Redis alone: %v", err)
	}
	if err := running(); err == nil || strings.Contains(err.Error(), "Take the stack down") {
		t.Errorf("with nothing: %v", err)
	}
}
