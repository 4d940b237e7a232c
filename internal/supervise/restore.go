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
	"os"
	"path/filepath"
	"strconv"

	"holdfast/internal/backup"
	"holdfast/internal/encrypt"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// A restore replaces the data of the stack by the data of a backup. It has three parts. First
// the backup is verified, and its data is prepared in a directory of its own in the form that
// Redis loads (StageRestore); nothing of the stack is changed. Then the restore is decided by
// writing one file (restore.json). From then on, the stack's data is the new data: the steps
// that follow look before they act, and the next process that opens the state directory goes on
// with them (resume). The steps require that every redis node and every Sentinel of the stack
// has ended.
//
// If the append-only file is on, Redis loads it and no dump. So the data is staged as an
// append-only file, whose base may be a dump (Redis 7.0, redis.conf, "Append only mode"). One
// node gets it, and the Sentinels' files name it master. The data of all others is moved away,
// because otherwise one of them could be promoted with it. They copy the data from the master.
//
// On several hosts, the data is staged on the host of the node that gets it, by the process of
// that host (StageDump). restore.json is one of the files that all hosts have. The files of a
// host are changed through its machine.

// Decided data is in another directory than staged data, so that the next restore, or the end
// of the process that staged it, does not touch it.
const (
	restoreFile   = "restore.json"
	restoreDir    = "restore"
	decidedDir    = "restore-decided"
	droppedDir    = "restore-dropped" // about to be removed
	beforeRestore = "before-restore-"
)

// Staged is a backup whose data is ready to replace the stack's data.
type Staged struct {
	// ID identifies what was staged on a host of several; empty: the stack has only one host.
	ID string `json:"id,omitempty"`
	// File is the name of the backup.
	File     string          `json:"file"`
	Manifest backup.Manifest `json:"manifest"`
}

// decidedRestore is the content of restoreFile.
type decidedRestore struct {
	Staged
	// Node gets the data, and becomes the master. Host is its host; empty: the stack has only one
	// host.
	Node string `json:"node"`
	Host string `json:"host,omitempty"`
	// Aside is the directory, in the state directory, for the former data.
	Aside string `json:"aside"`
	// Moving is true, on several hosts, once every redis node and Sentinel has ended: from then on
	// data is moved.
	Moving bool `json:"moving,omitempty"`
	// Former has, of several hosts, the redis nodes whose data was moved aside and is put back,
	// once the restore is being given up. The data of all other nodes is not of before.
	Former []string `json:"former,omitempty"`
	// Placed is true once the node has the data.
	Placed bool `json:"placed,omitempty"`
}

// Restored is the outcome of a restore.
type Restored struct {
	Manifest backup.Manifest `json:"manifest"`
	Node     string          `json:"node"`
	// Aside is the directory with the former data; empty: there was none, or AsideAt has the
	// directory on each of several hosts.
	Aside   string            `json:"aside,omitempty"`
	AsideAt map[string]string `json:"aside_at,omitempty"`
	// Stopped is the time from the stop of Redis until every node was up again, in milliseconds;
	// 0: no node was running. No request waited longer.
	Stopped int64 `json:"stopped_ms,omitempty"`
}

// RestoreConfig is what to restore.
type RestoreConfig struct {
	BackupConfig
	// File is the backup, and Path its name.
	File *os.File
	Path string
	Key  encrypt.Key
}

// LockRestore keeps backups and other restores of the stack out until unlock is called.
func (c RestoreConfig) LockRestore(ctx context.Context) (unlock func(), err error) {
	d := dirAt(c.StateDir)
	if err := d.open(); err != nil {
		return nil, err
	}
	return d.lockBackup(ctx)
}

// StageRestore verifies a backup, also by loading it, and prepares its data. It finds whatever
// is wrong with the backup before anything is changed. The caller holds the lock of
// LockRestore.
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
	if err := d.roomToStage(m, 1+c.Stack.Redis.Replicas); err != nil {
		return Staged{}, err
	}

	program, err := RedisServer(c.Stack.Redis, c.StateDir)
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
	return s, errors.Join(d.stage(dump, s), d.noteStaged(ctx, program))
}

// noteStaged records beside staged data which server has loaded it, and is to run on it.
func (d dir) noteStaged(ctx context.Context, program string) error {
	is, known := hostsAt("").here.serverAt(ctx, plan.RedisServer, program)
	if !known {
		return nil
	}
	return os.WriteFile(filepath.Join(d.stagedData(), writtenBy), []byte(is.String()+"\n"), 0o600)
}

// StageDump prepares the data of a backup on this host of several, which has the node that is
// to get it, and makes Redis load it. The dump comes from the host where the backup was
// verified. copies is how many redis nodes this host has, and server is which server they run
// (redis.server).
func StageDump(ctx context.Context, stateDir, server string, s Staged, copies int, dump io.Reader) error {
	d := dirAt(stateDir)
	if err := d.noneDecided(); err != nil {
		return err
	}
	if s.ID == "" || s.Manifest.Format == "" {
		return errors.New("the data has no manifest")
	}
	if err := d.roomToStage(s.Manifest, copies); err != nil {
		return err
	}
	program, err := RedisServer(stack.Redis{Server: server}, stateDir)
	if err != nil {
		return err
	}
	// One byte more than the manifest says is enough for the sum to differ.
	dump = io.LimitReader(dump, s.Manifest.Dump.Bytes+1)
	sum := sha256.New()
	if err := d.stage(io.TeeReader(dump, sum), s); err != nil {
		return err
	}
	err = errors.Join(d.verifyStaged(ctx, s, hex.EncodeToString(sum.Sum(nil)), program), d.noteStaged(ctx, program))
	if err != nil {
		Unstage(stateDir)
	}
	return err
}

