package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/machine"
	"holdfast/internal/quote"
)

// This file carries out a staged restore: it is decided, and then the data of all redis nodes
// is replaced on their hosts.

// restoring is a restore on the hosts of a stack.
type restoring struct {
	dir
	hosts hosts
}

// restoring returns the restore of a state directory without a supervisor.
func (d dir) restoring() restoring { return restoring{d, hostsAt(d.root)} }

// at returns the host that has the data; empty: the stack has only one host.
func (x restoring) at(host string) home {
	if host == "" {
		return x.hosts.here
	}
	return x.hosts.at(host)
}

// all returns the hosts whose redis nodes have data. Several hosts may share one state
// directory.
func (x restoring) all() (all []home) {
	if !x.hosts.several {
		return []home{x.hosts.here}
	}
	return x.hosts.all()
}

// decide records that the data staged on a host becomes the stack's data, on a node of that
// host. On several hosts, the staged data has to have the ID.
//
// On several hosts its error may be a *RestoreCutError: the hosts may have agreed on the
// decision although this host does not know. Then the staged data stays, and the next
// supervisor, which knows the decision, goes on with it.
func (x restoring) decide(ctx context.Context, host, node, id string) (decidedRestore, error) {
	r := decidedRestore{Node: node, Host: host, Aside: beforeRestore + time.Now().UTC().Format("20060102-150405.000")}
	if err := x.noneDecided(); err != nil {
		return r, err
	}
	at := x.at(host)
	// A directory that is left after a loss of power was not decided for: there is no
	// restore.json.
	if err := at.Remove(ctx, decidedDir); err != nil {
		return r, err
	}
	switch err := at.Rename(ctx, restoreDir, decidedDir); {
	case errors.Is(err, fs.ErrNotExist):
		return r, errNoneStaged
	case err != nil:
		return r, err
	}
	err := at.readJSON(ctx, path.Join(decidedDir, "staged.json"), &r.Staged)
	if err == nil && (r.Manifest.Format == "" || r.ID != id || !at.has(ctx, path.Join(decidedDir, "data"))) {
		err = errNoneStaged
	}
	if err == nil {
		err = x.writeJSON(restoreFile, r)
		if err != nil && x.hosts.several {
			return r, &RestoreCutError{err}
		}
	}
	if err != nil {
		_ = at.Remove(ctx, decidedDir) // if that fails, the next staging removes it
	}
	return r, err
}

var errNoneStaged = refused("no backup is ready to be restored; 'holdfast restore FILE' makes one ready")

