package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// In pods each host has its own supervisor, which looks after the host's own nodes only. The
// other hosts count as away for good: nothing can be done on them, but their redis nodes and
// Sentinels can be spoken with. Before the first start, package pod finds out what has to be
// agreed on. This file makes that the memory of the supervisor.

// podColdPatience is how long a redis node in a pod waits for the former master if no other
// node responds. The other pod may have to be scheduled first, and its volume to be attached.
const podColdPatience = time.Minute

func (s *Supervisor) coldPatience() time.Duration {
	if s.cfg.Pod {
		return podColdPatience
	}
	return coldPatience
}

// isElsewhere reports whether another supervisor looks after a node.
func (s *Supervisor) isElsewhere(node string) bool {
	return s.cfg.Pod && s.hosts.isAbsent(s.home(node).name)
}

// ownStatus returns a status without the nodes of other supervisors: nothing is known about them
// here, and the readiness of this pod does not depend on them.
func (s *Supervisor) ownStatus(st Status) Status {
	if !s.cfg.Pod {
		return st
	}
	st.Nodes = slices.DeleteFunc(st.Nodes, func(n NodeStatus) bool { return s.isElsewhere(n.Name) })
	st.Ready = len(st.Nodes) > 0 && !slices.ContainsFunc(st.Nodes, func(n NodeStatus) bool { return n.State != Up })
	return st
}

// watchesRedis reports whether the supervisor looks after redis nodes or Sentinels.
func (s *Supervisor) watchesRedis() bool {
	return s.stack().Redis.Enabled && slices.ContainsFunc(s.names(), func(node string) bool {
		return isRedisOrSentinel(node) && !s.isElsewhere(node)
	})
}

// noteBoot records that the stack has had its first boot, if another supervisor looks after the
// master.
func (s *Supervisor) noteBoot(f redisFacts) {
	if !s.cfg.Pod || s.booted.Load() {
		return
	}
	for _, st := range f.Standings {
		if !st.Master {
			continue
		}
		if err := s.markBooted(); err != nil {
			s.log.Error("cannot write down that the stack has had its first boot", "error", err)
		}
		return
	}
}

// Remembered is what a pod's state directory remembers about the stack. The zero value is that
// of an empty directory.
type Remembered struct {
	// Booted is true if the stack has had its first boot, as far as this pod knows.
	Booted bool
	// Replication says which node was the master, as far as this pod knows: by its Sentinel's
	// file, or by what its redis node saw. With epochs but no master, the master's address belongs
	// to no known node.
	Replication plan.Replication
	// WatchedMaster is the redis node that the file of the pod's own Sentinel names. It is empty
	// if that is no known node, or if a node has another address now than in the memory.
	WatchedMaster string
	// Sentinels is how many Sentinels the pod's own Sentinel last knew; 0: the pod has none, or
	// remembers nothing.
	Sentinels int
}

// Remember reads what a pod's state directory remembers. node is the pod's node, and services
// has the current addresses of all Services, by node.
func Remember(ctx context.Context, stateDir, node string, services map[string]string) (Remembered, error) {
	h := hostsAt(stateDir)
	defer h.here.Close()
	k, err := dirAt(stateDir).readState()
	if err != nil {
		return Remembered{}, err
	}
	files, err := h.sentinelFiles(ctx)
	if err != nil {
		return Remembered{}, err
	}
	// A master that is no known node is not returned, but its epoch is: see Remembered.
	memory, files := byName(k.Redis, services, files)
	replication, _ := lastKnownMaster(memory, files)
	r := Remembered{Booted: k.Booted || replication.ConfigEpoch > 0, Replication: replication}
	if master := files[node].Address; isRedis(master) && !k.Redis.Rewriting && !moved(k.Redis.Addresses, services) {
		r.WatchedMaster = master
	}
	if !isRedis(node) {
		for known := range k.Redis.Addresses {
			if isSentinel(known) {
				r.Sentinels++
			}
		}
		return r, nil
	}
	with, err := h.redisWithData(ctx)
	if err != nil {
		return Remembered{}, err
	}
	for _, data := range with {
		r.Booted = r.Booted || data.node == node // a node with data has had a master
	}
	return r, nil
}

// moved reports whether a node has another address now than in addresses.
func moved(addresses, services map[string]string) bool {
	for node, address := range addresses {
		host, _ := splitAddress(address)
		if now := services[node]; now != "" && now != host {
			return true
		}
	}
	return false
}