// verifyStaged makes Redis load the staged data. What has arrived may be less than what was
// sent, and this machine may have an older Redis.
func (d dir) verifyStaged(ctx context.Context, s Staged, sum, program string) error {
	base, err := os.Open(filepath.Join(d.stagedData(), "appendonlydir", aofBase))
	if err != nil {
		return err
	}
	defer base.Close()
	if sum != s.Manifest.Dump.SHA256 {
		return errors.New("the data that has arrived is not what the manifest says: it was cut off on its way")
	}
	return backup.VerifyDump(ctx, s.Manifest, base, program)
}

// roomToStage returns an error if the machine has too little free memory for a backup, or the
// disk too little room for so many copies of its data beside the existing data.
func (d dir) roomToStage(m backup.Manifest, copies int) error {
	if free, known := machine.FreeMemory(); known && free < m.Memory+spareMemory {
		return refused("the data takes %d MiB of memory, and the machine has %d free, which it takes to verify the backup first: make room, or take the stack down", m.Memory>>20, free>>20)
	}
	need := uint64(m.Dump.Bytes)*uint64(1+copies) + minFree
	free, err := d.freeDisk()
	if err == nil && free < need {
		err = refused("the disk of %s has %d MiB free, and %d are needed for the new data beside the old: make room", d, free>>20, need>>20)
	}
	return err
}

// noneDecided returns an error if a restore is decided and not carried out yet: its data must
// not be touched.
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

// stagedData returns the directory that will become a redis node's data.
func (d dir) stagedData() string { return d.path(restoreDir, "data") }

// These are names in a node's data directory, as Redis itself would choose them.
const (
	aofBase = "appendonly.aof.1.base.rdb"
	aofIncr = "appendonly.aof.1.incr.aof"
)

// stage writes the data in the form that Redis loads, and syncs it.
func (d dir) stage(dump io.Reader, s Staged) (err error) {
	for _, left := range []string{restoreDir, decidedDir, droppedDir} { // see decide
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

// Unstage removes what StageRestore or StageDump has prepared, unless a restore of it is
// decided. A decision at the same moment finds all of it, or nothing.
func Unstage(stateDir string) {
	d := dirAt(stateDir)
	if os.Rename(d.path(restoreDir), d.path(droppedDir)) == nil {
		os.RemoveAll(d.path(droppedDir))
	}
}

// markRestored makes a node with restored data the master. Its epoch is higher than any epoch
// that a Sentinel or web node may know, so for them this is like a failover. The Sentinels' files
// have to be rewritten.
func (k *persistedState) markRestored(node string, files map[string]sentinelFile) {
	r, _ := lastKnownMaster(k.Redis, files)
	for _, f := range files {
		r.CurrentEpoch = max(r.CurrentEpoch, f.CurrentEpoch)
	}
	epoch := max(r.ConfigEpoch, r.LeaderEpoch, r.CurrentEpoch) + 1
	k.Booted = true
	k.Redis.Rewriting = true
	k.Redis.Replication = plan.Replication{Master: node, ConfigEpoch: epoch, LeaderEpoch: epoch, CurrentEpoch: epoch}
}

// Restore carries out a staged restore in a state directory without a supervisor, while no node
// is running. The next 'up' starts with the new data.
func Restore(c RestoreConfig) (Restored, error) {
	ctx, d := context.Background(), dirAt(c.StateDir)
	lock, err := d.lock()
	if err != nil {
		return Restored{}, err
	}
	defer lock.Close()
	if running, err := Running(c.StateDir); err != nil || running {
		return Restored{}, errors.Join(err, refused("nodes of the stack run, and no supervisor: 'holdfast up' adopts them, 'holdfast down' ends them; then restore"))
	}
	k, err := d.readState()
	if err != nil {
		return Restored{}, err
	}
	x := d.restoring()
	r, err := x.decide(ctx, "", nodeToRestore(k, c.Stack.Redis.Replicas), "")
	if err != nil {
		return Restored{}, err
	}
	if _, err := x.resume(ctx, c.Log); err != nil {
		return Restored{}, err
	}
	done := Restored{Manifest: r.Manifest, Node: r.Node}
	x.addAsideDirs(ctx, r, &done)
	return done, nil
}

// nodeToRestore returns the redis node that gets the data: the master, or the first one if the
// stack does not have the master any more.
func nodeToRestore(k persistedState, replicas int) string {
	master := cmp.Or(k.Redis.Replication.Master, plan.FirstMaster)
	for i := range 1 + replicas {
		if master == "redis-"+strconv.Itoa(i+1) {
			return master
		}
	}
	return plan.FirstMaster
}
