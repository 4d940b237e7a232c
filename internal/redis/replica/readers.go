// Package replica answers reads that need not come from the master: from replicas, and from a cache
// in this process. What it cannot answer goes to the group commit.
package replica

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/cache"
	"holdfast/internal/redis/command"
	"holdfast/internal/redis/config"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
	"holdfast/internal/redis/resp"
	"holdfast/internal/redis/rewrite"
)

// cacheTTL bounds how long a value stays in the cache without being asked for again.
const cacheTTL = time.Minute

// cacheTrust is how old a value of the cache may be. For so long after the last round in which the
// master answered as one, and after the last answered question on the cache's own connection, its
// invalidations are considered complete. Rounds come every SteadyInterval, and that question is
// asked every cacheAsks and may take that long.
const (
	cacheTrust = 1200 * time.Millisecond
	cacheAsks  = 400 * time.Millisecond
)

// replicaTimeout bounds one read of a replica; the master answers after it. Commands that are not
// brief get slowReplicaTimeout, on a connection of their own: brief ones must not wait behind them,
// nor cut them off.
const (
	replicaTimeout     = 300 * time.Millisecond
	slowReplicaTimeout = time.Second
)

// replicaRest is how long a replica that did not answer is left alone. maxAsking is how
// many requests may wait for one replica.
const (
	replicaRest = time.Second
	maxAsking   = 256
)

// replicaPart is how many commands go to a replica at once. The answer to each may be as
// long as that part of what an answer may be, because the memory of all of them is not
// counted before they are there.
const replicaPart = 16

// Readers answer reads that need not come from the master: from replicas, and from a cache
// in this process that the master invalidates (manual, "Client-side caching in Redis").
// What they cannot answer goes to the writer.
type Readers struct {
	cfg     config.Config
	monitor *discovery.Monitor
	cache   atomic.Pointer[cacheConn] // of the present master; nil: no master is known yet
	turn    atomic.Uint32             // of the replicas

	mu       sync.Mutex
	replicas map[string]*replicaConn // by address, and with slowLink before it
	ended    bool
}

// replicaConn is a connection to a replica, and what is under way on it.
type replicaConn struct {
	*conn.Client
	unseen  [64]atomic.Int32 // how many commands about unseen keys are under way
	asking  atomic.Int64     // requests under way
	slow    atomic.Bool      // a request that is not brief is among them
	resting atomic.Int64     // until when it is left alone, in Unix nanoseconds
}

// cacheConn is a connection to a master that keeps the values that were read on it.
type cacheConn struct {
	*conn.Client
	values atomic.Pointer[cache.Cache] // of the newest connection
}

func newCacheConn(cfg config.Config, master string) *cacheConn {
	l := &cacheConn{}
	o := cfg.Options()
	o.NewCache = func() rueidis.CacheStore {
		values := cache.New(cfg.CacheBytes)
		l.values.Store(values)
		return values
	}
	l.Client = conn.New(o, master, conn.Caching)
	return l
}

// New returns readers of the nodes that a monitor knows. They answer while Run runs.
func New(cfg config.Config, m *discovery.Monitor) *Readers {
	return &Readers{cfg: cfg, monitor: m, replicas: map[string]*replicaConn{}}
}

// Run makes the cache anew when the master changes, and drops connections to replicas that
// are gone, until the context ends.
func (c *Readers) Run(ctx context.Context) {
	var closing sync.WaitGroup
	closing.Go(func() { c.listen(ctx) })
	for ctx.Err() == nil {
		s, changed := c.monitor.Now()
		if old := c.cache.Load(); s.Master != "" && (old == nil || old.Address != s.Master) {
			c.cache.Store(newCacheConn(c.cfg, s.Master))
			if old != nil {
				closing.Go(old.Stop)
			}
		} else if old != nil && s.Master == "" {
			old.Cut() // so that the requests on it wait no longer
		}
		for _, l := range c.gone(s) {
			closing.Go(l.Stop)
		}
		tick := time.NewTimer(discovery.LearnInterval)
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
		}
		tick.Stop()
	}
	c.mu.Lock()
	c.ended = true
	for _, l := range c.replicas {
		closing.Go(l.Stop)
	}
	c.mu.Unlock()
	if l := c.cache.Swap(nil); l != nil {
		closing.Go(l.Stop)
	}
	closing.Wait()
}

// gone removes the connections whose nodes are no replicas any more, and returns them.
func (c *Readers) gone(s election.Snapshot) (gone []*replicaConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, l := range c.replicas {
		known := false
		for _, r := range s.MasterNode().Replicas {
			known = known || r.Address == l.Address
		}
		if !known && s.Master != "" {
			gone = append(gone, l)
			delete(c.replicas, name)
		}
	}
	return gone
}

// Read answers a request that only reads. It reports false if the master has to.
func (c *Readers) Read(ctx context.Context, r *request.Request, o *operation.Operation) bool {
	if r.Read == request.ReadCached {
		return c.cached(ctx, r, o)
	}
	return c.Replica(ctx, r, o)
}