// byName returns a memory and Sentinels' files in which the address of each redis node is its
// name. The memory knows which node had an address, and the Services which has it now. A
// Sentinel learns a new address from the node itself while it runs, for example after a Service
// was made anew. An address that belonged to one node then and belongs to another one now says
// nothing.
func byName(m redisMemory, services map[string]string, files map[string]sentinelFile) (redisMemory, map[string]sentinelFile) {
	now := map[string]string{}
	names := map[string]string{m.Replication.Master: m.Replication.Master}
	for node, host := range services {
		if isRedis(node) {
			now[node] = net.JoinHostPort(host, strconv.Itoa(plan.PodRedisPort))
			names[node] = node
		}
	}
	for _, node := range m.Departed {
		names[node] = node
	}
	for node := range m.Addresses {
		names[node] = node
	}

	named := maps.Clone(files)
	for sentinel, f := range named {
		was, is := cmp.Or(nodeAt(m.Addresses, f.Address), m.Departed[f.Address]), nodeAt(now, f.Address)
		if was == "" || is == "" || was == is {
			f.Address = cmp.Or(was, is, f.Address)
			named[sentinel] = f
		}
	}
	m.Addresses, m.Departed = names, nil
	return m, named
}

// Remembered returns what the supervisor remembers now.
func (s *Supervisor) Remembered() Remembered {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	return Remembered{Booted: s.booted.Load(), Replication: s.persisted.Redis.Replication}
}

// PodFacts is what the pods have agreed on before one of them starts its node.
type PodFacts struct {
	Booted      bool
	Replication plan.Replication
	// Outlived is true if the node already runs, because it outlived a supervisor. Then the
	// agreement from before its start stays.
	Outlived bool
	// OwnFile is true if a Sentinel starts on its own file as it is, although the file names a
	// redis node that the stack no longer has.
	OwnFile   bool
	Ports     map[string]int
	Placement plan.Placement
	Secrets   plan.Secrets
}

// PreparePod writes what the pods have agreed on into the state directory, where Open reads it.
// No supervisor may be at work there.
func PreparePod(stateDir string, f PodFacts) error {
	d := dirAt(stateDir)
	if err := d.open(); err != nil {
		return err
	}
	lock, err := d.lock()
	if err != nil {
		return err
	}
	defer lock.Close()

	k, err := d.readState()
	if err != nil {
		return err
	}
	k.Ports, k.Placement, k.Secrets = maps.Clone(f.Ports), f.Placement, f.Secrets
	if f.Outlived {
		return d.writeJSON(stateFile, k)
	}
	k.Booted = f.Booted
	// The agreement already includes what the Sentinel's file says. From now on the file has
	// former addresses, or a former master, until it is rewritten.
	k.Redis.Replication, k.Redis.Rewriting = f.Replication, !f.OwnFile
	return d.writeJSON(stateFile, k)
}

// departedEvery is how often Sentinels are asked whether they know nodes that the stack no
// longer has.
const departedEvery = 5 * time.Second

// ownSentinel returns the Sentinel of this pod; empty: it has none.
func (s *Supervisor) ownSentinel() string {
	for _, name := range s.sentinels() {
		if s.cfg.Pod && !s.isElsewhere(name) {
			return name
		}
	}
	return ""
}

// forgetDeparted makes the pod's own Sentinel forget redis nodes and Sentinels that the stack
// no longer has, once all others are healthy. Until then, a removed Sentinel counts for the
// majority. The file that this Sentinel was started on does not name removed nodes, but other
// Sentinels may tell it about them. forgetDeparted returns when all Sentinels respond and none
// knows a removed node.
func (s *Supervisor) forgetDeparted(sentinel string) {
	said := ""
	for clock.Sleep(s.ctx, departedEvery) && !s.stopping.Load() {
		a := s.askSentinels(s.ctx, time.Second)
		if !s.knowsDeparted(a, sentinel) {
			if err := s.noteForgotten(a); err != nil {
				s.log.Error("cannot write down that removed nodes are forgotten", "error", err)
			}
			if len(s.departed()) == 0 {
				return
			}
			continue
		}
		why := s.mayForget(a, sentinel)
		if why == "" {
			_, why = s.forgetOnce(s.ctx, sentinel)
		}
		if why != said {
			s.log.Info("a Sentinel knows nodes that the stack does not have any more", "node", sentinel, "why", why)
			said = why
		}
	}
}

// knowsDeparted reports whether a Sentinel knows a node that the stack no longer has.
func (s *Supervisor) knowsDeparted(a sentinelsView, sentinel string) bool {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	return slices.ContainsFunc(a.unknownAddresses(sentinel), func(address string) bool { return s.persisted.Redis.Departed[address] != "" })
}

