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
//
// Of several hosts, the data lies on that of the node which gets it, and is staged there by
// the process of that host (StageDump). restore.json is one of the files that all hosts
// have. What is done to the files of a host goes through its machine.

// What is decided lies in another directory than what is staged: the next restore, or the
// end of the one that staged it, does not touch it.
const (
	restoreFile   = "restore.json"
	restoreDir    = "restore"
	decidedDir    = "restore-decided"
	droppedDir    = "restore-dropped" // on its way to be removed
	beforeRestore = "before-restore-"
)

// Staged is a backup that is ready to take the place of the stack's data.
type Staged struct {
	// ID tells what was staged at a host of several from every other one; empty: the stack
	// has one host alone.
	ID string `json:"id,omitempty"`
	// File is where it came from.
	File     string          `json:"file"`
	Manifest backup.Manifest `json:"manifest"`
}

// decidedRestore is what restoreFile has.
type decidedRestore struct {
	Staged
	// Node gets the data, and becomes the master. Host is its host; empty: the stack has one
	// host alone.
	Node string `json:"node"`
	Host string `json:"host,omitempty"`
	// Aside is the directory, in the state directory, for the data that was there.
	Aside string `json:"aside"`
	// Moving is true, of several hosts, when every redis node and Sentinel has ended: from
	// then on data is moved.
	Moving bool `json:"moving,omitempty"`
	// Placed is true when the data is that node's.
	Placed bool `json:"placed,omitempty"`
}

// Restored says how a restore went.
type Restored struct {
	Manifest backup.Manifest `json:"manifest"`
	Node     string          `json:"node"`
	// Aside is where the data lies that was there before; empty: there was none, or AsideAt
	// says where it lies on each of several hosts.
	Aside   string            `json:"aside,omitempty"`
	AsideAt map[string]string `json:"aside_at,omitempty"`
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

// noteStaged writes down beside staged data which server has loaded it, and is to run on it.
func (d dir) noteStaged(ctx context.Context, program string) error {
	is, known := hostsAt("").here.serverAt(ctx, plan.RedisServer, program)
	if !known {
		return nil
	}
	return os.WriteFile(filepath.Join(d.stagedData(), writtenBy), []byte(is.String()+"\n"), 0o600)
}

// StageDump makes the data of a backup ready on this host of several, which has the node that
// is to get it, and has Redis load it. The dump comes from the host where the backup was
// checked. Copies is how many redis nodes this host has, and server says which one they run (redis.server).
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
	// One byte more than there is room for: then the sum is another one.
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

// verifyStaged has Redis load what was staged, as it will: what arrived may be less than what
// was sent, and this machine's Redis may be an older one.
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

// roomToStage refuses a backup for which the machine has too little memory, or the disk too
// little room for so many copies of the data beside what is there.
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

// stagedData is the directory that becomes a redis node's data.
func (d dir) stagedData() string { return d.path(restoreDir, "data") }

// Names in a node's data directory, as Redis makes them itself.
const (
	aofBase = "appendonly.aof.1.base.rdb"
	aofIncr = "appendonly.aof.1.incr.aof"
)

// stage writes the data as Redis loads it, and syncs it.
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

// Unstage removes what StageRestore or StageDump made ready, unless it was decided for. The
// decision may come at the same moment: it finds all of it, or nothing.
func Unstage(stateDir string) {
	d := dirAt(stateDir)
	if os.Rename(d.path(restoreDir), d.path(droppedDir)) == nil {
		os.RemoveAll(d.path(droppedDir))
	}
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
	ctx, d := context.Background(), dirAt(c.StateDir)
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
	x := d.restoring()
	r, err := x.decide(ctx, "", nodeToRestore(k, c.Stack.Redis.Replicas), "")
	if err != nil {
		return Restored{}, err
	}
	if err := x.resume(ctx, c.Log); err != nil {
		return Restored{}, err
	}
	done := Restored{Manifest: r.Manifest, Node: r.Node}
	x.aside(ctx, r, &done)
	return done, nil
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
