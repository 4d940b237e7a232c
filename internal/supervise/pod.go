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

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// In pods each host has a supervisor of its own, which looks after its own nodes and nobody
// else's. The others are hosts that are away for good: nothing can be done there, but their
// redis nodes and Sentinels are spoken with like any. What has to be agreed on before the
// first start, package pod finds out; here it becomes what this supervisor remembers.

// podColdPatience is how long a redis node waits for the former master in pods, where nobody
// else answers. Another pod may have to be placed first, and its volume to be attached.
const podColdPatience = time.Minute

func (s *Supervisor) coldPatience() time.Duration {
	if s.cfg.Pod {
		return podColdPatience
	}
	return coldPatience
}

// isElsewhere reports whether another supervisor looks after a node.
func (s *Supervisor) isElsewhere(node string) bool {
	return s.cfg.Pod && s.hosts.lacks(s.home(node).name)
}

// seen is a status without what other supervisors look after: here nothing is known of it, and
// it is not this one's to be ready for.
func (s *Supervisor) seen(st Status) Status {
	if !s.cfg.Pod {
		return st
	}
	st.Nodes = slices.DeleteFunc(st.Nodes, func(n NodeStatus) bool { return s.isElsewhere(n.Name) })
	st.Ready = len(st.Nodes) > 0 && !slices.ContainsFunc(st.Nodes, func(n NodeStatus) bool { return n.State != Up })
	return st
}

// attendsRedis reports whether the supervisor looks after redis nodes or Sentinels.
func (s *Supervisor) attendsRedis() bool {
	return s.stack().Redis.Enabled && slices.ContainsFunc(s.names(), func(node string) bool {
		return ofRedis(node) && !s.isElsewhere(node)
	})
}

// noteBoot remembers that the stack has had its first boot, where the master is looked after
// elsewhere.
func (s *Supervisor) noteBoot(f facts) {
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

// Remembered is what a pod's state directory tells of the stack. Its zero value is that of an
// empty one.
type Remembered struct {
	// Booted is true where the stack has had its first boot, as far as this pod knows.
	Booted bool
	// Replication is who was the master, as far as this pod knows: its Sentinel, or what its
	// redis node saw. With epochs and no master, one was named that is not known.
	Replication plan.Replication
	// WatchedMaster is the redis node that the file of the pod's own Sentinel names; empty: none
	// that is known, or a node has another address now than the file says.
	WatchedMaster string
	// Sentinels is how many Sentinels the pod's own one knew last; 0: it has none, or remembers
	// nothing.
	Sentinels int
}

// Remember reads what a pod's state directory tells. Node is the pod's, and services has the
// addresses of all Services now, by node.
func Remember(ctx context.Context, stateDir, node string, services map[string]string) (Remembered, error) {
	h := hostsAt(stateDir)
	defer h.here.Close()
	k, err := dirAt(stateDir).readKept()
	if err != nil {
		return Remembered{}, err
	}
	files, err := h.sentinelFiles(ctx)
	if err != nil {
		return Remembered{}, err
	}
	// One that names a node that is not known is of no use here. Its epoch is: see Remembered.
	memory, files := byName(k.Redis, services, files)
	replication, _ := recall(memory, files)
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
		r.Booted = r.Booted || data.node == node // whoever has data has had a master
	}
	return r, nil
}

// moved reports whether a node has another address now than in a memory.
func moved(addresses, services map[string]string) bool {
	for node, address := range addresses {
		host, _ := splitAddress(address)
		if now := services[node]; now != "" && now != host {
			return true
		}
	}
	return false
}

// byName is a memory and Sentinels' files in which each redis node is at an address that is
// its name. Whose an address was the memory knows, and whose it is now the Services: a Sentinel
// learns that while it runs from the node itself, as where a Service was made anew. An address
// that was one node's then and is another one's now tells nothing.
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

// Remembered is what the supervisor remembers now.
func (s *Supervisor) Remembered() Remembered {
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	return Remembered{Booted: s.booted.Load(), Replication: s.kept.Redis.Replication}
}

// PodFacts is what the pods have agreed on before one of them starts its node.
type PodFacts struct {
	Booted      bool
	Replication plan.Replication
	// Outlived is true where the node runs: it outlived a supervisor, and what was agreed on
	// before its start stays.
	Outlived bool
	// OwnFile is true where a Sentinel starts on its own file as it is, which names a redis
	// node that the stack does not have any more.
	OwnFile   bool
	Ports     map[string]int
	Placement plan.Placement
	Secrets   plan.Secrets
}

// PreparePod writes what a pod has agreed on into its state directory, where Open finds it.
// No supervisor is at work there.
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

	k, err := d.readKept()
	if err != nil {
		return err
	}
	k.Ports, k.Placement, k.Secrets = maps.Clone(f.Ports), f.Placement, f.Secrets
	if f.Outlived {
		return d.writeJSON(keptFile, k)
	}
	k.Booted = f.Booted
	// What the Sentinel's file says is a part of the agreement already. From now on it speaks
	// of former addresses, or names a former master, until it is written anew.
	k.Redis.Replication, k.Redis.Rewriting = f.Replication, !f.OwnFile
	return d.writeJSON(keptFile, k)
}

