// Package cluster carries requests out at a Redis Cluster. It knows who owns which slot, has a group
// commit and readers for each shard, divides requests by shard, and puts the answers together.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/hashslot"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/rewrite"
)

// mapInterval lies between two looks at who owns which slot. A request that is redirected asks for
// a look at once.
const mapInterval = time.Second

// goneAfter is how many looks in a row have to miss a shard before it is given up: nodes that join
// or come back may see little of the cluster at first.
const goneAfter = 3

// Cluster knows who owns which slot of a Redis Cluster, and keeps a shard for each master that owns
// some. Its methods are safe for concurrent use; run owns the shards.
type Cluster struct {
	cfg config.Config
	// Anchor follows some master, for what any node can answer: subscriptions and the table of
	// commands.
	Anchor *discovery.Monitor
	Maker  *operation.Maker // of operations
	nudge  chan struct{}    // asks for a look at once

	mu      sync.Mutex
	last    *topology // never changed; nil: nobody has answered yet
	changed chan struct{}
	masters []*conn.Client // those who vote on failovers: the owners of slots
	found   bool           // every slot had an owner at some time
	heard   time.Time
	why     string
	unknown int64 // of shards that are gone
	ended   bool

	// These belong to run alone.
	links  map[string]*conn.Client
	shards []*clusterShard
}

// topology is who owns which slot, at a moment.
type topology struct {
	slots  *slotMap
	shards []*clusterShard // of the same indices as slots.shards
	order  []int           // of the shards, by their first slot
	moving map[int]bool    // slots on their way to another master
	// mark is the same for the same owners of all slots. firsts is the same for as many masters
	// with the same first slots, whichever nodes these are.
	mark   uint64
	firsts rewrite.Origin
}

// at returns the shard of a slot; nil: no node owns it.
func (t *topology) at(slot int) *clusterShard {
	if i := t.slots.owner[slot]; i >= 0 {
		return t.shards[i]
	}
	return nil
}

// of returns the shard whose master has an address; nil: there is none.
func (t *topology) of(addr string) *clusterShard {
	for _, s := range t.shards {
		if s.master() == addr {
			return s
		}
	}
	return nil
}

// New returns a cluster that nobody has been asked about. It works while Run runs.
func New(cfg config.Config) *Cluster {
	quiet := cfg
	quiet.Logger = config.Config{}.WithDefaults().Logger
	anchor := discovery.New(quiet.MonitorConfig())
	return &Cluster{
		cfg: cfg, Anchor: anchor, Maker: operation.NewMaker(cfg, anchor, true), nudge: make(chan struct{}, 1), changed: make(chan struct{}),
		links: map[string]*conn.Client{}, why: "nobody was asked yet",
	}
}

// now returns the last topology, and a channel that is closed when there is another one.
func (c *Cluster) now() (*topology, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.changed
}

// look asks for a look at who owns which slot.
func (c *Cluster) look() {
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// Run looks until the context ends, and then ends the shards.
func (c *Cluster) Run(ctx context.Context) {
	defer func() {
		c.mu.Lock()
		c.ended = true
		c.mu.Unlock()
		var ending sync.WaitGroup
		for _, s := range c.shards {
			ending.Go(s.end)
		}
		for _, l := range c.links {
			ending.Go(l.Stop)
		}
		ending.Wait()
	}()
	for ctx.Err() == nil {
		views := c.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		if len(views) > 0 {
			c.take(ctx, views)
		}
		c.anchorTo()
		wait := mapInterval
		if t, _ := c.now(); t == nil || t.slots.unowned > 0 {
			wait = discovery.HuntInterval
		}
		next := time.NewTimer(wait)
		select {
		case <-next.C:
		case <-c.nudge:
			// Many may be sent elsewhere at once: see monitor.run.
			clock.Sleep(ctx, 20*time.Millisecond)
		case <-ctx.Done():
		}
		next.Stop()
	}
}

// ask asks every known node who owns what. While none is known or answers, it asks those of the
// configuration, too.
func (c *Cluster) ask(ctx context.Context) [][]clusterNode {
	ctx, cancel := context.WithTimeout(ctx, discovery.SteadyTimeout)
	defer cancel()
	for _, addr := range c.cfg.Cluster {
		if t, _ := c.now(); t == nil || c.silent() {
			c.link(addr)
		}
	}
	var (
		questions sync.WaitGroup
		mu        sync.Mutex
		views     [][]clusterNode
		errs      []string
	)
	for addr, l := range c.links {
		questions.Go(func() {
			view, err := askNodes(ctx, l)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Sprintf("%s: %v", addr, err))
			} else {
				views = append(views, view)
			}
		})
	}
	questions.Wait()
	slices.Sort(errs)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.why = strings.Join(errs, "; ")
	if len(views) > 0 {
		c.heard = time.Now()
	}
	return views
}

