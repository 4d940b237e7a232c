package redis

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"holdfast/internal/redis/cluster"
	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/pubsub"
	"holdfast/internal/redis/readpipe"
	"holdfast/internal/redis/replica"
	"holdfast/internal/redis/request"
)

// Client reads from and writes to the master, whichever node that is. Its methods are
// safe for concurrent use. They work only while Run runs.
type Client struct {
	cfg     Config
	monitor *discovery.Monitor
	writer  *commit.Writer
	readers *replica.Readers
	// cluster takes the place of writer and readers if Redis is a cluster; monitor then
	// follows the master of some shard. Otherwise it is nil.
	cluster *cluster.Cluster

	maker *operation.Maker // of the operations of requests
	// published has the messages that clients subscribe to, and changes the keys that
	// changed: see subscribe.go.
	published, changes *pubsub.Broker
	concluding         func(o *operation.Operation, over bool, err error) // conclude, made once
	errands            errands                                            // the goroutines that wait for requests of Start
}

// New makes a client, which connects when Run runs.
func New(cfg Config) (*Client, error) {
	cfg = cfg.WithDefaults()
	switch {
	case len(cfg.Sentinels) > 0 && cfg.MasterName == "":
		return nil, errors.New("redis: Sentinels are given, but not the name of the master that they watch")
	case len(cfg.Sentinels) == 0 && len(cfg.Cluster) == 0 && cfg.Address == "":
		return nil, errors.New("redis: neither Sentinels nor a cluster nor an address is given")
	case len(cfg.Cluster) > 0 && cfg.DB != 0:
		return nil, errors.New("redis: a cluster has no other database than 0")
	case cfg.AckTimeout < time.Millisecond:
		return nil, errors.New("redis: a replica needs a millisecond at least to confirm a write")
	case cfg.MinAcks < 0:
		return nil, errors.New("redis: the number of replicas that must confirm a write is negative")
	}
	if len(cfg.Cluster) > 0 {
		cfg.Sentinels, cfg.Address = nil, ""
		c := cluster.New(cfg)
		return &Client{
			cfg: cfg, cluster: c, monitor: c.Anchor,
			maker: c.Maker, published: pubsub.NewBroker(cfg.Options(), cfg.Logger, c.Anchor),
		}, nil
	}
	m := discovery.New(cfg.MonitorConfig())
	c := &Client{
		cfg: cfg, monitor: m, writer: commit.New(cfg, m), readers: replica.New(cfg, m),
		maker: operation.NewMaker(cfg, m, false), published: pubsub.NewBroker(cfg.Options(), cfg.Logger, m), changes: pubsub.NewBroker(cfg.Options(), cfg.Logger, m),
	}
	c.concluding = c.conclude
	c.writer.CompareClocks(once.NewClocks(cfg, m))
	return c, nil
}

// Run finds the master, follows it, and carries operations out. It returns when the
// context has ended and all its goroutines have. End the context when no operation is
// under way any more, because such operations fail.
func (c *Client) Run(ctx context.Context) {
	defer c.errands.end() // last: they end when the operations have that they wait for
	var parts sync.WaitGroup
	if c.cluster != nil {
		parts.Go(func() { c.cluster.Run(ctx) })
		parts.Go(func() { c.published.Run(ctx) })
		parts.Wait()
		return
	}
	parts.Go(func() { c.monitor.Run(ctx) })
	parts.Go(func() { c.writer.Run(ctx) })
	parts.Go(func() { c.writer.Clocks.Run(ctx) })
	parts.Go(func() { c.writer.Clocks.RunLists(ctx) })
	parts.Go(func() { c.readers.Run(ctx) })
	parts.Go(func() { c.published.Run(ctx) })
	parts.Go(func() { c.changes.Run(ctx) })
	parts.Wait()
}

// Do carries a request out. It returns when every in-sync replica, and at least
// Config.MinAcks replicas, have what the request wrote; or, for a read, when every
// in-sync replica has what it saw. It takes about Config.Hold at most, even if the
// context has more time. Until then it tries again, also at a new master: what certainly
// was not carried out, what only reads, and what writes with an idempotency key.
//
// The error is an *Error, and means that the request as a whole got no answer. The error
// of a single command is in its Result.
func (c *Client) Do(ctx context.Context, r *Request) error {
	r.Release()
	err := c.do(ctx, r)
	if err != nil {
		r.Release() // of the parts that have an answer
	}
	return err
}