// departedEvery is how often Sentinels are asked whether they know nodes that the stack does not have
// any more.
const departedEvery = 5 * time.Second

// ownSentinel is the Sentinel that the pod has; empty: it has none.
func (s *Supervisor) ownSentinel() string {
	for _, name := range s.sentinels() {
		if s.cfg.Pod && !s.isElsewhere(name) {
			return name
		}
	}
	return ""
}

// forgetDeparted has the pod's own Sentinel forget the redis nodes and Sentinels that the stack does
// not have any more, once all others are well. Until then a removed Sentinel counts for a majority.
// What this Sentinel was started on does not name them, and the others may tell it of them. It ends
// when all Sentinels answer and none knows any of them.
func (s *Supervisor) forgetDeparted(sentinel string) {
	said := ""
	for s.wait(departedEvery) && !s.stopping.Load() {
		a := s.acquaint(s.ctx, time.Second)
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

// knowsDeparted reports whether a Sentinel knows a node that the stack does not have any more.
func (s *Supervisor) knowsDeparted(a acquaintance, sentinel string) bool {
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	return slices.ContainsFunc(a.strangers(sentinel), func(address string) bool { return s.kept.Redis.Departed[address] != "" })
}

// mayForget says what Sentinels that are reset by their own pods have to wait for; empty: nothing.
// A removed Sentinel that still runs would be known again at once. A replica that is preferred is
// about to become the master by a switchover of another pod. And they do not forget all at once:
// the one with the highest number is the first.
func (s *Supervisor) mayForget(a acquaintance, sentinel string) string {
	for _, name := range slices.Sorted(maps.Keys(a.Known)) {
		if numberOf(name) > numberOf(sentinel) && s.knowsDeparted(a, name) {
			return name + " is to forget first"
		}
		for address, replica := range a.Known[name].Replicas {
			// What a Sentinel knows of one that is gone is as old as that.
			if replica.Priority == preferred && nodeAt(a.Nodes, address) != "" && replica.Eligible {
				return "a switchover to " + address + " is under way"
			}
		}
	}
	for _, address := range a.strangers(sentinel) {
		if a.Known[sentinel].Sentinels[address] {
			return "the Sentinel at " + address + " still runs"
		}
	}
	return ""
}

// departedFrom are the addresses at which Sentinels may know nodes that a plan with these nodes
// does not have, and those nodes' names.
func departedFrom(m redisMemory, wanted map[string]string) map[string]string {
	gone := with(m.Departed, nil)
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

// AskMaster asks the Sentinels of a stack who is the master and returns its address and the
// epoch. It takes a majority of them to answer, within a second.
func AskMaster(ctx context.Context, way redis.Way, name, password string, sentinels map[string]string) (address string, epoch int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	f := facts{Sentinels: len(sentinels)}
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

// OpenPod opens the supervisor of a pod whose host is called own, with a stack of plan.InPod.
// PreparePod comes first.
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

// handOverLimit is how long a master that leaves may take to have a successor. A pod's grace
// has room for that, and for the node's own end.
const handOverLimit = 25 * time.Second

// firstProbeLimit is how long a node that this supervisor has just taken over may take to tell
// whether it is the master.
const firstProbeLimit = 5 * time.Second

// awaitFirstProbe waits until a node that runs was asked how it is.
func (s *Supervisor) awaitFirstProbe(ctx context.Context, node string) {
	within(ctx, firstProbeLimit, switchPoll, func(context.Context) bool {
		st, _ := s.board.snapshot().Node(node)
		return st.PID == 0 || st.State != Starting || st.Detail != ""
	})
}

// stepDownPause is how long it takes until another switchover is tried, and stepDownTries for how
// long one is begun: the last one has to end within the pod's grace.
const (
	stepDownPause = 200 * time.Millisecond
	stepDownTries = 15 * time.Second
)

// retryStepDown is stepDown that retries a failed switchover while the master has a replica:
// Sentinels may be restarting. Without a replica nobody could take over.
func (s *Supervisor) retryStepDown(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, stepDownTries)
	defer cancel()
	why := ""
	pollEvery(ctx, stepDownPause, func() bool {
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

// Leave ends a pod's part: a redis node that is the master gives that to another one first,
// then the nodes of the pod stop. It returns when they have ended.
func (s *Supervisor) Leave(ctx context.Context, own string) error {
	if s.node(own) != nil {
		limited, cancel := context.WithTimeout(ctx, handOverLimit)
		s.awaitFirstProbe(limited, own)
		s.retryStepDown(limited, own)
		cancel()
	}
	err := s.Stop(ctx, nil)
	if errors.As(err, new(*UnreachedError)) {
		return nil // of the others, others take care
	}
	if err != nil {
		return fmt.Errorf("end %s: %w", own, err)
	}
	return nil
}
