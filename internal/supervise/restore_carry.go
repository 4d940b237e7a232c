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

// How a restore is carried out that was staged: it is decided, and then the data of all redis
// nodes is exchanged, on the hosts that have them.

// restoring is a restore on the hosts of a stack.
type restoring struct {
	dir
	hosts hosts
}

// restoring is a restore in a state directory that no supervisor has.
func (d dir) restoring() restoring { return restoring{d, hostsAt(d.root)} }

// at is the host that has the data; empty: the stack has one host alone.
func (x restoring) at(host string) home {
	if host == "" {
		return x.hosts.here
	}
	return x.hosts.at(host)
}

// all are the hosts whose redis nodes have data. Several may share one state directory.
func (x restoring) all() (all []home) {
	if !x.hosts.several {
		return []home{x.hosts.here}
	}
	return x.hosts.all()
}

// decide writes down that what is staged on a host becomes the stack's data, that of a node
// there. Of several hosts it is what has the ID.
//
// Of several hosts its error may be a *RestoreCutError: the hosts may have agreed on the
// decision although this one does not know it. Then what is staged stays, and the next
// supervisor, which knows, goes on with it.
func (x restoring) decide(ctx context.Context, host, node, id string) (decidedRestore, error) {
	r := decidedRestore{Node: node, Host: host, Aside: beforeRestore + time.Now().UTC().Format("20060102-150405.000")}
	if err := x.noneDecided(); err != nil {
		return r, err
	}
	at := x.at(host)
	// One that a loss of power has left was not decided: it has no restore.json.
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
		_ = at.Remove(ctx, decidedDir) // the next one that is staged removes it
	}
	return r, err
}

var errNoneStaged = refused("no backup is ready to be restored; 'holdfast restore FILE' makes one ready")

