package supervise

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"holdfast/internal/backup"
	"holdfast/internal/encrypt"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
)

// A restore puts the data of a backup into the place of what the stack has. It has
// three parts. First the backup is verified, and its data is made ready in a directory
// of its own, as Redis loads it (StageRestore): nothing of the stack is changed. Then it
// is decided, by one file on the disk (restore.json). From then on the new data is what
// the stack has: the steps that follow look before they act, and the process that opens the state
// directory next takes them up again (resumeRestore). The steps need every Redis node
// and every Sentinel of the stack to have ended.
//
// Redis loads its append-only file and no dump when the former is on. So the data is
// staged as an append-only file: its base may be a dump (Redis 7.0, redis.conf, "Append
// only mode"). One node gets it, and is named the master in the Sentinels' files; the
// data of all others is moved away, or one of them could be promoted with it. They get a
// copy from the master.

// What is decided lies in another directory than what is staged: the next restore, or the
// end of the one that staged it, does not touch it.
const (
	restoreFile   = "restore.json"
	restoreDir    = "restore"
	decidedDir    = "restore-decided"
	beforeRestore = "before-restore-"
)

// Staged is a backup that is ready to take the place of the stack's data.
type Staged struct {
	// File is where it came from.
	File     string          `json:"file"`
	Manifest backup.Manifest `json:"manifest"`
}

// decidedRestore is what restoreFile has.
type decidedRestore struct {
	Staged
	// Node gets the data, and becomes the master.
	Node string `json:"node"`
	// Aside is the directory, in the state directory, for the data that was there.
	Aside string `json:"aside"`
	// Placed is true when the data is that node's.
	Placed bool `json:"placed,omitempty"`
}

// Restored says how a restore went.
type Restored struct {
	Manifest backup.Manifest `json:"manifest"`
	Node     string          `json:"node"`
	// Aside is where the data lies that was there before; empty: there was none.
	Aside string `json:"aside,omitempty"`
	// Stopped is how long it took from the stop of Redis until every node was up
	// again, in milliseconds; 0: none ran. No request waited for longer.
	Stopped int64 `json:"stopped_ms,omitempty"`
}

// RestoreConfig says what to restore.
type RestoreConfig struct {
	BackupConfig
	// File is the backup, and Path its name.
	File *os.File
	Path string
	Key  encrypt.Key
}

// LockRestore keeps backups and other restores of the stack out until unlock.
func (c RestoreConfig) LockRestore(ctx context.Context) (unlock func(), err error) {
	d := dirAt(c.StateDir)
	if err := d.open(); err != nil {
		return nil, err
	}
	return d.lockBackup(ctx)
}

// StageRestore verifies a backup, by loading it too, and makes its data ready. What is
// wrong with it is found here, before anything is changed. The caller has the lock
// (LockRestore).
func StageRestore(ctx context.Context, c RestoreConfig) (Staged, error) {
	d := dirAt(c.StateDir)
	if err := d.noneDecided(); err != nil {
		return Staged{}, err
	}
	if _, err := c.File.Seek(0, io.SeekStart); err != nil {
		return Staged{}, err
	}
	m, err := backup.ReadManifest(c.File)
	if err != nil {
		return Staged{}, err
	}
	if free, known := machine.FreeMemory(); known && free < m.Memory+spareMemory {
		return Staged{}, refused("the data takes %d MiB of memory, and the machine has %d free, which it takes to verify the backup first: make room, or take the stack down", m.Memory>>20, free>>20)
	}
	need := uint64(m.Dump.Bytes)*uint64(2+c.Stack.Redis.Replicas) + minFree
	if free, err := d.freeDisk(); err != nil {
		return Staged{}, err
	} else if free < need {
		return Staged{}, refused("the disk of %s has %d MiB free, and %d are needed for the new data beside the old: make room", d, free>>20, need>>20)
	}
	program, err := RedisServer()
	if err != nil {
		return Staged{}, err
	}
	m, depth, err := backup.Verify(ctx, c.File, c.Key, program, nil)
	if err != nil {
		return Staged{}, err
	}
	s := Staged{File: c.Path, Manifest: m}
	dump, err := backup.Dump(c.File, c.Key)
	if err != nil {
		return Staged{}, err
	}
	if depth != backup.Loaded {
		return Staged{}, fmt.Errorf("the backup was verified no deeper than its %s", depth)
	}
	return s, d.stage(dump, s)
}

