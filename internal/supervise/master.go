package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/plan"
)

// A Redis node is its name and its data, and not its address. Sentinels know
// addresses alone: where two nodes have exchanged their ports, the one with the
// old data would be named master. So the stack remembers which node had which
// address when the Sentinels last ran, and while none of them runs it writes
// their files anew in terms of today's addresses. The judgement is in recall and
// in moves, which are pure.

// redisMemory is what stack.json keeps of the Redis nodes and the Sentinels. No
// change of the stack file makes it forget: Redis may be off in one version of it
// and on again in the next.
type redisMemory struct {
	// Watch is the name by which the Sentinels know the master: the stack's.
	Watch string `json:"watch,omitempty"`
	// Addresses are those that the Sentinels' files speak of, by node, and those
	// of the Sentinels themselves.
	Addresses map[string]string `json:"addresses,omitempty"`
	// Departed are addresses at which the Sentinels may still know a node that has left
	// them, and its name, by address.
	Departed map[string]string `json:"departed,omitempty"`
	// Replication is who was the master when that was last seen or read.
	Replication plan.Replication `json:"replication"`
	// Rewriting is true while the Sentinels' files are written anew. Some of
	// them may then speak of Addresses and others of former ones.
	Rewriting bool `json:"rewriting,omitempty"`
}

// recall returns which node was the master last, by the Sentinels' files and by
// what the supervisor has seen itself. The highest epoch wins, for a majority of
// the Sentinels gave it: see facts.master. With an error no master is named, and
// the epochs are the highest of all.
func recall(m redisMemory, files map[string]sentinelFile) (plan.Replication, error) {
	best := m.Replication
	if m.Rewriting {
		return best, nil
	}
	address := m.Addresses[best.Master] // of the best
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		best.LeaderEpoch = max(best.LeaderEpoch, f.LeaderEpoch)
		best.CurrentEpoch = max(best.CurrentEpoch, f.CurrentEpoch)
		if f.ConfigEpoch > best.ConfigEpoch || f.ConfigEpoch == best.ConfigEpoch && address == "" {
			best.ConfigEpoch, address = f.ConfigEpoch, f.Address
		}
	}
	var err error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if f := files[name]; f.ConfigEpoch == best.ConfigEpoch && f.Address != address {
			err = fmt.Errorf("it is not known who was the Redis master: %s and %s were both named in epoch %d, the latter by %s",
				address, f.Address, f.ConfigEpoch, name)
		}
	}
	best.Master = cmp.Or(nodeAt(m.Addresses, address), m.Departed[address])
	if best.Master == "" && address != "" && err == nil {
		err = fmt.Errorf("the Sentinels name %s as the Redis master, where no node of this stack listened", address)
	}
	if err != nil {
		best.Master = ""
	}
	return best, err
}

// nodeAt returns the redis node that has an address; empty: none.
func nodeAt(addresses map[string]string, address string) string {
	for name, a := range addresses {
		if a == address && isRedis(name) {
			return name
		}
	}
	return ""
}

// isRedis and isSentinel report what a node is by its name: the records of nodes
// that the stack does not have any more tell nothing else. An application has no
// such name.
func isRedis(node string) bool    { return numbered(node, "redis-") }
func isSentinel(node string) bool { return numbered(node, "sentinel-") }

func numbered(node, prefix string) bool {
	number, found := strings.CutPrefix(node, prefix)
	_, err := strconv.Atoi(number)
	return found && err == nil
}

// redisAddresses are the addresses of the redis nodes and Sentinels of a plan.
func redisAddresses(processes []plan.Process) map[string]string {
	addresses := map[string]string{}
	for _, p := range processes {
		if member(p) {
			addresses[p.Node] = p.Address
		}
	}
	return addresses
}

// change says how a plan differs from what the Sentinels' files say.
type change struct {
	// Moved are nodes that have another address now, one sentence.
	Moved string
	// Any is true when the files have to be written anew.
	Any bool
}

