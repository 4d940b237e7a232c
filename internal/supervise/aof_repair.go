package supervise

import (
	"context"
	"errors"
	"path"
	"strings"
	"time"
)

// A full disk can leave a redis node with an append-only file that it cannot load. Redis ends a
// replica that cannot write a command to its file ("Replica was unable to write command to
// disk"). If more writes follow the incomplete command, it is no truncated end of the file,
// which Redis would cut off by itself. Such a node ends at each start, and nobody would notice:
// the stack only has one replica less.

// damagedFrom is after how many deaths without calm in between the file is checked.
const damagedFrom = 3

// checkLimit is how long the check of a file may take.
const checkLimit = time.Minute

// setAOFAside renames the append-only file of a node that is about to follow a master, if the file
// is damaged. The node then gets a copy of all data from the master, so the master has to reply
// first. The renamed file replaces one that was set aside earlier.
func (n *node) setAOFAside(ctx context.Context, master string) {
	if n.died < damagedFrom {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	if !n.sup.isMaster(ctx, master) || !n.sup.aofDamaged(ctx, n.spec().Node) {
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

// The suffixes of an append-only file's directory that was set aside.
const (
	damagedData    = ".damaged"
	unreadableData = ".unreadable" // unreadable for the server that was to be started
)

// moveData renames the directory of a node's append-only file by adding an ending, and returns
// the new path. It replaces what was set aside earlier with the same ending.
func (n *node) moveData(ctx context.Context, ending string) (string, error) {
	host, file := n.home(), path.Dir(manifest(n.spec().Node))
	aside := file + ending
	return host.Path(aside), errors.Join(host.Remove(ctx, aside), host.Rename(ctx, file, aside))
}

// isMaster reports whether the node at an address replies that it is a master.
func (s *Supervisor) isMaster(ctx context.Context, address string) bool {
	for name, n := range s.allNodes() {
		if n.spec().Address == address && s.admin(name) != nil {
			standing, err := s.admin(name).Standing(ctx)
			return err == nil && standing.Master
		}
	}
	return false
}

// aofDamaged reports whether Redis' own tool, which comes with the server, finds a node's
// append-only file damaged. Without the tool it returns false.
func (s *Supervisor) aofDamaged(ctx context.Context, node string) bool {
	host, server := s.home(node), s.program(node, s.node(node).spec().Program)
	name := strings.Replace(path.Base(server), "-server", "-check-aof", 1)
	out, err := host.Run(ctx, path.Join(path.Dir(server), name), host.Path(manifest(node)))
	return err == nil && out.Code == 1
}