// noneDecided reports that a restore was decided, and is not carried out yet: its data
// must not be touched.
func (d dir) noneDecided() error {
	_, err := os.Stat(d.path(restoreFile))
	switch {
	case err == nil:
		return refused("a restore was decided and is not carried out yet; see 'holdfast status', and 'holdfast up' carries it out where no supervisor runs")
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for a restore that was decided: %w", err)
	}
	return nil
}

func (d dir) freeDisk() (uint64, error) {
	return machine.FreeDisk(d.root)
}

// stagedData is the directory that becomes a redis node's data, and decidedData the same
// once that is decided.
func (d dir) stagedData() string  { return d.path(restoreDir, "data") }
func (d dir) decidedData() string { return d.path(decidedDir, "data") }

// Names in a node's data directory, as Redis makes them itself.
const (
	aofBase = "appendonly.aof.1.base.rdb"
	aofIncr = "appendonly.aof.1.incr.aof"
)

// stage writes the data as Redis loads it, and syncs it.
func (d dir) stage(dump io.Reader, s Staged) (err error) {
	for _, left := range []string{restoreDir, decidedDir} { // see decideRestore
		if err := os.RemoveAll(d.path(left)); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			os.RemoveAll(d.path(restoreDir))
			err = explainDisk(fmt.Errorf("make the data ready: %w", err), d.root)
		}
	}()
	aof := filepath.Join(d.stagedData(), "appendonlydir")
	if err := os.MkdirAll(aof, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(aof, aofBase), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.ReadFrom(dump)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	name := func(file string) string {
		return filepath.Join(restoreDir, "data", "appendonlydir", file)
	}
	manifest := "file " + aofBase + " seq 1 type b\nfile " + aofIncr + " seq 1 type i\n"
	if err := errors.Join(
		d.writeFile(name(aofIncr), 0o600, nil),
		d.writeFile(name("appendonly.aof.manifest"), 0o600, []byte(manifest)),
		machine.SyncDir(d.stagedData()),
		d.writeJSON(filepath.Join(restoreDir, "staged.json"), s),
	); err != nil {
		return err
	}
	return machine.SyncDir(d.root)
}

// Unstage removes what StageRestore made ready, unless it was decided for.
func Unstage(stateDir string) { os.RemoveAll(dirAt(stateDir).path(restoreDir)) }

// decideRestore writes down that what is staged becomes the stack's data, that of a node.
func (d dir) decideRestore(node string) (decidedRestore, error) {
	r := decidedRestore{Node: node, Aside: beforeRestore + time.Now().UTC().Format("20060102-150405.000")}
	if err := d.noneDecided(); err != nil {
		return r, err
	}
	if err := d.readJSON(filepath.Join(restoreDir, "staged.json"), &r.Staged); err != nil {
		return r, err
	}
	if _, err := os.Stat(d.stagedData()); err != nil || r.Manifest.Format == "" {
		return r, refused("no backup is ready to be restored; 'holdfast restore FILE' makes one ready")
	}
	// One that a loss of power has left was not decided: it has no restore.json.
	if err := os.RemoveAll(d.path(decidedDir)); err != nil {
		return r, err
	}
	if err := os.Rename(d.path(restoreDir), d.path(decidedDir)); err != nil {
		return r, err
	}
	if err := machine.SyncDir(d.root); err != nil {
		return r, err
	}
	return r, d.writeJSON(restoreFile, r)
}