// moves compares what the Sentinels know with what the plan wants.
func moves(m redisMemory, watch string, wanted map[string]string) change {
	c := change{Any: m.Rewriting || m.Watch != watch || !maps.Equal(m.Addresses, wanted)}
	for _, node := range slices.Sorted(maps.Keys(wanted)) {
		if was := m.Addresses[node]; was != "" && was != wanted[node] {
			c.Moved = fmt.Sprintf("%s would move from %s to %s", node, was, wanted[node])
			return c
		}
	}
	switch {
	case m.Watch != "" && m.Watch != watch:
		c.Moved = fmt.Sprintf("the stack would be called %s and no longer %s", watch, m.Watch)
	case len(m.Addresses) > 0 && hasSentinel(m.Addresses) && !hasSentinel(wanted):
		c.Moved = "the stack would have no Sentinels any more"
	case len(m.Addresses) > 0 && !hasSentinel(m.Addresses) && hasSentinel(wanted):
		c.Moved = "the stack would get Sentinels"
	}
	return c
}

func hasSentinel(addresses map[string]string) bool {
	for name := range addresses {
		if isSentinel(name) {
			return true
		}
	}
	return false
}

// recordedAddresses are the addresses at which the redis nodes and Sentinels were started
// last, as their records say: for a state directory without a redisMemory.
func (h hosts) recordedAddresses(ctx context.Context) (map[string]string, error) {
	addresses := map[string]string{}
	nodes, err := h.recorded(ctx)
	if err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if !ofRedis(node) {
			continue
		}
		r, err := h.with(ctx, node).readRecord(ctx, node)
		if err != nil {
			return nil, err
		}
		if r.Address != "" {
			addresses[node] = r.Address
		}
	}
	return addresses, nil
}

// remember finds out who was the master before this supervisor. It is called
// before the plan is made, which names the master to new Sentinels. Where it
// cannot be known, Prepare refuses: taking the stack down does not need it.
func (s *Supervisor) remember() (err error) {
	m := &s.kept.Redis
	if s.cfg.Pod {
		return nil // PreparePod has written what the pods agreed on: see Remember
	}
	if len(m.Addresses) == 0 {
		if m.Addresses, err = s.hosts.recordedAddresses(s.ctx); err != nil {
			return err
		}
	}
	files, err := s.hosts.sentinelFiles(s.ctx)
	if err != nil {
		return err
	}
	with, err := s.hosts.redisWithData(s.ctx)
	if err != nil {
		return err
	}
	if s.lost, err = s.losesStackFile(with); err != nil {
		return err
	}
	if s.lost {
		s.kept.Booted = true
	}
	if !s.kept.Booted {
		return nil // FirstMaster will be, and nobody has written anything yet
	}

	m.Replication, s.forgotten = recall(*m, files)
	hasData := func(node string) bool {
		return slices.ContainsFunc(with, func(w nodeData) bool { return w.node == node })
	}
	runs, err := s.hosts.anyAlive(s.ctx, ofRedis)
	if err != nil {
		return err
	}
	switch master := m.Replication.Master; {
	case master != "" && !hasData(master) && len(with) > 0 && !runs:
		// The Sentinels would promote one of the others, whichever it is: the
		// offsets that they compare are all 0 after a start.
		s.bereft, m.Replication.Master, m.Rewriting = master, with[0].node, true
	case master != "":
	case len(with) == 1: // no guess: a person may have seen to it (see checkMaster)
		m.Replication.Master, m.Rewriting, s.forgotten = with[0].node, true, nil
	case s.forgotten == nil && !s.lost && !hasSentinel(m.Addresses):
		m.Replication.Master = plan.FirstMaster // without Sentinels it has always been
	case s.forgotten == nil:
		s.forgotten = errors.New("nothing in the state directory tells which redis node was the master")
	}
	return nil
}