// place moves the data of all redis nodes aside, and the new data to its node. No redis node is
// running. After a loss of power at any step it may be called again: the decided data is moved
// last, so while it exists all data of nodes is old.
//
// On several hosts it skips hosts that are away, except the one with the data. No redis node is
// running there, and one that comes back starts as a replica, which replaces its data. After
// the end of ctx it moves nothing, because another supervisor may have begun to.
func (x restoring) place(ctx context.Context, r decidedRestore) error {
	at := x.at(r.Host)
	if r.Placed {
		// Its host may have come back with an empty disk, before another host had a copy.
		if empty, err := at.empty(ctx, r.Node); !x.hosts.several || err != nil || !empty {
			return err
		}
		return &dataGoneError{r, x.path(restoreFile), at.Path(decidedDir), at.Path(r.Aside)}
	}
	switch _, err := at.Stat(ctx, path.Join(decidedDir, "data")); {
	case errors.Is(err, fs.ErrNotExist):
		// Either power was lost between the move and its record, or somebody has removed the data.
		switch is, err := x.isRestoredData(ctx, r); {
		case err != nil:
			return err
		case !is:
			return &dataGoneError{r, x.path(restoreFile), at.Path(decidedDir), at.Path(r.Aside)}
		}
		return x.notePlaced(r)
	case err != nil:
		return err
	}
	for _, host := range x.all() {
		err := host.moveAside(ctx, r.Aside, everyNode)
		if errors.Is(err, machine.ErrUnreachable) && host.name != r.Host {
			continue
		}
		if err != nil {
			return cannotMove(ctx, fmt.Errorf("keep the old data: %w", err))
		}
	}
	if err := at.MakeDir(ctx, inHome(r.Node)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := at.Rename(ctx, path.Join(decidedDir, "data"), dataOf(r.Node)); err != nil {
		return cannotMove(ctx, fmt.Errorf("put the new data into its place: %w", err))
	}
	return x.notePlaced(r)
}

// dataOf returns the directory of a redis node's data.
func dataOf(node string) string { return inHome(node, "data") }

// moveAside moves the data of a host's redis nodes into a directory.
func (h home) moveAside(ctx context.Context, aside string, which func(node string) bool) error {
	names, err := h.Glob(ctx, dataOf("redis-*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		node := nodeOf(name)
		if !isRedis(node) || !which(node) {
			continue
		}
		empty, err := h.withoutFiles(ctx, name)
		if err != nil {
			return err
		}
		if empty { // a start makes such a directory
			if err := h.Remove(ctx, name); err != nil {
				return err
			}
			continue
		}
		if err := h.MakeDir(ctx, path.Join(aside, node)); err != nil {
			return err
		}
		if err := h.Rename(ctx, name, path.Join(aside, node, "data")); err != nil {
			return err
		}
	}
	return nil
}

// putBack undoes moveAside.
func (h home) putBack(ctx context.Context, aside string) error {
	names, err := h.Glob(ctx, path.Join(aside, "redis-*", "data"))
	for _, name := range names {
		node := nodeOf(name)
		err = errors.Join(err, h.MakeDir(ctx, inHome(node)), h.Remove(ctx, dataOf(node)))
		if err == nil {
			err = h.Rename(ctx, name, dataOf(node))
		}
		if err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return h.Remove(ctx, aside)
}

// noteMoving records, on several hosts, that data is moved from now on: if the restore is given
// up, the data has to be put back.
func (x restoring) noteMoving(r *decidedRestore) error {
	if !x.hosts.several || r.Moving {
		return nil
	}
	r.Moving = true
	return x.writeJSON(restoreFile, *r)
}

// notePlaced records that the node has the new data.
func (d dir) notePlaced(r decidedRestore) error {
	r.Placed = true
	return d.writeJSON(restoreFile, r)
}

// isRestoredData reports whether a node has the data that was decided for, unchanged.
func (x restoring) isRestoredData(ctx context.Context, r decidedRestore) (bool, error) {
	at := x.at(r.Host)
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	sum, err := at.Digest(ctx, at.Path(dataOf(r.Node), "appendonlydir", aofBase))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && strings.HasPrefix(r.Manifest.Dump.SHA256, sum), err
}

// dataGoneError is the error of a decided restore whose data cannot be found.
type dataGoneError struct {
	r                    decidedRestore
	file, decided, aside string
}

func (e *dataGoneError) Error() string {
	return fmt.Sprintf("the data of the backup %s is neither in %s nor that of %s; remove %s, and 'holdfast up' starts with the data that is there (what was moved away is in %s); then 'holdfast restore' again",
		quote.Shell(e.r.File), quote.Shell(e.decided), e.r.Node, quote.Shell(e.file), quote.Shell(e.aside))
}

// moveError is the error of data that a host cannot move, for example because a disk is mounted
// there.
type moveError struct{ error }

func (e *moveError) Unwrap() error { return e.error }

// cannotMove makes err a *moveError, unless the host was lost or this supervisor ends: then
// nobody knows whether the data could be moved.
func cannotMove(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, machine.ErrUnreachable) {
		return err
	}
	return &moveError{err}
}

// withoutFiles reports whether a directory contains no files. It looks two levels deep, because
// Redis makes only one level of directories.
func (h home) withoutFiles(ctx context.Context, name string) (bool, error) {
	for _, pattern := range []string{"*", "*/*"} {
		found, err := h.Glob(ctx, path.Join(name, pattern))
		if err != nil {
			return false, err
		}
		for _, file := range found {
			switch info, err := h.Stat(ctx, file); {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return false, err
			case info.Regular:
				return false, nil
			}
		}
	}
	return true, nil
}

// addAsideDirs adds the directories with the old data to done.
func (x restoring) addAsideDirs(ctx context.Context, r decidedRestore, done *Restored) {
	for _, host := range x.all() {
		switch {
		case !host.has(ctx, r.Aside):
		case r.Host == "":
			done.Aside = host.Path(r.Aside)
		default:
			if done.AsideAt == nil {
				done.AsideAt = map[string]string{}
			}
			done.AsideAt[host.name] = host.Path(r.Aside)
		}
	}
}

// end removes the decision after all of it was carried out, or was given up.
func (x restoring) end(ctx context.Context, r decidedRestore) error {
	if err := x.remove(restoreFile); err != nil {
		return err
	}
	if err := x.at(r.Host).Remove(ctx, decidedDir); err != nil && !errors.Is(err, machine.ErrUnreachable) {
		return err
	}
	return machine.SyncDir(x.root)
}

// resume carries out a decided restore, if there is one. The caller holds the lock of the state
// directory, and does not look after nodes yet. Redis nodes and Sentinels that run are ended.
//
// On several hosts, a host may have been lost by now. If data has not been moved yet, the restore
// is given up, because what runs on that host cannot be ended. If the host with the data is lost,
// the restore is also given up, and what was moved is put back. No write was acknowledged meanwhile
// (see untilCopied), so nothing is lost. The same happens if that host no longer has the data, or a
// host cannot move its data: its disk may be new, or mounted there. The hosts' decision cannot be
// undone by hand.
//
// copying is true, on several hosts, if the decision still stands because no other host has a copy
// of the new data yet: see finishRestore.
func (x restoring) resume(ctx context.Context, log *slog.Logger) (copying bool, err error) {
	var r decidedRestore
	if err := x.readJSON(restoreFile, &r); err != nil || r.Node == "" {
		return false, err
	}
	switch lost := "a host was lost in the middle of it"; {
	case x.hosts.isAbsent(r.Host) || r.Host != "" && !x.knows(r.Host):
		err = x.giveUp(ctx, r, log, lost)
	case !r.Moving && x.hosts.absent.any():
		err = x.giveUp(ctx, r, log, lost)
	default:
		err = x.carryThrough(ctx, &r, log)
		gone, cannot := new(dataGoneError), new(moveError)
		switch {
		case !x.hosts.several:
		case err == nil:
			copying = true
		case errors.As(err, &gone):
			err = x.giveUp(ctx, r, log, fmt.Sprintf("its data is not on host %s any more", r.Host))
		case errors.As(err, &cannot):
			err = x.giveUp(ctx, r, log, fmt.Sprintf("a host cannot move its data (%v)", cannot))
		}
	}
	if err != nil {
		return false, fmt.Errorf("a restore was decided, and cannot be carried out: %w", err)
	}
	return copying, nil
}

// knows reports whether the stack has a host with a name.
func (x restoring) knows(host string) bool { _, is := x.hosts.named[host]; return is }

// carryThrough carries out the steps of a restore. It updates r.
func (x restoring) carryThrough(ctx context.Context, r *decidedRestore, log *slog.Logger) error {
	if err := x.endRedis(ctx); err != nil {
		return err
	}
	if err := x.noteMoving(r); err != nil {
		return err
	}
	if err := x.place(ctx, *r); err != nil {
		return err
	}
	if err := x.noteMaster(ctx, r.Node, r.ID, true); err != nil {
		return err
	}
	if !x.hosts.several {
		if err := x.end(ctx, *r); err != nil {
			return err
		}
	}
	var done Restored
	x.addAsideDirs(ctx, *r, &done)
	log.Info("the data is restored from a backup", "file", r.File, "node", r.Node, "former", cmp.Or(done.Aside, r.Aside))
	return nil
}

// giveUp makes a stack of several hosts go on with its former data.
func (x restoring) giveUp(ctx context.Context, r decidedRestore, log *slog.Logger, why string) error {
	if r.Moving {
		if err := x.endRedis(ctx); err != nil { // an earlier supervisor may have begun to start them
			return err
		}
		if err := x.noteFormer(ctx, &r); err != nil {
			return err
		}
		if err := x.setAsideOthers(ctx, r); err != nil {
			return err
		}
		for _, host := range x.all() {
			if err := host.putBack(ctx, r.Aside); err != nil && !errors.Is(err, machine.ErrUnreachable) {
				return fmt.Errorf("put the data of before back: %w", err)
			}
		}
		// The host that was to have the data may come back with the new data, or with none. So it
		// must not have the master: the node with the newest of the former data becomes the master.
		with, err := x.hosts.redisWithData(ctx)
		if err != nil {
			return err
		}
		if r.Placed { // else no redis node has run, and all data is of before
			with = slices.DeleteFunc(with, func(w nodeData) bool { return !slices.Contains(r.Former, w.node) })
		}
		if len(with) == 0 {
			return fmt.Errorf("%s (host %s), and no host that is up has the data of before: the stack goes on when the others are back", why, r.Host)
		}
		if err := x.noteMaster(ctx, with[0].node, r.ID, false); err != nil {
			return err
		}
	}
	if err := x.end(ctx, r); err != nil {
		return err
	}
	log.Error("a restore was given up: the data is what it was before", "why", why, "file", r.File, "lost", x.hosts.absent.names())
	return nil
}

// noteFormer records, before data is put back, which redis nodes have data that was moved aside. It
// adds to what an earlier attempt recorded, which may have put some of it back.
func (x restoring) noteFormer(ctx context.Context, r *decidedRestore) error {
	for _, host := range x.all() {
		names, err := host.Glob(ctx, path.Join(r.Aside, "redis-*", "data"))
		if err != nil && !errors.Is(err, machine.ErrUnreachable) {
			return err
		}
		for _, name := range names {
			if !slices.Contains(r.Former, nodeOf(name)) {
				r.Former = append(r.Former, nodeOf(name))
			}
		}
	}
	return x.writeJSON(restoreFile, *r)
}

// notUsed is what the name of the directory ends with that gets data which is neither of before nor
// restored.
const notUsed = "-not-used"

// setAsideOthers moves the data of all redis nodes aside that have no data to be put back, once the
// new data was in its place. A host that was away when data was moved may have got a copy of the new
// data since, complete or not, and none of its nodes may be promoted with it.
func (x restoring) setAsideOthers(ctx context.Context, r decidedRestore) error {
	if !r.Placed {
		return nil
	}
	for _, host := range x.all() {
		err := host.moveAside(ctx, r.Aside+notUsed, func(node string) bool { return !slices.Contains(r.Former, node) })
		if err != nil && !errors.Is(err, machine.ErrUnreachable) {
			return fmt.Errorf("set the copies of restored data aside: %w", err)
		}
	}
	return nil
}

// noteMaster records that a node is the master, with a new epoch, and whether the restore with that
// ID was carried out. id is empty if the stack has only one host.
func (x restoring) noteMaster(ctx context.Context, node, id string, carriedOut bool) error {
	k, err := x.readState()
	if err != nil {
		return err
	}
	files, err := x.hosts.sentinelFiles(ctx)
	if err != nil {
		return err
	}
	k.markRestored(node, files)
	switch {
	case id == "":
	case carriedOut:
		k.Restored = id
	case k.Restored == id:
		// An earlier supervisor has recorded that it was, before the host with the data was lost. A
		// caller that waits for the restore would believe that.
		k.Restored = ""
	}
	return x.writeJSON(stateFile, k)
}

// endLimit is how long a redis node or Sentinel may take to end before it is killed.
const endLimit = 20 * time.Second

// endRedis ends the redis nodes and Sentinels that run, the Sentinels first, and records that
// they are to be started again.
func (x restoring) endRedis(ctx context.Context) error {
	all := x.hosts
	nodes, err := all.recorded(ctx)
	if err != nil {
		return err
	}
	slices.Reverse(nodes) // sentinel-… before redis-…
	for _, node := range nodes {
		if !isRedisOrSentinel(node) {
			continue
		}
		host := all.hostWithRecord(ctx, node)
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
			if err == nil { // otherwise it has just ended
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