// silent reports whether no node has answered lately.
func (c *Cluster) silent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.heard) > 2*mapInterval
}

// link returns the connection to a node.
func (c *Cluster) link(addr string) *conn.Client {
	l := c.links[addr]
	if l == nil {
		l = c.cfg.ConnTo(addr, conn.Probing)
		c.links[addr] = l
	}
	return l
}

// askNodes asks a node what it knows of all nodes (manual, CLUSTER NODES).
func askNodes(ctx context.Context, l *conn.Client) ([]clusterNode, error) {
	text, err := l.Do(ctx, l.B().ClusterNodes().Build()).ToString()
	if err != nil {
		return nil, err
	}
	return parseClusterNodes(text, l.Address)
}

// take makes the topology of what the nodes answered, and publishes it.
func (c *Cluster) take(ctx context.Context, views [][]clusterNode) {
	m := mergeViews(views...)
	t := &topology{slots: m, shards: make([]*clusterShard, len(m.shards)), moving: map[int]bool{}}
	members := membersOf(m, views)
	taken := map[*clusterShard]bool{}
	find := func(i int, fits func(*clusterShard) bool) {
		for _, s := range c.shards {
			if t.shards[i] == nil && !taken[s] && fits(s) {
				t.shards[i], taken[s] = s, true
			}
		}
	}
	// First those whose master is the same, so that a former member of a shard that got slots of
	// its own is not taken for that shard.
	for i := range m.shards {
		find(i, func(s *clusterShard) bool { return s.name() == m.shards[i].id })
	}
	for i := range m.shards {
		find(i, func(s *clusterShard) bool { return s.has(m.shards[i].id) })
	}
	for i := range m.shards {
		if t.shards[i] == nil {
			t.shards[i] = newShard(ctx, c)
			taken[t.shards[i]] = true
			c.shards = append(c.shards, t.shards[i])
		}
		t.shards[i].know(m.shards[i].id, i, members)
	}
	first := make([]int, len(m.shards))
	mark := fnv.New64a()
	before := int16(-2)
	for slot := hashslot.Count - 1; slot >= 0; slot-- {
		owner := m.owner[slot]
		if owner >= 0 {
			first[owner] = slot
		}
		if owner != before {
			before = owner
			id := ""
			if owner >= 0 {
				id = m.shards[owner].id
			}
			fmt.Fprintf(mark, "%d %s\n", slot, id)
		}
	}
	t.mark = mark.Sum64()
	for i := range m.shards {
		t.order = append(t.order, i)
	}
	slices.SortFunc(t.order, func(a, b int) int { return cmp.Compare(first[a], first[b]) })
	t.firsts = rewrite.OriginOf(fmt.Sprint(slices.Sorted(slices.Values(first))))
	known := map[string]bool{}
	var voters []*conn.Client
	for _, s := range m.shards {
		voters = append(voters, c.link(s.master))
		known[s.master] = true
	}
	for _, view := range views {
		for _, n := range view {
			known[n.addr] = true
			for _, slot := range n.moving {
				t.moving[slot] = true
			}
		}
	}
	c.publish(t, voters)
	c.forget(taken, known)
}