// losesStackFile reports whether stack.json is missing or empty where a stack with
// Redis has been: it would be taken for a new one, and redis-1 for its master.
func (s *Supervisor) losesStackFile(with []nodeData) (bool, error) {
	if s.kept.Booted || s.kept.Redis.Watch != "" || s.kept.Ports[plan.FirstMaster] != 0 {
		return false, nil
	}
	for _, host := range s.hosts.all() {
		if names, err := host.sentinelPaths(s.ctx); len(names) > 0 || err != nil {
			return err == nil, err
		}
	}
	return len(with) > 0, nil
}

// checkMaster refuses to start Redis where that could make a node the master
// whose data is not the newest.
func (s *Supervisor) checkMaster() error {
	if !s.stack().Redis.Enabled {
		return nil
	}
	if s.cfg.OwnFile || s.cfg.Pod && s.redisRuns() {
		return nil // what the pods agreed on names a node that is gone, or stands since the node's start
	}
	c := moves(s.kept.Redis, s.name(), redisAddresses(s.processes()))
	runs := s.redisRuns()
	master := s.kept.Redis.Replication.Master
	switch {
	case runs && s.lost:
		return fmt.Errorf("%s is missing or empty, and with it the passwords of Redis and its Sentinels, which still run. Take the stack down ('holdfast down'), then up; the data stays", s.dir.path(keptFile))
	case runs && c.Moved != "" && s.wanted == nil: // else a change sees to it, or refuses it
		return &cannotMoveError{c.Moved}
	case !s.kept.Booted:
		return nil
	case s.forgotten != nil && s.runs(isSentinel):
		return nil // the Sentinels that run may know better than their files
	case s.forgotten != nil:
		down := ""
		if runs {
			down = "Take the stack down ('holdfast down'). "
		}
		with, err := s.hosts.redisWithData(s.ctx)
		if err != nil {
			return err
		}
		return fmt.Errorf("%w. %sDecide which redis node has the newest data (last written: %s), move nodes/redis-N/data of every other one out of %s (keep them), and run 'holdfast up' again: the only node with data becomes the master", s.forgotten, down, lastWritten(with), s.dir)
	case s.node(master) == nil:
		back := fmt.Sprintf("redis.replicas: %d", numberOf(master)-1)
		if s.stack().Redis.Sentinels == 0 { // nobody promotes a replica
			back += ", redis.sentinels: 3"
		}
		return fmt.Errorf("%[1]s was the Redis master and has the newest data, but the stack file has no %[1]s any more. Put it back (%[2]s) and run 'holdfast up'; 'holdfast restart %[1]s' then makes another node the master. When that is a node which shall stay ('holdfast status' shows it), take the stack down and %[1]s out",
			master, back)
	}
	return nil
}

// cannotMoveError reports that what runs would have to move.
type cannotMoveError struct{ moved string }

func (e *cannotMoveError) Error() string {
	return e.moved + ", and Redis and its Sentinels still run as they were: they cannot move while they run. Take the stack down ('holdfast down'), then up; the data stays"
}

// redisRuns reports whether a redis node or a Sentinel of the stack has a
// process, also one that the stack file does not have any more.
func (s *Supervisor) redisRuns() bool { return s.runs(ofRedis) }

// runs reports whether a node whose name is of a kind has a process.
func (s *Supervisor) runs(kind func(node string) bool) bool {
	for name, n := range s.allNodes() {
		if n.proc != nil && kind(name) {
			return true
		}
	}
	return slices.ContainsFunc(s.strays, func(st stray) bool { return kind(st.node) })
}