// place moves the data of all redis nodes aside, and the new data to its node. No redis node
// runs. It may be called again after a loss of power at any step: the decided data is the last
// to be moved, so what is there while it exists is old.
//
// Of several hosts it goes without those that are away, but for the one with the data. No
// redis node runs there, and one that comes back starts as a replica, which replaces its data.
// It moves nothing once ctx has ended: another supervisor may have begun to.
func (x restoring) place(ctx context.Context, r decidedRestore) error {
	if r.Placed {
		return nil
	}
	at := x.at(r.Host)
	switch _, err := at.Stat(ctx, path.Join(decidedDir, "data")); {
	case errors.Is(err, fs.ErrNotExist):
		// Power was lost between its move and what is written of it, or somebody has
		// removed it.
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
		err := host.moveAside(ctx, r.Aside)
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

// dataOf is the directory of a redis node's data.
func dataOf(node string) string { return inHome(node, "data") }

// moveAside moves the data of the redis nodes of a host into a directory.
func (h home) moveAside(ctx context.Context, aside string) error {
	names, err := h.Glob(ctx, dataOf("redis-*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		node := nodeOf(name)
		if !isRedis(node) {
			continue
		}
		empty, err := h.withoutFiles(ctx, name)
		if err != nil {
			return err
		}
		if empty { // as a start makes it
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

// putBack puts the data back that moveAside has moved.
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

// noteMoving writes down, of several hosts, that data is moved from now on: whoever gives the
// restore up has to put it back.
func (x restoring) noteMoving(r *decidedRestore) error {
	if !x.hosts.several || r.Moving {
		return nil
	}
	r.Moving = true
	return x.writeJSON(restoreFile, *r)
}

// notePlaced writes down that the new data is its node's.
func (d dir) notePlaced(r decidedRestore) error {
	r.Placed = true
	return d.writeJSON(restoreFile, r)
}

// isRestoredData reports whether a node has the data that was decided for, as it was put
// there.
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

// dataGoneError is the error of a restore that was decided and whose data is nowhere.
type dataGoneError struct {
	r                    decidedRestore
	file, decided, aside string
}

func (e *dataGoneError) Error() string {
	return fmt.Sprintf("the data of the backup %s is neither in %s nor that of %s; remove %s, and 'holdfast up' starts with the data that is there (what was moved away is in %s); then 'holdfast restore' again",
		quote.Shell(e.r.File), quote.Shell(e.decided), e.r.Node, quote.Shell(e.file), quote.Shell(e.aside))
}

// moveError is the error of data that a host refuses to move, as for a disk that is mounted
// there.
type moveError struct{ error }

func (e *moveError) Unwrap() error { return e.error }

// cannotMove makes an error a *moveError, unless it comes from a host that was lost, or from
// this one's end: then nobody knows whether the data can be moved.
func cannotMove(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, machine.ErrUnreachable) {
		return err
	}
	return &moveError{err}
}

// withoutFiles reports whether a directory has nothing but directories in it. Redis makes one
// level of them.
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

// aside says where the old data is.
func (x restoring) aside(ctx context.Context, r decidedRestore, done *Restored) {
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

// end forgets the decision: all of it is carried out.
func (x restoring) end(ctx context.Context, r decidedRestore) error {
	if err := x.remove(restoreFile); err != nil {
		return err
	}
	if err := x.at(r.Host).Remove(ctx, decidedDir); err != nil && !errors.Is(err, machine.ErrUnreachable) {
		return err
	}
	return machine.SyncDir(x.root)
}

// resume carries a restore through that was decided, if there is one. The caller has the
// state directory, and looks after no node yet: redis nodes and Sentinels that run are ended.
//
// Of several hosts one may be lost by now. Where the data has not been moved yet, the restore
// is given up: what runs on that host cannot be ended. Where the host with the data is lost,
// it is given up, too, and what was moved is put back. Nothing has run meanwhile, so the data
// is what it was. The same goes for a host that is there and does not have the data any more,
// or cannot move it: its disk may be a new one, or mounted there, and the hosts' decision
// cannot be taken back by hand.
func (x restoring) resume(ctx context.Context, log *slog.Logger) error {
	var r decidedRestore
	if err := x.readJSON(restoreFile, &r); err != nil || r.Node == "" {
		return err
	}
	var err error
	switch lost := "a host was lost in the middle of it"; {
	case x.hosts.lacks(r.Host) || r.Host != "" && !x.knows(r.Host):
		err = x.giveUp(ctx, r, log, lost)
	case !r.Moving && x.hosts.absent.any():
		err = x.giveUp(ctx, r, log, lost)
	default:
		err = x.carryThrough(ctx, &r, log)
		gone, cannot := new(dataGoneError), new(moveError)
		switch {
		case !x.hosts.several:
		case errors.As(err, &gone):
			err = x.giveUp(ctx, r, log, fmt.Sprintf("its data is not on host %s any more", r.Host))
		case errors.As(err, &cannot):
			err = x.giveUp(ctx, r, log, fmt.Sprintf("a host cannot move its data (%v)", cannot))
		}
	}
	if err != nil {
		return fmt.Errorf("a restore was decided, and cannot be carried out: %w", err)
	}
	return nil
}

// knows reports whether the stack has a host of that name.
func (x restoring) knows(host string) bool { _, is := x.hosts.named[host]; return is }

// carryThrough notes in r how far it has come.
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
	if err := x.noteMaster(ctx, r.Node, r.ID); err != nil {
		return err
	}
	if err := x.end(ctx, *r); err != nil {
		return err
	}
	var done Restored
	x.aside(ctx, *r, &done)
	log.Info("the data is restored from a backup", "file", r.File, "node", r.Node, "former", cmp.Or(done.Aside, r.Aside))
	return nil
}

// giveUp has a stack of several hosts go on with the data that it had.
func (x restoring) giveUp(ctx context.Context, r decidedRestore, log *slog.Logger, why string) error {
	if r.Moving {
		if err := x.endRedis(ctx); err != nil { // a supervisor before may have begun to start them
			return err
		}
		for _, host := range x.all() {
			if err := host.putBack(ctx, r.Aside); err != nil && !errors.Is(err, machine.ErrUnreachable) {
				return fmt.Errorf("put the data of before back: %w", err)
			}
		}
		// The host that was to have the data has the master, perhaps with the new data, or
		// with none: the node with the newest is.
		with, err := x.hosts.redisWithData(ctx)
		if err != nil {
			return err
		}
		if len(with) == 0 {
			return fmt.Errorf("%s (host %s), and no other one has data", why, r.Host)
		}
		if err := x.noteMaster(ctx, with[0].node, ""); err != nil {
			return err
		}
		if err := x.notRestored(r.ID); err != nil {
			return err
		}
	}
	if err := x.end(ctx, r); err != nil {
		return err
	}
	log.Error("a restore was given up: the data is what it was before", "why", why, "file", r.File, "lost", x.hosts.absent.names())
	return nil
}

// noteMaster writes down that a node is the master, under an epoch of its own. id is that of
// the restore that has made it so; empty: none, or on one host alone.
func (x restoring) noteMaster(ctx context.Context, node, id string) error {
	k, err := x.readKept()
	if err != nil {
		return err
	}
	files, err := x.hosts.sentinelFiles(ctx)
	if err != nil {
		return err
	}
	k.restored(node, files)
	if id != "" {
		k.Restored = id
	}
	return x.writeJSON(keptFile, k)
}

// notRestored forgets that a restore was carried out. The supervisor before may have written
// that down before the host with the data was lost, and whoever waits for the restore would
// believe it.
func (x restoring) notRestored(id string) error {
	k, err := x.readKept()
	if err != nil || id == "" || k.Restored != id {
		return err
	}
	k.Restored = ""
	return x.writeJSON(keptFile, k)
}

// endLimit is how long a Redis node or Sentinel may take to end before it is killed.
const endLimit = 20 * time.Second

// endRedis ends the redis nodes and Sentinels that run, the Sentinels first, and notes
// that they are wanted up.
func (x restoring) endRedis(ctx context.Context) error {
	all := x.hosts
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
