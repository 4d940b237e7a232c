package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"holdfast/internal/backup"
	"holdfast/internal/clock"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/private"
	"holdfast/internal/redis"
)

// Which redis node a backup copies, and how it is certain that the copy has every write that was
// acknowledged before. First the master is asked for its position in the replication stream.
// Then a replica is copied that has reached at least that position. Redis reports the position
// of the copy, so this is checked and not assumed. If the node dies meanwhile, another one is
// copied.

const (
	// sourceLimit is how long a backup waits for a master, and a replica in step with it, for
	// example during a failover.
	sourceLimit = 30 * time.Second
	// catchUp is how long a replica may take to reach the master's position.
	catchUp = 10 * time.Second
	// sourceTries is how many nodes are tried if they die while they are copied.
	sourceTries = 3
	// memoryCheck is how often the machine's free memory is read during the copy.
	memoryCheck = 250 * time.Millisecond
	// spareMemory is how much memory a backup leaves free, in bytes.
	spareMemory = 64 << 20
	// forkShare is the part of a node's memory, as a divisor, that has to be free beside
	// spareMemory. The node's child shares its memory, except for pages that are written
	// meanwhile.
	forkShare = 4
)

// stackClients holds the redis nodes and Sentinels of a stack, for a caller without a supervisor.
type stackClients struct {
	d         dir
	stack     string
	password  string
	secrets   []byte // stack.json
	addresses map[string]string
	way       redis.Way
	admins    map[string]*redis.Admin
	appointed string
	sentinels int
}

// newStackClients finds the nodes at the addresses that they were started with last.
func newStackClients(c BackupConfig) (*stackClients, error) {
	ctx, d, all := context.Background(), dirAt(c.StateDir), hostsAt(c.StateDir)
	p, err := Preview(c.Stack, c.BaseDir, c.StateDir)
	if err != nil {
		return nil, err
	}
	state, err := d.readState()
	if err != nil {
		return nil, err
	}
	way, err := Way(c.StateDir, p.Stack)
	if err != nil {
		return nil, err
	}

	m := &stackClients{
		d: d, way: way, stack: p.Name, password: state.Secrets.Operator,
		addresses: map[string]string{}, admins: map[string]*redis.Admin{},
		appointed: cmp.Or(state.Redis.Replication.Master, plan.FirstMaster),
	}
	if m.secrets, err = private.Read(d.path(stateFile)); err != nil {
		return nil, err
	}

	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			if !process.Kind.Traits().Admin {
				continue
			}
			if process.Kind == plan.Sentinel {
				m.sentinels++
			}
			name := process.Node
			m.addresses[name] = cmp.Or(all.hostWithRecord(ctx, name).running(ctx, name), process.Address)
			m.admins[name] = redis.NewAdmin(m.way, m.addresses[name], "operator", m.password)
		}
	}

	if m.admins[plan.FirstMaster] == nil {
		return nil, refused("the stack has no Redis, and so no data")
	}
	return m, nil
}

func (m *stackClients) close() {
	for _, a := range m.admins {
		a.Close()
	}
}

// gather asks all redis nodes and Sentinels at once, and waits for at most a second.
func (m *stackClients) gather(ctx context.Context) redisFacts {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()

	f := redisFacts{Nodes: map[string]string{}, Standings: map[string]redis.Standing{}, Sentinels: m.sentinels, Appointed: m.appointed}
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, admin := range m.admins {
		if isRedis(name) {
			f.Nodes[name] = m.addresses[name]
		}
		all.Go(func() {
			if isSentinel(name) {
				if v, err := admin.View(ctx, m.stack); err == nil {
					mu.Lock()
					defer mu.Unlock()
					f.Views = append(f.Views, v)
				}
				return
			}
			if st, err := admin.Standing(ctx); err == nil {
				mu.Lock()
				defer mu.Unlock()
				f.Standings[name] = st
			}
		})
	}

	all.Wait()
	return f
}

// copySource is a node to copy.
type copySource struct {
	node, role string
	begun      time.Time
	// master is the master when the backup began. id and offset are its replication id and its
	// position then.
	master, id string
	offset     int64
}