// beginRewrite decides whether the Sentinels' files have to be written anew: they
// name addresses that their nodes do not have any more, and none of them runs. It
// keeps the decision and who is the master before a file is touched, so that a
// supervisor which is killed in between can do it again.
func (s *Supervisor) beginRewrite() error {
	m := &s.kept.Redis
	if !s.stack().Redis.Enabled {
		return s.saveKept()
	}
	wanted := redisAddresses(s.processes())
	if s.redisRuns() {
		// What runs keeps its address (checkMaster); more nodes may come.
		all := maps.Clone(m.Addresses)
		maps.Copy(all, wanted)
		m.Watch, m.Addresses, m.Rewriting = s.name(), all, false
		return s.saveKept()
	}
	if err := s.beginCold(); err != nil {
		return err
	}
	if s.bereft != "" {
		s.log.Warn("the data of the Redis master is gone: the node that was written to last takes its place", "was", s.bereft, "now", m.Replication.Master)
	}
	if s.cfg.Pod {
		m.Rewriting = !s.cfg.OwnFile
		departed := departedFrom(*m, wanted)
		if m.Departed = nil; s.ownSentinel() != "" { // the Sentinels of other pods run, and know them
			m.Departed = departed
		}
	} else {
		m.Rewriting = moves(*m, s.name(), wanted).Any || len(m.Departed) > 0 || !s.sentinelsAgree()
		m.Departed = nil
	}
	m.Watch, m.Addresses = s.name(), wanted
	return s.saveKept()
}

// endRewrite removes the files of Sentinels that are not in the stack any more:
// what they knew is in stack.json now, and would be out of date one day.
func (s *Supervisor) endRewrite() error {
	if !s.kept.Redis.Rewriting {
		return nil
	}
	for _, host := range s.hosts.all() {
		names, err := host.sentinelPaths(s.ctx)
		if err != nil {
			return err
		}
		for _, name := range names {
			if s.node(nodeOf(name)) != nil {
				continue
			}
			if err := host.Remove(s.ctx, name); err != nil {
				return fmt.Errorf("remove the file of a Sentinel that is not in the stack any more: %w", err)
			}
		}
	}
	s.kept.Redis.Rewriting = false
	return s.saveKept()
}

// sentinelsAgree reports whether the file of every Sentinel of the plan names the
// master that is to start. One that is missing or damaged does not, nor does one
// that is older than what the others or the supervisor know: the Sentinels that
// answer first decide, and those may be the ones that have not heard.
func (s *Supervisor) sentinelsAgree() bool {
	files, err := s.hosts.sentinelFiles(s.ctx)
	if err != nil {
		return false // they are written anew
	}
	r := s.kept.Redis.Replication
	for name, n := range s.allNodes() {
		if n.spec().Kind != plan.Sentinel {
			continue
		}
		f, there := files[name]
		if !there || s.kept.Booted && (f.ConfigEpoch != r.ConfigEpoch || f.Address != s.node(r.Master).spec().Address) {
			return false
		}
	}
	return true
}

// noteMaster keeps who is the master now, by name, and reports whether it is another
// one. The Sentinels remember it, too; this is for the day when their files are gone.
func (s *Supervisor) noteMaster(f facts) (other bool) {
	address, epoch, err := f.master()
	name := f.nameOf(address)
	if err != nil || name == "" || f.failing() {
		return false
	}
	other, err = s.writeMaster(name, epoch)
	if err != nil {
		s.log.Error("cannot write down who is the Redis master", "error", err)
	}
	return other
}

// writeMaster writes down who is the master since a configuration epoch, unless
// something newer stands there, and reports whether it is another one.
func (s *Supervisor) writeMaster(name string, epoch int64) (other bool, err error) {
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	r := &s.kept.Redis.Replication
	was := *r
	// What was seen before a restore has a lower epoch.
	if r.Master == name && r.ConfigEpoch == epoch || epoch < r.ConfigEpoch {
		return false, nil
	}
	r.Master, r.ConfigEpoch = name, epoch
	r.CurrentEpoch = max(r.CurrentEpoch, epoch)
	if err := s.saveKept(); err != nil {
		*r = was // so that the next look tries again: the disk may have room then
		return false, err
	}
	s.tally.masterIs(was.Master, name)
	return was.Master != "" && was.Master != name, nil
}