// cached answers GET of one key from the cache, which asks the master for what it does not
// have. A value may be out of date for as long as an invalidation takes to arrive, and for
// cacheTrust at most.
func (c *Readers) cached(ctx context.Context, r *request.Request, o *operation.Operation) bool {
	if !Cacheable(r) {
		return false
	}
	l := c.cache.Load()
	if l == nil || !c.monitor.Fresh(l.Address, time.Now(), cacheTrust) {
		return false
	}
	// This needs no deadline: the connection is cut when its node is no master any
	// more.
	if !c.shortInCache(ctx, l, r.Commands[0], o) {
		return false
	}
	asked := time.Now()
	a := l.DoCache(ctx, l.B().Get().Key(r.Commands[0][1]).Cache(), cacheTTL)
	m, err := a.ToMessage()
	result, ok := request.ResultOf(m, err)
	ok = ok && o.TakeRoom(&m)
	if ok && !a.IsCacheHit() {
		l.Hear(asked)
	}
	if !ok || !c.trusted(l, time.Now()) {
		return false
	}
	r.Results = append(r.Results, result)
	r.From = request.ReadCached
	if !a.IsCacheHit() {
		r.Node = l.Address
	}
	return true
}

// shortInCache reports whether a value is short enough for the cache, on whose connection
// all requests wait for each other. If its length is not known, the master is asked.
func (c *Readers) shortInCache(ctx context.Context, l *cacheConn, get command.Command, o *operation.Operation) bool {
	lengths := &c.cfg.Answers.Lengths
	length, known := lengths.Of(o.Learns)
	if !known && o.Learns != 0 {
		n, err := l.Do(ctx, l.B().Strlen().Key(get[1]).Build()).AsInt64()
		if err != nil {
			return false
		}
		lengths.Learn(o.Learns, n)
		length, _ = lengths.Of(o.Learns)
	}
	return length <= meter.MaxAnswer
}

// trusted reports whether the cache's values are no older than they may be.
func (c *Readers) trusted(l *cacheConn, now time.Time) bool {
	return c.monitor.Fresh(l.Address, now, cacheTrust) && l.Silence(now) < cacheTrust
}

// listen pings on the cache's connection while it is in use. The reply comes after all
// invalidations that were sent before it, so the cache is up to date as of the ping.
func (c *Readers) listen(ctx context.Context) {
	tick := time.NewTicker(cacheAsks)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		l := c.cache.Load()
		if l == nil || l.Only() == nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, cacheAsks)
		asked := time.Now()
		if err := l.Do(limited, l.B().Ping().Build()).Error(); err == nil {
			l.Hear(asked)
		} else if l.Silence(time.Now()) >= cacheTrust {
			l.Cut() // the requests on it fail, and the next one connects anew
		}
		cancel()
	}
}

// Hit returns the value of a key from the cache; nil: the cache does not have it. It keeps
// no reference to the key.
func (c *Readers) Hit(key string, now time.Time) *cache.Value {
	l := c.cache.Load()
	if l == nil || !c.trusted(l, now) {
		return nil
	}
	if values := l.values.Load(); values != nil {
		return values.Look(key, now)
	}
	return nil
}

// Replica answers from one of the replicas that are not behind.
func (c *Readers) Replica(ctx context.Context, r *request.Request, o *operation.Operation) bool {
	if o.Script != nil && !o.Script.ReadOnly {
		return false
	}
	limit := r.MaxLag
	if limit == 0 {
		limit = c.cfg.MaxLag
	}
	after, ok := request.OffsetOf(r.After)
	if !ok {
		return false
	}
	s, _ := c.monitor.Now()
	list := s.MasterNode().Replicas
	turn := int(c.turn.Add(1))
	for i := range list {
		rep := list[(turn+i)%len(list)]
		for _, n := range s.Nodes { // the replica's own reply is newer than its master's
			if n.Address == rep.Address && n.Answered && !n.Master && n.Linked {
				rep.Offset = max(rep.Offset, n.Offset)
			}
		}
		age, known := c.monitor.Age(rep.Offset)
		if !known || age > limit {
			continue
		}
		if c.ask(ctx, rep.Address, r, o, after) {
			r.From, r.Node, r.Lag = request.ReadReplica, rep.Address, age
			return true
		}
		if o.Aside() && o.Silences > 0 {
			return false
		}
	}
	return false
}