// findSource returns the node to copy: a replica in step with the master, if possible one that
// does not fork already, or else the master. It leaves out the nodes in skip.
func (m *stackClients) findSource(ctx context.Context, skip map[string]bool) (copySource, error) {
	f := m.gather(ctx)
	master := m.appointed
	if m.sentinels > 0 {
		address, _, err := f.master()
		if err != nil {
			return copySource{}, err
		}
		master = f.nameOf(address)
	}
	if !f.Standings[master].Master {
		return copySource{}, fmt.Errorf("no node is the master: %s was named, and does not say so", cmp.Or(master, "one that is not in the stack"))
	}

	burden, err := m.admins[master].Burden(ctx)
	if err != nil {
		return copySource{}, err
	}
	s := copySource{master: master, id: burden.ID, begun: time.Now()}
	// The offset is read after begun, so it covers every write that was acknowledged before
	// begun.
	standing, err := m.admins[master].Standing(ctx)
	if err != nil || !standing.Master {
		return copySource{}, errors.Join(fmt.Errorf("%s is not the master any more", master), err)
	}
	s.offset = standing.Offset

	var replicas []string
	forked := map[string]bool{}
	for _, name := range replicasOf(f, master) {
		st := f.Standings[name]
		if st.Master || !st.Linked || st.MasterAddress != m.addresses[master] || skip[name] {
			continue
		}
		burden, err := m.admins[name].Burden(ctx)
		if err != nil || burden.ID != s.id {
			continue
		}
		replicas, forked[name] = append(replicas, name), burden.Forked
	}

	// A node that forks already would start the copy only after that.
	slices.SortStableFunc(replicas, func(a, b string) int {
		switch {
		case forked[a] == forked[b]:
			return 0
		case forked[b]:
			return -1
		}
		return 1
	})

	for _, name := range replicas {
		if within(ctx, catchUp, switchPoll, func(ctx context.Context) bool {
			st, err := m.admins[name].Standing(ctx)
			return err == nil && st.Linked && st.Offset >= s.offset
		}) {
			s.node, s.role = name, "replica"
			return s, nil
		}
	}

	if skip[master] {
		return copySource{}, errors.New("no other redis node can be copied")
	}
	s.node, s.role = master, "master"
	return s, nil
}

// awaitSource tries findSource for up to sourceLimit.
func (m *stackClients) awaitSource(ctx context.Context, skip map[string]bool) (s copySource, err error) {
	if !within(ctx, sourceLimit, 200*time.Millisecond, func(ctx context.Context) bool {
		s, err = m.findSource(ctx, skip)
		return err == nil
	}) {
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		return s, fmt.Errorf("no redis node can be backed up: %w", err)
	}
	return s, nil
}

// copyData writes the data of one node to the file, as a backup. If the node is lost, it begins
// again with another.
func (c BackupConfig) copyData(ctx context.Context, f *os.File) (backup.Manifest, error) {
	m, err := newStackClients(c)
	if err != nil {
		return backup.Manifest{}, err
	}
	defer m.close()

	died := map[string]bool{}
	for {
		s, err := m.awaitSource(ctx, died)
		if err != nil {
			return backup.Manifest{}, err
		}
		manifest, err := c.copyFrom(ctx, m, s, f)
		lost := new(lostSource)
		if err == nil || !errors.As(err, &lost) || ctx.Err() != nil || len(died)+1 >= sourceTries {
			return manifest, err
		}
		c.Log.Warn("a redis node was lost while it was copied: another one is", "node", s.node, "error", err)
		died[s.node] = true
		if err := f.Truncate(0); err != nil {
			return backup.Manifest{}, err
		}
	}
}

// lostSource is an error of the node that is copied, and not of the place where the copy goes.
type lostSource struct{ err error }

func (e *lostSource) Error() string { return e.err.Error() }
func (e *lostSource) Unwrap() error { return e.err }

