package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// What the files of redis nodes tell about their data while no node runs.

// nodeData describes the data of one redis node on disk.
type nodeData struct {
	node string
	// written is when a command was last written to the node's append-only file, or when the
	// node last got a copy of all data. A node that missed a write has an older time than one
	// that has it: the PINGs that a master sends to be heard are not written to the file.
	written time.Time
}

// redisWithData returns the redis nodes that have data on disk, the most recently written first.
// Nodes that are no longer in the stack file are among them.
func (h hosts) redisWithData(ctx context.Context) ([]nodeData, error) {
	var with []nodeData
	for _, host := range h.all() {
		names, err := host.Glob(ctx, inHome("redis-*"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			node := path.Base(name)
			seen := slices.ContainsFunc(with, func(w nodeData) bool { return w.node == node }) // hosts may share a state directory
			if !isRedis(node) || seen {
				continue
			}

			if empty, err := host.empty(ctx, node); empty || err != nil {
				if err != nil {
					return nil, err
				}
				continue
			}
			written, err := host.lastWrite(ctx, node)
			if err != nil {
				return nil, err
			}
			with = append(with, nodeData{node, written})
		}
	}

	slices.SortStableFunc(with, func(a, b nodeData) int { return b.written.Compare(a.written) })
	return with, nil
}

// empty reports whether a redis node has no data on disk that it would load. With the
// append-only file on, Redis 7 loads only what the manifest lists: no snapshot, and no files
// that no manifest names. What a node that awaits its first copy has is no data either.
func (h home) empty(ctx context.Context, node string) (bool, error) {
	if awaits, err := h.awaitsFirstCopy(ctx, node); awaits || err != nil {
		return awaits, err
	}
	info, err := h.Stat(ctx, manifest(node))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && info.Size == 0, err
}

// manifest returns the name of the manifest of a redis node's append-only file. The files that
// it lists are in the same directory.
func manifest(node string) string {
	return inHome(node, "data", "appendonlydir", "appendonly.aof.manifest")
}

// lastWrite returns when commands were last added to a redis node's append-only file. Only the
// incremental files tell: the others are written whenever Redis compacts the data.
func (h home) lastWrite(ctx context.Context, node string) (last time.Time, err error) {
	names, err := h.Glob(ctx, path.Join(path.Dir(manifest(node)), "*.incr.aof"))
	for _, name := range names {
		if info, err := h.Stat(ctx, name); err == nil && info.Modified.After(last) { // an error: Redis has just removed the file
			last = info.Modified
		}
	}
	return last, err
}

// coldPatience is how long a redis node waits at a cold start for a node with newer data.
// Otherwise the Sentinels would replace a master that is slow to start by any replica, even one
// that was stopped long ago. When the master does not come at all, the most recently written
// replica starts first, and the others leave the Sentinels time to promote it.
const coldPatience = 4 * time.Second

// sameTime is how far apart in time two replicas that are in step with a master write the same
// command.
const sameTime = 20 * time.Millisecond

// beginCold notes which replicas have older data than another one. It is called when neither a
// redis node nor a Sentinel runs.
func (s *Supervisor) beginCold() error {
	all, err := s.hosts.redisWithData(s.ctx)
	if err != nil {
		return err
	}

	s.newer = map[string]string{}
	var newest nodeData
	for _, with := range all {
		switch {
		case s.node(with.node) == nil || with.node == s.persisted.Redis.Replication.Master:
		case newest.node == "":
			newest = with
		case newest.written.Sub(with.written) > sameTime:
			s.newer[with.node] = newest.node
		}
	}

	s.cold.Store(true)
	return nil
}

// lastWritten returns the nodes and their times of writing, for a person who has to choose a
// node.
func lastWritten(with []nodeData) string {
	var words []string
	for _, w := range with {
		words = append(words, fmt.Sprintf("%s at %s", w.node, w.written.Format("2006-01-02 15:04:05.000")))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
