package supervise

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// What the Sentinels know of the nodes, and when one of them may be told to forget (SENTINEL
// RESET). The rules are methods of sentinelsView, which holds what the Sentinels replied at one
// time.

// sentinelsView is what the Sentinels know of the redis nodes and of each other.
type sentinelsView struct {
	redisFacts
	// Peers holds the addresses of the stack's Sentinels, by name.
	Peers map[string]string
	// Stopped holds the redis nodes that an operator has stopped: no Sentinel has to know them.
	Stopped map[string]bool
	// Known holds what each Sentinel knows, by name. Sentinels that did not reply are missing.
	Known map[string]sentinelKnowledge
	// Followers holds the addresses of the replicas that are connected to the master.
	Followers []string
}

// sentinelKnowledge is what one Sentinel knows.
type sentinelKnowledge struct {
	View   redis.View
	Tilted bool
	// Replicas and Sentinels are those that the Sentinel knows, by address.
	Replicas  map[string]redis.KnownReplica
	Sentinels map[string]bool
}

// askSentinels asks all Sentinels what they know, and waits for at most wait.
func (s *Supervisor) askSentinels(ctx context.Context, wait time.Duration) sentinelsView {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()

	a := sentinelsView{redisFacts: s.gather(ctx, wait), Peers: map[string]string{}, Stopped: map[string]bool{}, Known: map[string]sentinelKnowledge{}}
	for _, st := range s.statusBoard.snapshot().Nodes {
		if st.Kind == plan.Redis && st.State == Down {
			a.Stopped[st.Name] = true
		}
	}

	var mu sync.Mutex
	var all sync.WaitGroup
	for name, n := range s.allNodes() {
		if n.spec().Kind != plan.Sentinel {
			continue
		}
		a.Peers[name] = n.spec().Address
		all.Go(func() {
			k, err := s.askSentinel(ctx, name)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			a.Known[name] = k
		})
	}

	address, _, err := a.master()
	if name := a.nameOf(address); err == nil && name != "" {
		a.Followers, _ = s.admin(name).Followers(ctx) // if the master does not reply, whyNoReset reports that
	}

	all.Wait()
	return a
}

// askSentinel asks one Sentinel what it knows.
func (s *Supervisor) askSentinel(ctx context.Context, sentinel string) (k sentinelKnowledge, err error) {
	admin := s.admin(sentinel)
	if k.View, err = admin.View(ctx, s.name()); err != nil {
		return k, err
	}
	if k.Replicas, err = admin.KnownReplicas(ctx, s.name()); err != nil {
		return k, err
	}
	if k.Sentinels, err = admin.KnownSentinels(ctx, s.name()); err != nil {
		return k, err
	}
	k.Tilted, err = admin.Tilted(ctx)
	return k, err
}

// unknownAddresses returns the addresses that a Sentinel knows, of the master, of replicas or of
// Sentinels, where no node of the stack is.
func (a sentinelsView) unknownAddresses(sentinel string) (addresses []string) {
	k := a.Known[sentinel]
	if at := k.View.Address; at != "" && nodeAt(a.Nodes, at) == "" {
		addresses = append(addresses, at)
	}
	for address := range k.Replicas {
		if nodeAt(a.Nodes, address) == "" {
			addresses = append(addresses, address)
		}
	}
	for address := range k.Sentinels {
		if !slices.Contains(slices.Collect(maps.Values(a.Peers)), address) {
			addresses = append(addresses, address)
		}
	}
	slices.Sort(addresses)
	return addresses
}

// missing returns the nodes of the stack that a Sentinel does not know or does not reach. Its
// failover would have to do without them.
func (a sentinelsView) missing(sentinel string) (names []string) {
	k := a.Known[sentinel]
	for name, address := range a.Nodes {
		if address != k.View.Address && !a.Stopped[name] && !k.Replicas[address].Eligible {
			names = append(names, name)
		}
	}
	for name, address := range a.Peers {
		if name != sentinel && !k.Sentinels[address] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// whyNoFailover returns why the Sentinels could not carry out a failover at this moment, or ""
// if they could. The parameter but names a Sentinel to leave out; "" leaves out none.
func (a sentinelsView) whyNoFailover(but string) string {
	address, _, err := a.master()
	if err != nil {
		return err.Error()
	}

	for _, name := range slices.Sorted(maps.Keys(a.Peers)) {
		k, answers := a.Known[name]
		switch {
		case name == but:
		case !answers:
			return name + " does not answer"
		case k.View.Address != address:
			return fmt.Sprintf("%s names another master, %s", name, k.View.Address)
		case k.View.Failing:
			return "a failover is under way"
		case k.View.Down:
			return name + " holds the master for down"
		case k.Tilted:
			return name + " is in TILT mode: its clock jumped, or it did not run for a while"
		case 2*(len(a.Peers)-1) <= len(k.Sentinels)+1 && but != "":
			return fmt.Sprintf("%s knows %d Sentinels, and without %s there is no majority of them", name, len(k.Sentinels)+1, but)
		}
	}
	return ""
}

// whyNoReset returns why a Sentinel may not be told to forget at this moment, or "" if it may.
// Either a failover that is needed now would not come about, or the Sentinel would find again
// what it is to forget.
func (a sentinelsView) whyNoReset(sentinel string) string {
	if why := a.whyNoFailover(""); why != "" {
		return why
	}

	address, _, _ := a.master()
	master := a.nameOf(address)
	if !a.Standings[master].Master {
		return fmt.Sprintf("%s, which the Sentinels name master, does not say so itself", address)
	}

	for _, name := range replicasOf(a.redisFacts, master) {
		switch st, answers := a.Standings[name]; {
		case a.Stopped[name]:
		case !answers:
			return name + " does not answer"
		case st.MasterAddress != address || !st.Linked:
			return name + " is not in step with the master"
		}
	}

	for _, follower := range a.Followers {
		if a.nameOf(follower) == "" {
			return fmt.Sprintf("the replica at %s is still connected to the master", follower)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(a.Peers)) {
		if missing := a.missing(name); name != sentinel && len(missing) > 0 {
			return fmt.Sprintf("%s does not know %s yet", name, strings.Join(missing, ", "))
		}
	}
	return ""
}

// inSync returns the redis nodes that have what the master has, the master among them. why has
// the reasons for the others.
func (f redisFacts) inSync() (names []string, why map[string]string) {
	why = map[string]string{}
	address, _, err := f.master()
	master := f.nameOf(address)
	if f.Sentinels == 0 {
		master, err = f.Appointed, nil
		address = f.Nodes[master]
	}

	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		st, answers := f.Standings[name]
		switch lacks := f.Standings[master].Offset - st.Offset; {
		case err != nil:
			why[name] = err.Error()
		case !answers:
			why[name] = "it does not answer"
		case name == master && !st.Master:
			why[name] = "it is named master, and does not say so itself"
		case name == master:
			names = append(names, name)
		case st.MasterAddress != address || !st.Linked:
			why[name] = "it has no connection to the master"
		case lacks > mostBehind:
			why[name] = fmt.Sprintf("it lacks %d MiB of the master's data", lacks>>20)
		default:
			names = append(names, name)
		}
	}
	return names, why
}