// mayForget returns what a Sentinel that its own pod resets has to wait for; empty: nothing. A
// removed Sentinel that still runs would be known again at once. A preferred replica is about
// to become the master by a switchover of another pod. And not all Sentinels forget at the same
// time: the one with the highest number goes first.
func (s *Supervisor) mayForget(a sentinelsView, sentinel string) string {
	for _, name := range slices.Sorted(maps.Keys(a.Known)) {
		if plan.NodeNumber(name) > plan.NodeNumber(sentinel) && s.knowsDeparted(a, name) {
			return name + " is to forget first"
		}
		for address, replica := range a.Known[name].Replicas {
			// A Sentinel's knowledge about a removed replica is as old as its removal.
			if replica.Priority == preferred && nodeAt(a.Nodes, address) != "" && replica.Eligible {
				return "a switchover to " + address + " is under way"
			}
		}
	}
	for _, address := range a.unknownAddresses(sentinel) {
		if a.Known[sentinel].Sentinels[address] {
			return "the Sentinel at " + address + " still runs"
		}
	}
	return ""
}

// departedFrom returns, by address, the names of nodes that Sentinels may know and that are not
// in wanted.
func departedFrom(m redisMemory, wanted map[string]string) map[string]string {
	gone := merged(m.Departed, nil)
	for node, address := range m.Addresses {
		if address != "" {
			gone[address] = node
		}
	}
	for _, address := range wanted {
		delete(gone, address)
	}
	return gone
}

// AskMaster asks the Sentinels of a stack for the master, and returns its address and the
// epoch. It returns an error unless a majority of them responds within a second.
func AskMaster(ctx context.Context, way redis.Way, name, password string, sentinels map[string]string) (address string, epoch int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	f := redisFacts{Sentinels: len(sentinels)}
	views := make(chan *redis.View, len(sentinels))
	for _, at := range sentinels {
		go func() {
			admin := redis.NewAdmin(way, at, "operator", password)
			defer admin.Close()
			if v, err := admin.View(ctx, name); err == nil {
				views <- &v
				return
			}
			views <- nil
		}()
	}
	for range sentinels {
		if v := <-views; v != nil {
			f.Views = append(f.Views, *v)
		}
	}
	return f.master()
}

// OpenPod opens the supervisor of a pod whose host is called own. The stack has to be one of
// plan.InPod. PreparePod has to be called first.
func OpenPod(cfg Config, own string) (*Supervisor, error) {
	cfg.Several, cfg.Pod = true, true
	cfg.Hosts = plan.HostsOf(cfg.Stack)
	cfg.Machine = func(p plan.Place) machine.Machine {
		if p.Name == own {
			return machine.NewLocal(cfg.StateDir)
		}
		return machine.Elsewhere{Dir: cfg.StateDir}
	}
	return Open(cfg)
}

// handOverLimit is how long a leaving master may take to get a successor. A pod's grace period
// has room for that, and for the end of the node itself.
const handOverLimit = 25 * time.Second

// firstProbeLimit is how long the first probe of a node that was just adopted may take to find
// out whether the node is the master.
const firstProbeLimit = 5 * time.Second

// awaitFirstProbe waits until a running node has been probed.
func (s *Supervisor) awaitFirstProbe(ctx context.Context, node string) {
	within(ctx, firstProbeLimit, switchPoll, func(context.Context) bool {
		st, _ := s.statusBoard.snapshot().Node(node)
		return st.PID == 0 || st.State != Starting || st.Detail != ""
	})
}

// stepDownPause is the pause before another switchover is tried. stepDownTries is how long new
// switchovers are begun: the last one has to end within the pod's grace period.
const (
	stepDownPause = 200 * time.Millisecond
	stepDownTries = 15 * time.Second
)

// retryStepDown is stepDown, but retries a failed switchover as long as the master has a
// replica, because Sentinels may be restarting. Without a replica no node could take over.
func (s *Supervisor) retryStepDown(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, stepDownTries)
	defer cancel()
	why := ""
	clock.Poll(ctx, stepDownPause, func() bool {
		err := s.tryStepDown(ctx, node)
		if err == nil {
			return true
		}
		if err.Error() != why {
			why = err.Error()
			s.log.Warn("the master is to end, and there is no switchover", "node", node, "why", why)
		}
		followers, err := s.admin(node).Followers(ctx)
		return err != nil || len(followers) == 0
	})
}

// Leave ends a pod's part in the stack. If its redis node is the master, another node becomes
// the master first; then the nodes of the pod stop. Leave returns when they have ended.
func (s *Supervisor) Leave(ctx context.Context, own string) error {
	if s.node(own) != nil {
		limited, cancel := context.WithTimeout(ctx, handOverLimit)
		s.awaitFirstProbe(limited, own)
		s.retryStepDown(limited, own)
		cancel()
	}
	err := s.Stop(ctx, nil)
	if errors.As(err, new(*UnreachedError)) {
		return nil // the nodes of other pods have their own supervisors
	}
	if err != nil {
		return fmt.Errorf("end %s: %w", own, err)
	}
	return nil
}
