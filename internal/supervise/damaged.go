package supervise

import (
	"context"
	"errors"
	"path"
	"strings"
	"time"
)

// A disk that was full leaves a redis node with an append-only file that it
// cannot load: Redis ends a replica that cannot write a command down ("Replica
// was unable to write command to disk"), and what was cut off in the midst of the
// file, with other writes behind it, is no truncated end, which it would cut off
// by itself. Such a node ends at each start, and nobody would take note but by
// one replica less.

// damagedFrom is how many deaths without calm in between make the file
// suspect.
const damagedFrom = 3

// checkLimit bounds the check of a file.
const checkLimit = time.Minute

// setAside takes the append-only file of a node that is about to follow a master
// out of its way, when it is damaged and the master is there, which has all of
// it: the node gets a copy from there. What it had stays beside it, the last time
// that this happened.
func (n *node) setAside(ctx context.Context, master string) {
	if n.died < damagedFrom {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	if !n.sup.reigns(ctx, master) || !n.sup.damaged(ctx, n.spec().Node) {
		return
	}
	aside, err := n.moveData(ctx, damagedData)
	if err != nil {
		n.log.Error("the append-only file is damaged, and cannot be set aside", "error", err)
		return
	}
	n.died = 0
	n.log.Warn("the append-only file is damaged: it is set aside, and the data comes from the master", "kept", aside, "master", master)
}

// The ends of the names of an append-only file's directory that was set aside.
const (
	damagedData    = ".damaged"
	unreadableData = ".unreadable" // by the server that was to be started
)

// moveData gives the directory of a node's append-only file another name, in the place of
// what was set aside under it before, and returns the path.
func (n *node) moveData(ctx context.Context, ending string) (string, error) {
	host, file := n.home(), path.Dir(manifest(n.spec().Node))
	aside := file + ending
	return host.Path(aside), errors.Join(host.Remove(ctx, aside), host.Rename(ctx, file, aside))
}

// reigns says that the node at an address answers as a master.
func (s *Supervisor) reigns(ctx context.Context, address string) bool {
	for name, n := range s.allNodes() {
		if n.spec().Address == address && s.admin(name) != nil {
			standing, err := s.admin(name).Standing(ctx)
			return err == nil && standing.Master
		}
	}
	return false
}

// damaged asks Redis' own tool, which comes with the server, about a node's
// append-only file. Without the tool nothing is known to be.
func (s *Supervisor) damaged(ctx context.Context, node string) bool {
	host, server := s.home(node), s.program(node, s.node(node).spec().Program)
	name := strings.Replace(path.Base(server), "-server", "-check-aof", 1)
	out, err := host.Run(ctx, path.Join(path.Dir(server), name), host.Path(manifest(node)))
	return err == nil && out.Code == 1
}