// membersOf returns the ids of all nodes of each shard.
func membersOf(m *slotMap, views [][]clusterNode) []map[string]bool {
	members := make([]map[string]bool, len(m.shards))
	for i, s := range m.shards {
		members[i] = map[string]bool{s.id: true}
		for _, view := range views {
			for _, n := range view {
				if n.follows == s.id {
					members[i][n.id] = true
				}
			}
		}
	}
	return members
}

// publish makes a topology the present one.
func (c *Cluster) publish(t *topology, voters []*conn.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.masters = voters
	before := c.last
	c.last = t
	c.found = c.found || t.slots.unowned == 0 && len(t.shards) > 0
	if before == nil || before.mark != t.mark {
		close(c.changed)
		c.changed = make(chan struct{})
		c.cfg.Logger.Info("redis cluster seen", "shards", len(t.shards), "slots-without-owner", t.slots.unowned)
	}
}

// forget ends the shards that own nothing any more, and the links to nodes that
// are gone.
func (c *Cluster) forget(taken map[*clusterShard]bool, known map[string]bool) {
	var ending sync.WaitGroup
	c.shards = slices.DeleteFunc(c.shards, func(s *clusterShard) bool {
		if taken[s] {
			s.missing = 0
			return false
		}
		if s.missing++; s.missing < goneAfter {
			return false
		}
		ending.Go(s.end)
		c.mu.Lock()
		c.unknown += s.writer.Stats.Unknown.Load()
		c.mu.Unlock()
		return true
	})
	for addr, l := range c.links {
		if !known[addr] {
			ending.Go(l.Stop)
			delete(c.links, addr)
		}
	}
	ending.Wait()
}

// anchorTo has the anchor stay with its node while that is a master, and take another master
// otherwise.
func (c *Cluster) anchorTo() {
	t, _ := c.now()
	if t == nil {
		return
	}
	s := election.Snapshot{Asked: time.Now()}
	before, _ := c.Anchor.Now()
	for _, shard := range t.shards {
		master := shard.master()
		if master != "" && (s.Master == "" || master == before.Master) {
			s.Verdict = election.Verdict{Master: master, Why: "a master of the cluster"}
		}
	}
	c.Anchor.Publish(s)
}

// Status returns the state of all shards together.
func (c *Cluster) Status() commit.Status {
	t, _ := c.now()
	c.mu.Lock()
	st := commit.Status{Found: c.found, Heard: c.heard, Why: c.why, Unknown: c.unknown}
	c.mu.Unlock()
	if t == nil {
		return st
	}
	var masters, missing []string
	if t.slots.unowned > 0 {
		missing = append(missing, fmt.Sprintf("%d slots have no owner", t.slots.unowned))
	}
	for n, i := range t.order {
		s, _ := t.shards[i].monitor.Now()
		w := t.shards[i].writer
		if s.Master == "" {
			missing = append(missing, fmt.Sprintf("the shard of %s has no master: %s", t.slots.shards[i].master, s.Why))
		} else {
			masters = append(masters, s.Master)
		}
		replicas, inSync := len(s.MasterNode().Replicas), int(w.InSync.Load())
		if n == 0 || replicas < st.Replicas {
			st.Replicas = replicas
		}
		if n == 0 || inSync < st.InSync {
			st.InSync = inSync
		}
		if s.Since.After(st.Since) {
			st.Since = s.Since
		}
		if s.Heard.After(st.Heard) {
			st.Heard = s.Heard
		}
		st.Held += w.Waiting()
		st.Unknown += w.Stats.Unknown.Load()
		st.Operations += w.Stats.Operations.Load()
		for b := range st.Batches {
			st.Batches[b] += w.Stats.Batches[b].Load()
		}
	}
	if st.Why = strings.Join(missing, "; "); st.Why == "" {
		// If any shard lacks a master, there is none: callers use this to learn whether all writes
		// can succeed.
		st.Master, st.Why = strings.Join(masters, ","), "every slot has a master"
	}
	return st
}

// over reports whether run has ended, or is about to.
func (c *Cluster) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}