// ask asks one replica. It does not answer unless the replica has the offset after.
func (c *Readers) ask(ctx context.Context, addr string, r *request.Request, o *operation.Operation, after int64) (answered bool) {
	l, timeout := c.link(addr, addr), replicaTimeout
	if o.Aside() {
		l, timeout = c.link(slowLink+addr, addr), slowReplicaTimeout
	}
	if l == nil || time.Now().UnixNano() < l.resting.Load() {
		return false
	}
	// The library's queue has 1,024 places. A request that finds it full waits without
	// a deadline.
	defer l.asking.Add(-1)
	if l.asking.Add(1) > maxAsking {
		return false
	}
	if o.Aside() {
		// A busy replica confirms no writes, so everybody's writes would wait for it.
		if !l.slow.CompareAndSwap(false, true) {
			return false
		}
		defer l.slow.Store(false)
	}
	if o.Unseen {
		// The answers of many such commands may be long. The master is asked for their length first.
		same := &l.unseen[o.Learns>>1%uint64(len(l.unseen))]
		defer same.Add(-1)
		if same.Add(1) > meter.UnseenTwice {
			return false
		}
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if o.Aside() {
		ok, err := o.Affordable(limited, l.Client, len(c.cfg.Cluster) > 0)
		if err != nil && ctx.Err() == nil {
			l.rest()
		}
		if !ok {
			return false // the master gives the reason
		}
	}
	b := l.B()
	cmds := rueidis.Commands{b.Role().Build()}
	if len(c.cfg.Cluster) > 0 {
		// Without it a replica sends us to its master (manual, READONLY).
		cmds = rueidis.Commands{b.Readonly().Build(), cmds[0]}
	}
	switch {
	case o.Script != nil:
		cmds = append(cmds, b.EvalRo().Script(o.Script.Source).Numkeys(int64(len(o.Keys))).Key(o.Keys...).Arg(o.Args...).Build())
	case o.Atomic:
		return false // a transaction has a connection to itself, at the master
	}
	if o.Bounded != operation.Unbounded {
		cmds = operation.InPair.Encode(b, cmds, o.Cmds[0][1])
	} else {
		for _, cmd := range o.Cmds {
			cmds = append(cmds, operation.Plain(b, cmd))
		}
	}
	cmds = append(cmds, b.Role().Build()) // what the answers show is no newer
	cuts := l.Cuts.Load()
	var answers []rueidis.RedisResult
	for part := range slices.Chunk(cmds, replicaPart) {
		some := l.DoMulti(limited, part...)
		answers = append(answers, some...)
		if some[len(some)-1].NonRedisError() != nil {
			break
		}
		for i := range some {
			m, err := some[i].ToMessage()
			if o.Unseen && len(some) == len(cmds) && i == len(some)-2 {
				o.Teach([]request.Result{{Reply: resp.FromMessage(m)}})
			}
			if err == nil && !o.TakeRoom(&m) {
				return false
			}
		}
	}
	defer func() {
		if !answered {
			o.Drop()
			o.Spent = 0
		}
	}()
	if ctx.Err() != nil {
		return false // the caller has gone; that says nothing of the replica
	}
	if err := answers[len(answers)-1].NonRedisError(); err != nil {
		if !outcome.Dialling(err) {
			o.Silences++
		}
		l.rest()
		return false
	}
	if len(c.cfg.Cluster) > 0 {
		answers = answers[1:]
	}
	role, err := answers[0].ToArray()
	if err != nil {
		return false
	}
	standing, _, ok := discovery.ParseRole(role)
	if !ok || standing.Master || !standing.Linked || standing.Offset < after {
		return false
	}
	if l.Cuts.Load() != cuts {
		for i := range answers {
			m, _ := answers[i].ToMessage()
			if yes, _ := meter.IsCut(&m); yes {
				return false // the master's answer may be longer
			}
		}
	}
	last := len(answers) - 1
	role, err = answers[last].ToArray()
	if err != nil {
		return false
	}
	standing, _, ok = discovery.ParseRole(role)
	if !ok || standing.Master {
		return false
	}
	own := answers[1:last]
	if o.Bounded != operation.Unbounded {
		if own = o.ShortOf(own); own == nil {
			return false
		}
	}
	r.Token = request.TokenOf(max(after, standing.Offset))
	for _, a := range own {
		result, ok := request.ResultOf(a.ToMessage())
		if !ok {
			r.Results, r.Token = r.Results[:0], ""
			return false
		}
		r.Results = append(r.Results, result)
	}
	o.Teach(r.Results)
	if o.Script == nil {
		rewrite.HideReserved(o.Cmds, r.Results)
	}
	return true
}

// rest leaves a replica alone that did not answer.
func (l *replicaConn) rest() {
	l.resting.Store(time.Now().Add(replicaRest).UnixNano())
	l.Cut() // with it go the other requests that wait for it
}

// slowLink begins the name of a replica's second connection, before its address.
const slowLink = "slow "

// link returns the connection of a name to a replica; nil: the readers have ended.
func (c *Readers) link(name, addr string) *replicaConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	l := c.replicas[name]
	if l == nil {
		l = &replicaConn{Client: c.cfg.ConnTo(addr, conn.Pipelining)}
		l.Each.Budget = int64(c.cfg.MaxAnswer / replicaPart)
		c.replicas[name] = l
	}
	return l
}

// Cacheable reports whether the cache could answer the request: see Readers.cached.
func Cacheable(r *request.Request) bool {
	if len(r.Commands) != 1 || r.After != "" {
		return false
	}
	cmd := r.Commands[0]
	return len(cmd) == 2 && strings.EqualFold(cmd[0], "GET")
}
