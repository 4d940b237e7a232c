package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/internal/plan"
)

// A redis node is known by its name and its data, not by its address. But Sentinels know only
// addresses: if two nodes had exchanged their ports, the Sentinels would name the one with the
// old data master. So the stack remembers which node had which address when the Sentinels last
// ran, and while no Sentinel runs it rewrites their files with the current addresses. The
// decisions are made by lastKnownMaster and addressChanges, which are pure functions.

// redisMemory is what stack.json remembers about the redis nodes and the Sentinels. No change
// of the stack file removes it: Redis may be off in one version of the file and on again in the
// next.
type redisMemory struct {
	// Watch is the name by which the Sentinels know the master: the name of the stack.
	Watch string `json:"watch,omitempty"`
	// Addresses has, by node, the addresses that the Sentinels' files refer to, including those of
	// the Sentinels themselves.
	Addresses map[string]string `json:"addresses,omitempty"`
	// Departed has, by address, the names of nodes that left an address at which a Sentinel may
	// still know them.
	Departed map[string]string `json:"departed,omitempty"`
	// Replication says which node was the master when that was last seen or read.
	Replication plan.Replication `json:"replication"`
	// Rewriting is true while the Sentinels' files are being rewritten. Then some of them may have
	// the addresses of Addresses, and others former ones.
	Rewriting bool `json:"rewriting,omitempty"`
}

