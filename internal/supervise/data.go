package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What the files of redis nodes tell of their data while none of them runs.

// nodeData is the data of one redis node on disk.
type nodeData struct {
	node string
	// written is when a command was last written to its append-only file, or when
	// it last got a copy of all data. A node that missed a write has an older time
	// than one that has it: what a master sends only to be heard (PING) is not
	// written.
	written time.Time
}

// redisWithData returns the redis nodes that have data on disk, the one that was
// written to last first, also those that the stack file does not have any more.
func (d dir) redisWithData() []nodeData {
	var with []nodeData
	paths, _ := filepath.Glob(d.path("nodes", "redis-*"))
	for _, path := range paths {
		if node := filepath.Base(path); isRedis(node) && !d.empty(node) {
			with = append(with, nodeData{node, d.lastWrite(node)})
		}
	}
	slices.SortStableFunc(with, func(a, b nodeData) int { return b.written.Compare(a.written) })
	return with
}

// lastWrite returns when commands were last added to a redis node's append-only
// file. Its other files are written whenever Redis compacts it.
func (d dir) lastWrite(node string) (last time.Time) {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(d.manifest(node)), "*.incr.aof"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

// coldPatience is how long a redis node waits at a cold start for one with newer
// data. The Sentinels would otherwise replace a master that is slow to start by any
// replica, also by one that was stopped long ago. When the master does not come at
// all, the replica that was written to last goes first, and the others leave the
// Sentinels time to promote it.
const coldPatience = 4 * time.Second

// sameTime is how far apart two replicas that are in step with a master write the
// same command.
const sameTime = 20 * time.Millisecond

// beginCold notes which replicas have older data than another one. It is called when
// neither Redis nor a Sentinel runs.
func (s *Supervisor) beginCold() {
	s.newer = map[string]string{}
	var newest nodeData
	for _, with := range s.dir.redisWithData() {
		switch {
		case s.node(with.node) == nil || with.node == s.kept.Redis.Replication.Master:
		case newest.node == "":
			newest = with
		case newest.written.Sub(with.written) > sameTime:
			s.newer[with.node] = newest.node
		}
	}
	s.cold.Store(true)
}

// lastWritten is for a person who has to choose a node.
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

// redisRuns reports whether a redis node or a Sentinel has a process, as the
// records say, also one that the stack file does not have any more.
func (d dir) redisRuns() bool {
	return slices.ContainsFunc(d.recorded(), func(node string) bool {
		return (isRedis(node) || isSentinel(node)) && d.alive(node)
	})
}