// placeRestored moves the data of all redis nodes aside, and the new data to its node.
// No redis node runs. It may be called again after a loss of power at any step: the
// decided data is the last to be moved, so what is there while it exists is old.
func (d dir) placeRestored(r decidedRestore) error {
	if r.Placed {
		return nil
	}
	if _, err := os.Stat(d.decidedData()); errors.Is(err, fs.ErrNotExist) {
		// Power was lost between its move and what is written of it, or somebody has
		// removed it.
		if err := d.isRestoredData(r); err != nil {
			return err
		}
		return d.notePlaced(r)
	} else if err != nil {
		return err
	}
	paths, _ := filepath.Glob(d.path("nodes", "redis-*", "data"))
	for _, path := range paths {
		node := filepath.Base(filepath.Dir(path))
		if !isRedis(node) {
			continue
		}
		empty, err := withoutFiles(path)
		if err != nil {
			return err
		}
		if empty { // as a start makes it
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(d.path(r.Aside, node), 0o700); err != nil {
			return err
		}
		if err := os.Rename(path, d.path(r.Aside, node, "data")); err != nil {
			return fmt.Errorf("keep the old data: %w", err)
		}
		if err := errors.Join(machine.SyncDir(d.path(r.Aside, node)), machine.SyncDir(d.path(r.Aside)), machine.SyncDir(filepath.Dir(path))); err != nil {
			return err
		}
	}
	home := d.path("nodes", r.Node)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	if err := backup.Replace(d.decidedData(), filepath.Join(home, "data")); err != nil {
		return fmt.Errorf("put the new data into its place: %w", err)
	}
	if err := errors.Join(machine.SyncDir(d.path("nodes")), machine.SyncDir(d.root)); err != nil {
		return err
	}
	return d.notePlaced(r)
}

// notePlaced writes down that the new data is its node's.
func (d dir) notePlaced(r decidedRestore) error {
	r.Placed = true
	return d.writeJSON(restoreFile, r)
}

// isRestoredData returns an error unless a node has the data that was decided for, as it
// was put there.
func (d dir) isRestoredData(r decidedRestore) error {
	gone := fmt.Errorf("the data of the backup %s is neither in %s nor that of %s; remove %s, and 'holdfast up' starts with the data that is there (what was moved away is in %s); then 'holdfast restore' again",
		quote.Shell(r.File), quote.Shell(d.path(decidedDir)), r.Node, quote.Shell(d.path(restoreFile)), quote.Shell(d.path(r.Aside)))
	f, err := os.Open(d.path("nodes", r.Node, "data", "appendonlydir", aofBase))
	if errors.Is(err, fs.ErrNotExist) {
		return gone
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != r.Manifest.Dump.SHA256 {
		return gone
	}
	return nil
}

// withoutFiles reports whether a directory has nothing but directories in it.
func withoutFiles(path string) (bool, error) {
	empty := true
	err := filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			empty = false
			return fs.SkipAll
		}
		return err
	})
	return empty, err
}

// aside is the directory of the old data; empty: there was none.
func (d dir) aside(r decidedRestore) string {
	if _, err := os.Stat(d.path(r.Aside)); err != nil {
		return ""
	}
	return d.path(r.Aside)
}