// lastKnownMaster returns which node was the master last, according to the Sentinels' files and to
// what the supervisor itself has seen. The highest epoch wins, because a majority of the Sentinels
// agreed on it: see redisFacts.master. If lastKnownMaster returns an error, it names no master, and
// the epochs are the highest of all.
func lastKnownMaster(m redisMemory, files map[string]sentinelFile) (plan.Replication, error) {
	best := m.Replication
	if m.Rewriting {
		return best, nil
	}
	address := m.Addresses[best.Master] // the address of the master of best
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

// nodeAt returns the redis node with an address; empty: there is none.
func nodeAt(addresses map[string]string, address string) string {
	for name, a := range addresses {
		if a == address && isRedis(name) {
			return name
		}
	}
	return ""
}

// isRedis and isSentinel report the kind of a node by its name alone, because the records of
// nodes that the stack no longer has do not say more.
func isRedis(node string) bool    { return plan.KindByName(node) == plan.Redis }
func isSentinel(node string) bool { return plan.KindByName(node) == plan.Sentinel }

// isRedisOrSentinel reports whether a node is a redis node or a Sentinel.
func isRedisOrSentinel(node string) bool { return isRedis(node) || isSentinel(node) }

// redisAddresses returns the addresses of the redis nodes and Sentinels among processes, by
// node.
func redisAddresses(processes []plan.Process) map[string]string {
	addresses := map[string]string{}
	for _, p := range processes {
		if knownByAddress(p) {
			addresses[p.Node] = p.Address
		}
	}
	return addresses
}

// addressChange is how a plan differs from the Sentinels' files.
type addressChange struct {
	// Moved is a sentence about what would move, such as a node to another address; empty: nothing
	// would.
	Moved string
	// Any is true if the files have to be rewritten.
	Any bool
}

// addressChanges compares what the Sentinels know with what the plan wants.
func addressChanges(m redisMemory, watch string, wanted map[string]string) addressChange {
	c := addressChange{Any: m.Rewriting || m.Watch != watch || !maps.Equal(m.Addresses, wanted)}
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

// recordedAddresses returns the addresses at which the redis nodes and Sentinels were last
// started, according to their records. It is for a state directory without a redisMemory.
func (h hosts) recordedAddresses(ctx context.Context) (map[string]string, error) {
	addresses := map[string]string{}
	nodes, err := h.recorded(ctx)
	if err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if !isRedisOrSentinel(node) {
			continue
		}
		r, err := h.hostWithRecord(ctx, node).readRecord(ctx, node)
		if err != nil {
			return nil, err
		}
		if r.Address != "" {
			addresses[node] = r.Address
		}
	}
	return addresses, nil
}

// findLastMaster finds out which node was the master before this supervisor. It is called before
// the plan is made, because the plan names the master to new Sentinels. If that cannot be known,
// Prepare returns an error, but the stack can still be taken down.
func (s *Supervisor) findLastMaster() (err error) {
	m := &s.persisted.Redis
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

	if s.stateFileLost, err = s.lacksStateFile(with); err != nil {
		return err
	}
	if s.stateFileLost {
		s.persisted.Booted = true
	}
	if !s.persisted.Booted {
		return nil // FirstMaster will be the master, and nothing has been written yet
	}

	m.Replication, s.masterUnknown = lastKnownMaster(*m, files)
	hasData := func(node string) bool {
		return slices.ContainsFunc(with, func(w nodeData) bool { return w.node == node })
	}

	runs, err := s.hosts.anyAlive(s.ctx, isRedisOrSentinel)
	if err != nil {
		return err
	}

	switch master := m.Replication.Master; {
	case master != "" && !hasData(master) && len(with) > 0 && !runs:
		// The Sentinels would promote any of the others, because the offsets that they compare are
		// all 0 after a start.
		s.masterWithoutData, m.Replication.Master, m.Rewriting = master, with[0].node, true
	case master != "":
	case len(with) == 1: // the only one with data; a person may have moved the others away (see checkMaster)
		m.Replication.Master, m.Rewriting, s.masterUnknown = with[0].node, true, nil
	case s.masterUnknown == nil && !s.stateFileLost && !hasSentinel(m.Addresses):
		m.Replication.Master = plan.FirstMaster // without Sentinels the first master stays the master
	case s.masterUnknown == nil:
		s.masterUnknown = errors.New("nothing in the state directory tells which redis node was the master")
	}
	return nil
}

// lacksStateFile reports whether stack.json is missing or empty although the stack has had
// Redis. Such a stack would count as a new one, with redis-1 as its master.
func (s *Supervisor) lacksStateFile(with []nodeData) (bool, error) {
	if s.persisted.Booted || s.persisted.Redis.Watch != "" || s.persisted.Ports[plan.FirstMaster] != 0 {
		return false, nil
	}
	for _, host := range s.hosts.all() {
		if names, err := host.sentinelPaths(s.ctx); len(names) > 0 || err != nil {
			return err == nil, err
		}
	}
	return len(with) > 0, nil
}

// checkMaster returns an error if starting Redis could make a node the master whose data is not
// the newest.
func (s *Supervisor) checkMaster() error {
	if !s.stack().Redis.Enabled {
		return nil
	}
	if s.cfg.OwnFile || s.cfg.Pod && s.redisRuns() {
		return nil // what the pods agreed on names a removed node, or is from before the node's start
	}
	c := addressChanges(s.persisted.Redis, s.name(), redisAddresses(s.processes()))
	runs := s.redisRuns()
	master := s.persisted.Redis.Replication.Master
	switch {
	case runs && s.stateFileLost:
		return fmt.Errorf("%s is missing or empty, and with it the passwords of Redis and its Sentinels, which still run. Take the stack down ('holdfast down'), then up; the data stays", s.dir.path(stateFile))
	case runs && c.Moved != "" && s.wanted == nil: // otherwise a change moves it, or is refused
		return &cannotMoveError{c.Moved}
	case !s.persisted.Booted:
		return nil
	case s.masterUnknown != nil && s.runsAny(isSentinel):
		return nil // the running Sentinels may know more than their files
	case s.masterUnknown != nil:
		down := ""
		if runs {
			down = "Take the stack down ('holdfast down'). "
		}
		with, err := s.hosts.redisWithData(s.ctx)
		if err != nil {
			return err
		}
		return fmt.Errorf("%w. %sDecide which redis node has the newest data (last written: %s), move nodes/redis-N/data of every other one out of %s (keep them), and run 'holdfast up' again: the only node with data becomes the master", s.masterUnknown, down, lastWritten(with), s.dir)
	case s.node(master) == nil:
		back := fmt.Sprintf("redis.replicas: %d", plan.NodeNumber(master)-1)
		if s.stack().Redis.Sentinels == 0 { // nobody promotes a replica
			back += ", redis.sentinels: 3"
		}
		return fmt.Errorf("%[1]s was the Redis master and has the newest data, but the stack file has no %[1]s any more. Put it back (%[2]s) and run 'holdfast up'; 'holdfast restart %[1]s' then makes another node the master. When that is a node which shall stay ('holdfast status' shows it), take the stack down and %[1]s out",
			master, back)
	}
	return nil
}

// cannotMoveError is the error of a start with other addresses for nodes that run.
type cannotMoveError struct{ moved string }

func (e *cannotMoveError) Error() string {
	return e.moved + ", and Redis and its Sentinels still run as they were: they cannot move while they run. Take the stack down ('holdfast down'), then up; the data stays"
}

// redisRuns reports whether a redis node or a Sentinel has a process, also one that is no
// longer in the stack file.
func (s *Supervisor) redisRuns() bool { return s.runsAny(isRedisOrSentinel) }

// runsAny reports whether a node, or an orphan, has a process and a name that kind accepts.
func (s *Supervisor) runsAny(kind func(node string) bool) bool {
	for name, n := range s.allNodes() {
		if n.proc != nil && kind(name) {
			return true
		}
	}
	return slices.ContainsFunc(s.orphans, func(st orphan) bool { return kind(st.node) })
}

// beginRewrite decides whether the Sentinels' files have to be rewritten: they name addresses
// that nodes no longer have, and no Sentinel runs. It records the decision and the master
// before any file is touched, so that the next supervisor can repeat the rewrite if this one is
// killed.
func (s *Supervisor) beginRewrite() error {
	m := &s.persisted.Redis
	if !s.stack().Redis.Enabled {
		return s.saveState()
	}
	wanted := redisAddresses(s.processes())
	if s.redisRuns() {
		// Running nodes keep their addresses (see checkMaster); further nodes may be added.
		all := maps.Clone(m.Addresses)
		maps.Copy(all, wanted)
		m.Watch, m.Addresses, m.Rewriting = s.name(), all, false
		return s.saveState()
	}
	if err := s.beginCold(); err != nil {
		return err
	}
	if s.masterWithoutData != "" {
		s.log.Warn("the data of the Redis master is gone: the node that was written to last takes its place", "was", s.masterWithoutData, "now", m.Replication.Master)
	}
	if s.cfg.Pod {
		m.Rewriting = !s.cfg.OwnFile
		departed := departedFrom(*m, wanted)
		if m.Departed = nil; s.ownSentinel() != "" { // the Sentinels of other pods run, and may know them
			m.Departed = departed
		}
	} else {
		m.Rewriting = addressChanges(*m, s.name(), wanted).Any || len(m.Departed) > 0 || !s.sentinelsAgree()
		m.Departed = nil
	}
	m.Watch, m.Addresses = s.name(), wanted
	return s.saveState()
}

// endRewrite removes the files of Sentinels that are no longer in the stack. What they knew is
// in stack.json now, and their files would get out of date.
func (s *Supervisor) endRewrite() error {
	if !s.persisted.Redis.Rewriting {
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
	s.persisted.Redis.Rewriting = false
	return s.saveState()
}

// sentinelsAgree reports whether the file of every Sentinel of the plan names the master that
// is to start. A missing or damaged file does not, nor does one that is older than what the
// others or the supervisor know: the Sentinels that respond first decide, and these may be the
// ones that missed a failover.
func (s *Supervisor) sentinelsAgree() bool {
	files, err := s.hosts.sentinelFiles(s.ctx)
	if err != nil {
		return false // the files are rewritten
	}
	r := s.persisted.Redis.Replication
	for name, n := range s.allNodes() {
		if n.spec().Kind != plan.Sentinel {
			continue
		}
		f, there := files[name]
		if !there || s.persisted.Booted && (f.ConfigEpoch != r.ConfigEpoch || f.Address != s.node(r.Master).spec().Address) {
			return false
		}
	}
	return true
}

// noteMaster records which node is the master now, by name, and reports whether it is another
// one. The Sentinels remember that, too; the record is for the case that their files are lost.
func (s *Supervisor) noteMaster(f redisFacts) (other bool) {
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

// writeMaster records which node is the master since a configuration epoch, unless the record
// is newer, and reports whether it is another one.
func (s *Supervisor) writeMaster(name string, epoch int64) (other bool, err error) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	r := &s.persisted.Redis.Replication
	was := *r
	// An observation from before a restore has a lower epoch.
	if r.Master == name && r.ConfigEpoch == epoch || epoch < r.ConfigEpoch {
		return false, nil
	}
	r.Master, r.ConfigEpoch = name, epoch
	r.CurrentEpoch = max(r.CurrentEpoch, epoch)
	if err := s.saveState(); err != nil {
		*r = was // so that the next look tries again, when the disk may have room
		return false, err
	}
	s.tally.masterIs(was.Master, name)
	return was.Master != "" && was.Master != name, nil
}
