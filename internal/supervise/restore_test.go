package supervise

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/backup"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// withData makes the directory of a redis node as a stop leaves it.
func (d dir) withData(t *testing.T, node, content string) {
	t.Helper()
	aof := filepath.Dir(d.path(manifest(node)))
	if err := os.MkdirAll(aof, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"appendonly.aof.manifest": "file " + aofIncr + " seq 1 type i\n", aofIncr: content} {
		if err := os.WriteFile(filepath.Join(aof, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// stackToRestore returns a state directory with data, Sentinels' files and a staged backup.
func stackToRestore(t *testing.T) dir {
	t.Helper()
	d := dirAt(t.TempDir())
	for node, content := range map[string]string{"redis-1": "old 1", "redis-2": "old 2"} {
		d.withData(t, node, content)
	}
	if err := os.MkdirAll(d.path("nodes", "redis-3", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(d.path("nodes", "sentinel-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		d.writeFile("nodes/sentinel-1/sentinel.conf", 0o600, []byte("sentinel monitor s 127.0.0.1 7002 2\nsentinel config-epoch s 6\nsentinel leader-epoch s 7\nsentinel current-epoch 8\n")),
		hostsAt(d.root).here.writeRecord(t.Context(), "redis-2", record{Want: wantDown}),
		d.writeJSON(stateFile, persistedState{Booted: true, Redis: redisMemory{
			Watch: "s", Addresses: map[string]string{"redis-1": "127.0.0.1:7001", "redis-2": "127.0.0.1:7002", "sentinel-1": "127.0.0.1:7003"},
			Replication: plan.Replication{Master: "redis-2", ConfigEpoch: 6, CurrentEpoch: 6},
		}}),
		d.stageText("new"),
	); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d dir) stageText(text string) error {
	aof := filepath.Join(d.stagedData(), "appendonlydir")
	if err := os.MkdirAll(aof, 0o700); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(aof, "appendonly.aof.manifest"), []byte("file "+aofBase+" seq 1 type b\n"), 0o600),
		os.WriteFile(filepath.Join(aof, aofBase), []byte(text), 0o600),
		d.writeJSON(filepath.Join(restoreDir, "staged.json"), Staged{File: "/x.tar", Manifest: backup.Manifest{Format: backup.Format, Dump: backup.Contents{SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text)))}}}),
	)
}

// isRestored fails the test unless a node has only the new data, and the old data is kept.
func (d dir) isRestored(t *testing.T, node string) {
	t.Helper()
	b, err := os.ReadFile(d.path("nodes", node, "data", "appendonlydir", aofBase))
	if err != nil || string(b) != "new" {
		t.Errorf("%s has %q, %v", node, b, err)
	}
	for _, other := range []string{"redis-1", "redis-2", "redis-3"} {
		if other != node && !isEmpty(t, d, other) {
			t.Errorf("%s has old data", other)
		}
	}
	for old, want := range map[string]string{"redis-1": "old 1", "redis-2": "old 2"} {
		paths, _ := filepath.Glob(d.path(beforeRestore+"*", old, "data", "appendonlydir", aofIncr))
		if len(paths) != 1 {
			t.Errorf("the old data of %s is at %v", old, paths)
			continue
		}
		if b, _ := os.ReadFile(paths[0]); string(b) != want {
			t.Errorf("the old data of %s is %q", old, b)
		}
	}
	k, err := d.readState()
	r := k.Redis.Replication
	if err != nil || !k.Booted || !k.Redis.Rewriting || r.Master != node || r.ConfigEpoch <= 8 || r.CurrentEpoch < r.ConfigEpoch {
		t.Errorf("stack.json has %+v, %v", k, err)
	}
	if r, err := hostsAt(d.root).here.readRecord(t.Context(), "redis-2"); err != nil || r.Want != wantUp {
		t.Errorf("redis-2 is wanted %q, %v", r.Want, err)
	}
	for _, name := range []string{restoreFile, restoreDir, decidedDir} {
		if _, err := os.Stat(d.path(name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

func TestARestoreThatWasDecidedIsCarriedThroughFromEveryStep(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	// Each function leaves the directory as a loss of power in the middle does.
	move := func(d dir, r decidedRestore, node string) error {
		return errors.Join(os.MkdirAll(d.path(r.Aside, node), 0o700), os.Rename(d.path("nodes", node, "data"), d.path(r.Aside, node, "data")))
	}
	for name, power := range map[string]func(d dir, r decidedRestore) error{
		"decided":                      func(dir, decidedRestore) error { return nil },
		"the old data of one is moved": func(d dir, r decidedRestore) error { return move(d, r, "redis-1") },
		"a directory for it is made":   func(d dir, r decidedRestore) error { return os.MkdirAll(d.path(r.Aside, "redis-1"), 0o700) },
		"the old data of all is moved": func(d dir, r decidedRestore) error { return errors.Join(move(d, r, "redis-1"), move(d, r, "redis-2")) },
		"the new data is in its place": func(d dir, r decidedRestore) error { return d.restoring().place(t.Context(), r) },
		"the master is written down": func(d dir, r decidedRestore) error {
			k, err := d.readState()
			files, filesErr := hostsAt(d.root).sentinelFiles(t.Context())
			if filesErr != nil {
				return filesErr
			}
			k.markRestored(r.Node, files)
			return errors.Join(err, d.restoring().place(t.Context(), r), d.writeJSON(stateFile, k))
		},
		"the directory of what was decided is gone": func(d dir, r decidedRestore) error {
			return errors.Join(d.restoring().place(t.Context(), r), os.RemoveAll(d.path(decidedDir)))
		},
		"it is not noted where the new data is": func(d dir, r decidedRestore) error {
			return errors.Join(d.restoring().place(t.Context(), r), d.writeJSON(restoreFile, r))
		},
		"another restore was made ready": func(d dir, _ decidedRestore) error {
			if _, err := StageRestore(t.Context(), RestoreConfig{BackupConfig: BackupConfig{StateDir: d.root}}); !errors.As(err, new(*RefusedError)) {
				return fmt.Errorf("a restore beside one that is decided: %v", err)
			}
			if _, err := d.restoring().decide(t.Context(), "", "redis-1", ""); !errors.As(err, new(*RefusedError)) {
				return fmt.Errorf("it is decided a second time: %v", err)
			}
			Unstage(d.root)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := stackToRestore(t)
			r, err := d.restoring().decide(t.Context(), "", "redis-2", "")
			if err != nil {
				t.Fatal(err)
			}
			if err := power(d, r); err != nil {
				t.Fatal(err)
			}
			if _, err := d.restoring().resume(t.Context(), log); err != nil {
				t.Fatal(err)
			}
			d.isRestored(t, "redis-2")
			if _, err := d.restoring().resume(t.Context(), log); err != nil {
				t.Fatal(err)
			}
			d.isRestored(t, "redis-2")
		})
	}
}

// Otherwise Redis would start without data, after everything was moved away.
func TestDataThatIsGoneIsNotTakenForRestored(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for name, spoil := range map[string]func(d dir, r decidedRestore) error{
		"nothing is there": func(d dir, _ decidedRestore) error { return os.RemoveAll(d.path("nodes", "redis-2", "data")) },
		"the former is":    func(dir, decidedRestore) error { return nil },
		"something else is": func(d dir, _ decidedRestore) error {
			return d.writeFile("nodes/redis-2/data/appendonlydir/"+aofBase, 0o600, []byte("other"))
		},
	} {
		d := stackToRestore(t)
		r, err := d.restoring().decide(t.Context(), "", "redis-2", "")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(d.path(decidedDir)), spoil(d, r)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := d.restoring().resume(t.Context(), log); err == nil || !strings.Contains(err.Error(), "/x.tar") || !strings.Contains(err.Error(), restoreFile) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestARestoreKeepsWhatRedisDoesNotLoad(t *testing.T) {
	t.Parallel()
	d := stackToRestore(t)
	if err := d.writeFile("nodes/redis-3/data/dump.rdb", 0o600, []byte("old 3")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.restoring().decide(t.Context(), "", "redis-2", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := d.restoring().resume(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	d.isRestored(t, "redis-2")
	paths, _ := filepath.Glob(d.path(beforeRestore+"*", "redis-3", "data", "dump.rdb"))
	if len(paths) != 1 {
		t.Errorf("the dump of redis-3 is at %v", paths)
	}
}

func TestARestoreThatWasNotDecidedChangesNothing(t *testing.T) {
	t.Parallel()
	d := stackToRestore(t)
	if _, err := d.restoring().resume(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	Unstage(d.root)
	if _, err := os.Stat(d.path(restoreDir)); err == nil {
		t.Error("what was staged is left")
	}
	for _, node := range []string{"redis-1", "redis-2"} {
		if isEmpty(t, d, node) {
			t.Errorf("%s has lost its data", node)
		}
	}
	if _, err := d.restoring().decide(t.Context(), "", "redis-1", ""); !errors.As(err, new(*RefusedError)) {
		t.Errorf("nothing is staged, and it is decided: %v", err)
	}
}

// endless sends zeros, and counts them.
type endless struct{ sent int64 }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.sent += int64(len(p))
	return len(p), nil
}

func TestMoreDataThanTheManifestSaysIsNotStaged(t *testing.T) {
	t.Parallel()
	const bytes = 1 << 20
	state := t.TempDir()
	var in endless
	s := Staged{ID: "one", Manifest: backup.Manifest{Format: backup.Format, Dump: backup.Contents{Bytes: bytes, SHA256: "00"}}}
	err := StageDump(t.Context(), state, "", s, 1, &in)
	if err == nil || !strings.Contains(err.Error(), "not what the manifest says") || in.sent > 2*bytes {
		t.Errorf("%d bytes were read: %v", in.sent, err)
	}
	if _, err := os.Stat(dirAt(state).path(restoreDir)); err == nil {
		t.Error("it is left")
	}
}

func TestTheMasterGetsTheRestoredDataWhereTheStackHasIt(t *testing.T) {
	t.Parallel()
	with := func(master string) persistedState {
		return persistedState{Redis: redisMemory{Replication: plan.Replication{Master: master}}}
	}
	for _, c := range []struct {
		k        persistedState
		replicas int
		want     string
	}{
		{persistedState{}, 2, "redis-1"}, {with("redis-3"), 2, "redis-3"}, {with("redis-3"), 1, "redis-1"}, {with("redis-2"), 0, "redis-1"},
	} {
		if got := nodeToRestore(c.k, c.replicas); got != c.want {
			t.Errorf("%v of %d: %s, want %s", c.k.Redis.Replication.Master, c.replicas, got, c.want)
		}
	}
}

func TestWhenTheNextBackupIsDue(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	every := stack.Backup{Every: time.Hour}
	last := func(ago time.Duration) *BackupRecord { return &BackupRecord{Begun: now.Add(-ago)} }
	failed := func(ago time.Duration) *BackupFailure { return &BackupFailure{At: now.Add(-ago)} }
	for name, c := range map[string]struct {
		known BackupState
		in    time.Duration
	}{
		"the first":            {BackupState{}, 0},
		"a while after one":    {BackupState{Last: last(20 * time.Minute)}, 40 * time.Minute},
		"one was missed":       {BackupState{Last: last(3 * time.Hour)}, -2 * time.Hour},
		"one has just failed":  {BackupState{Last: last(time.Hour), Failure: failed(time.Minute)}, 4 * time.Minute},
		"the first has failed": {BackupState{Failure: failed(time.Minute)}, 4 * time.Minute},
		"the clock was ahead":  {BackupState{Last: last(-24 * time.Hour)}, time.Hour},
	} {
		if got := nextBackup(every, c.known, now).Sub(now); got != c.in {
			t.Errorf("%s: in %v, want %v", name, got, c.in)
		}
	}
}

func TestCredentialsAreReadFromTheFileOfAWSTools(t *testing.T) {
	t.Parallel()
	access, secret, token, err := readCredentials([]byte("[other]\naws_access_key_id = no\n[default]\naws_access_key_id = A\nAWS_SECRET_ACCESS_KEY=B=\naws_session_token = C\n"))
	if access != "A" || secret != "B=" || token != "C" || err != nil {
		t.Errorf("%q %q %q %v", access, secret, token, err)
	}
	if _, _, _, err := readCredentials([]byte("aws_access_key_id = A\n")); err == nil {
		t.Error("half of it is taken")
	}
}