// do is Do for a request or a part of one. A part goes on with r.Spent of the parts before.
func (c *Client) do(ctx context.Context, r *Request) error {
	r.Results, r.From, r.Node, r.Lag, r.Token = r.Results[:0], ReadMaster, "", 0, ""
	if c.cluster != nil {
		return c.cluster.Do(ctx, r)
	}
	o, err := c.maker.Make(ctx, r)
	if err != nil {
		return err
	}
	if o.HasWaiting(r) {
		o.Free()
		return c.doInParts(ctx, r)
	}
	if o.Aside() && !o.Atomic && len(o.Cmds) > 1 {
		return c.doInSlices(ctx, r, o)
	}
	return c.carryOut(ctx, r, o)
}

// carryOut has an operation of a request carried out, and fills in its answer.
func (c *Client) carryOut(ctx context.Context, r *Request, o *operation.Operation) error {
	if !o.Writes && !o.Local && r.Read != ReadMaster {
		if c.readers.Read(ctx, r, o) {
			defer o.Free()
			return o.Claim(r)
		}
		if !o.Brief && o.Silences > 0 {
			o.Free()
			return &Error{Kind: GivenUp, Cause: operation.ErrSilenced}
		}
	}
	return c.finish(ctx, r, o, false, nil)
}

// finish has an operation carried out until it has its outcome, and fills in the answer.
// again is true if there was an attempt already, with the outcome err.
func (c *Client) finish(ctx context.Context, r *Request, o *operation.Operation, again bool, err error) error {
	over := true
	if !again {
		over, err = c.writer.Do(ctx, o)
	}
	if over && err == operation.ErrLarge {
		c.maker.Enlarge(o)
		over, err = c.writer.PutAside(ctx, o)
	}
	if err == commit.ErrNoScript {
		over, err = c.writer.ByExec(ctx, o)
	}
	if over && err == operation.ErrNoRoom {
		c.maker.Enlarge(o)
		over, err = c.writer.WithRoom(ctx, o)
	}
	if over {
		defer o.Free()
	}
	if err == nil {
		err = c.tell(r, o)
	}
	if KindOf(err) == Unknown {
		c.writer.Stats.Unknown.Add(1)
	}
	return err
}

// tell fills in the answer of an operation that was carried out. It is a function of its
// own because of the stack that it needs: as a part of Do, it would take that stack from
// every connection of a server while Do waits.
//
//go:noinline
func (c *Client) tell(r *Request, o *operation.Operation) error {
	if err := o.Claim(r); err != nil {
		return err
	}
	r.Results = append(r.Results, o.Outcome()...)
	r.Node = c.monitor.State().Master
	if o.HasOffset {
		r.Token = request.TokenOf(o.Offset)
	}
	return nil
}

// Status returns what the client knows now. It asks no Redis.
func (c *Client) Status() Status {
	if c.cluster != nil {
		return c.cluster.Status()
	}
	s, _ := c.monitor.Now()
	st := Status{
		Master: s.Master, Why: s.Why, Since: s.Since, Found: s.Found, Heard: s.Heard,
		Replicas: len(s.MasterNode().Replicas), InSync: min(int(c.writer.InSync.Load()), len(s.MasterNode().Replicas)), Held: c.writer.Waiting(),
		Unknown: c.writer.Stats.Unknown.Load(), Operations: c.writer.Stats.Operations.Load(),
	}
	for i := range st.Batches {
		st.Batches[i] = c.writer.Stats.Batches[i].Load()
	}
	return st
}

// Spec returns what Redis says of a command; nil: Redis knows none of that name. If Redis has not
// been asked yet, Spec waits for its answer, for Config.Hold at most. The error is an *Error.
func (c *Client) Spec(ctx context.Context, cmd Command) (*Spec, error) { return c.maker.Spec(ctx, cmd) }

// Known is Spec for a caller that does not wait. It also returns nil if Redis would have to be
// asked.
func (c *Client) Known(cmd Command) *Spec { return c.maker.Known(cmd) }

// Express connects to the present master. The caller owns the connection, which is of a
// kind that the kernel polls. The error is errors.ErrUnsupported if there can never be
// such a connection, as with TLS, which the kernel does not poll.
func (c *Client) Express(ctx context.Context) (*Express, net.Conn, error) {
	if c.writer == nil {
		return nil, nil, errors.ErrUnsupported
	}
	return readpipe.Connect(ctx, c.writer)
}

// Master returns the present master's host:port; empty: there is none.
func (c *Client) Master() string {
	return c.monitor.State().Master
}