// endRestore forgets the decision: all of it is carried out.
func (d dir) endRestore() error {
	if err := os.Remove(d.path(restoreFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.RemoveAll(d.path(decidedDir)), machine.SyncDir(d.root))
}

// restored notes that a node with restored data is the master. Its epoch is
// higher than any that a Sentinel or a web node has heard of: for them it is as after a
// failover. The Sentinels' files are to be written anew.
func (k *kept) restored(node string, files map[string]sentinelFile) {
	r, _ := recall(k.Redis, files)
	for _, f := range files {
		r.CurrentEpoch = max(r.CurrentEpoch, f.CurrentEpoch)
	}
	epoch := max(r.ConfigEpoch, r.LeaderEpoch, r.CurrentEpoch) + 1
	k.Booted = true
	k.Redis.Rewriting = true
	k.Redis.Replication = plan.Replication{Master: node, ConfigEpoch: epoch, LeaderEpoch: epoch, CurrentEpoch: epoch}
}

// Restore carries out, in a state directory that no supervisor has and of which no node
// runs, what was staged. The next 'up' starts with the new data.
func Restore(c RestoreConfig) (Restored, error) {
	d := dirAt(c.StateDir)
	lock, err := d.lock()
	if err != nil {
		return Restored{}, err
	}
	defer lock.Close()
	if running, err := Running(c.StateDir); err != nil || running {
		return Restored{}, errors.Join(err, refused("nodes of the stack run, and no supervisor: 'holdfast up' adopts them, 'holdfast down' ends them; then restore"))
	}
	k, err := d.readKept()
	if err != nil {
		return Restored{}, err
	}
	r, err := d.decideRestore(nodeToRestore(k, c.Stack.Redis.Replicas))
	if err != nil {
		return Restored{}, err
	}
	if err := d.resumeRestore(c.Log); err != nil {
		return Restored{}, err
	}
	return Restored{Manifest: r.Manifest, Node: r.Node, Aside: d.aside(r)}, nil
}

// nodeToRestore is the redis node that gets the data: the master, if the stack still
// has it.
func nodeToRestore(k kept, replicas int) string {
	master := cmp.Or(k.Redis.Replication.Master, plan.FirstMaster)
	for i := range 1 + replicas {
		if master == "redis-"+strconv.Itoa(i+1) {
			return master
		}
	}
	return plan.FirstMaster
}

// resumeRestore carries a restore through that was decided, if there is one. The caller
// has the state directory, and looks after no node yet: redis nodes and Sentinels that
// run are ended.
func (d dir) resumeRestore(log *slog.Logger) error {
	var r decidedRestore
	if err := d.readJSON(restoreFile, &r); err != nil || r.Node == "" {
		return err
	}
	if err := d.endRedis(); err != nil {
		return fmt.Errorf("a restore was decided, and cannot be carried out: %w", err)
	}
	k, err := d.readKept()
	if err == nil {
		err = d.placeRestored(r)
	}
	if err == nil {
		var files map[string]sentinelFile
		if files, err = hostsAt(d.root).sentinelFiles(context.Background()); err == nil {
			k.restored(r.Node, files)
			err = d.writeJSON(keptFile, k)
		}
	}
	if err == nil {
		err = d.endRestore()
	}
	if err != nil {
		return fmt.Errorf("a restore was decided, and cannot be carried out: %w", err)
	}
	log.Info("the data is restored from a backup", "file", r.File, "node", r.Node, "former", d.aside(r))
	return nil
}

// endLimit is how long a Redis node or Sentinel may take to end before it is killed.
const endLimit = 20 * time.Second

// endRedis ends the redis nodes and Sentinels that run, the Sentinels first, and notes
// that they are wanted up.
func (d dir) endRedis() error {
	ctx, all := context.Background(), hostsAt(d.root)
	nodes, err := all.recorded(ctx)
	if err != nil {
		return err
	}
	slices.Reverse(nodes) // sentinel-… before redis-…
	for _, node := range nodes {
		if !ofRedis(node) {
			continue
		}
		host := all.with(ctx, node)
		r, err := host.readRecord(ctx, node)
		if err != nil {
			return err
		}
		ends := func(context.Context) bool {
			alive, err := host.Alive(ctx, r.Process)
			return err == nil && !alive
		}
		if !ends(nil) {
			proc, err := host.Adopt(ctx, r.Process)
			if err != nil && !errors.Is(err, machine.ErrGone) {
				return fmt.Errorf("end %s: %w", node, err)
			}
			if err == nil { // else it has just ended
				_ = proc.SignalGroup(syscall.SIGTERM)
				_ = proc.SignalGroup(syscall.SIGCONT)
				if !within(context.Background(), endLimit, 10*time.Millisecond, ends) {
					_ = proc.SignalGroup(syscall.SIGKILL)
				}
			}
			if !within(context.Background(), endLimit, 10*time.Millisecond, ends) {
				return fmt.Errorf("%s (pid %d) does not end", node, r.Process.PID)
			}
		}
		r.Want, r.State, r.Process = wantUp, "", machine.ID{}
		if err := host.writeRecord(ctx, node, r); err != nil {
			return err
		}
	}
	return nil
}