// copyFrom writes the data of a node to the file.
func (c BackupConfig) copyFrom(ctx context.Context, m *stackClients, s copySource, f *os.File) (backup.Manifest, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := m.checkMemory(ctx, s); err != nil {
		return backup.Manifest{}, err
	}

	as := ""
	if others := replicasOf(redisFacts{Nodes: m.redisAddresses()}, s.node); s.role == "master" && len(others) > 0 {
		as = m.addresses[others[0]]
	}

	copied := &copiedNode{ctx: ctx, m: m, s: s, as: as, began: c.Began}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchMemory(ctx, cancel)
	}()
	defer func() {
		copied.close()
		cancel(nil)
		<-watched
	}()

	manifest, err := backup.Write(f, copied, backup.Manifest{
		Stack: c.Stack.Name, Begun: s.begun.UTC().Truncate(time.Millisecond), Node: s.node, Role: s.role,
		Versions: backup.Versions{Holdfast: c.Version},
	}, c.Encrypt, m.secrets, func(manifest *backup.Manifest) {
		manifest.Seconds = time.Since(s.begun).Seconds()
		manifest.Replication = backup.Replication{ID: copied.dump.ID, Offset: copied.dump.Offset, MasterOffset: s.offset}
	})

	if refusal := new(RefusedError); err != nil && errors.As(context.Cause(ctx), &refusal) {
		return manifest, refusal
	}
	if copied.err != nil {
		return manifest, &lostSource{fmt.Errorf("copy the data of %s: %w", s.node, copied.err)}
	}
	return manifest, err
}

// copiedNode reads the data of a node. It requests the data only at the first Read, because a
// node that waits for its reader stays forked, and gives up after repl-timeout.
type copiedNode struct {
	ctx context.Context
	m   *stackClients
	s   copySource
	// as is the address under which a master shows the copy in INFO: see redis.OpenDump.
	as    string
	began func(node string)
	dump  *redis.Dump
	err   error // an error of the node
}

// Read implements io.Reader. It keeps an error of the node in err, apart from errors of the
// writer.
func (n *copiedNode) Read(p []byte) (int, error) {
	if n.dump == nil && n.err == nil {
		n.err = n.open()
	}
	if n.err != nil {
		return 0, n.err
	}
	got, err := n.dump.Read(p)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return got, err
}

// open requests the data, and checks that its position is not before that of the master.
func (n *copiedNode) open() (err error) {
	s := n.s
	if n.dump, err = redis.OpenDump(n.ctx, n.m.way, n.m.addresses[s.node], "operator", n.m.password, n.as); err != nil {
		return err
	}
	// This proves that every acknowledged write is in the copy.
	if n.dump.ID != s.id || n.dump.Offset < s.offset {
		return fmt.Errorf("it sends its data as of %s:%d, and the master %s had got to %s:%d: another one has become the master", n.dump.ID, n.dump.Offset, s.master, s.id, s.offset)
	}
	if err := n.dump.Begin(); err != nil {
		return err
	}
	if n.began != nil {
		n.began(s.node)
	}
	return nil
}

func (n *copiedNode) close() {
	if n.dump != nil {
		n.dump.Close()
	}
}

func (m *stackClients) redisAddresses() map[string]string {
	addresses := map[string]string{}
	for name, address := range m.addresses {
		if isRedis(name) {
			addresses[name] = address
		}
	}
	return addresses
}

// checkMemory refuses the backup if the machine has too little free memory for the node's fork.
func (m *stackClients) checkMemory(ctx context.Context, s copySource) error {
	burden, err := m.admins[s.node].Burden(ctx)
	if err != nil {
		return &lostSource{err}
	}
	need := burden.Memory/forkShare + spareMemory
	if free, known := machine.FreeMemory(); known && free < need {
		return refused("the machine has %d MiB of free memory, and a backup needs %d: %s, which has %d MiB of data, forks for it, and what is written meanwhile takes memory twice",
			free>>20, need>>20, s.node, burden.Memory>>20)
	}
	return nil
}

// watchMemory ends a backup that uses up the machine's last memory.
func watchMemory(ctx context.Context, cancel context.CancelCauseFunc) {
	clock.Poll(ctx, memoryCheck, func() bool {
		free, known := machine.FreeMemory()
		if known && free < spareMemory {
			cancel(refused("the backup was ended, because the machine has only %d MiB of free memory left: what is written while a node is copied takes memory twice", free>>20))
			return true
		}
		return false
	})
}
