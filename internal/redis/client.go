package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/pubsub"
)

// Config is where Redis is, and what has to be true before a write is acknowledged. A
// zero value stands for the default that its field's comment names.
type Config struct {
	// Sentinels are host:port of every Sentinel. Without any, Address is a
	// single Redis.
	Sentinels  []string
	MasterName string // the Sentinels' name for the master
	Address    string // host:port of a single Redis
	// Cluster are host:port of some nodes of a Redis Cluster, instead.
	Cluster []string

	// Dial makes the connections to nodes and Sentinels; nil: by TCP from here.
	Dial conn.Dial

	// TLS is the TLS of connections to nodes and Sentinels; nil: none. If it has no
	// ServerName, the host of the address is verified.
	TLS *tls.Config

	// Username and Password are for the nodes, and for the Sentinels unless Sentinel is
	// set.
	Username, Password string
	// Sentinel is the login at the Sentinels; nil: that of the nodes. With an empty one,
	// the client does not log in there at all.
	Sentinel *Login
	// ScriptUser is the Redis user that runs the scripts of clients, and ReadScriptUser
	// that of requests with ReadScripts; nil: Username.
	ScriptUser, ReadScriptUser *Login

	DB   int
	Name string // of the connections, in CLIENT LIST
	// App is the application, where several use one Redis: each has idempotency keys of
	// its own.
	App string

	// MinAcks is how many replicas must have a write before it is
	// acknowledged, however few are in sync.
	MinAcks int
	// AckTimeout is how long an in-sync replica may take to confirm a write
	// before it no longer counts as in sync. Default 150 ms.
	AckTimeout time.Duration
	// Hold is how long an operation waits for a master that takes it.
	// Default 5 s.
	Hold time.Duration
	// MaxHeld bounds the operations that wait at once, and MaxHeldBytes their
	// data. Default 10,000 and 256 MiB.
	MaxHeld, MaxHeldBytes int
	// MaxLag is how old a replica's answer may be if the request has no MaxLag.
	// Default 1 s.
	MaxLag time.Duration
	// CacheBytes is how much memory the cache of values may take. Default
	// 64 MiB.
	CacheBytes int
	// MaxAnswer is how long the answer to one request may be: the bytes of its
	// strings, and 64 for each element of an array. Default 64 MiB.
	// MaxAnswers is how long all answers may be together that were read and are not
	// released yet (see Request.Release). The answers to writes may take as much again.
	// Default AnswersHeld times MaxAnswer.
	MaxAnswer, MaxAnswers int
	// IdempotencyTTL is how long a write with an idempotency key is
	// remembered. It has to be longer than all attempts of one write take,
	// those of a balancer included. Default 30 s, or six times Hold if that is
	// more.
	IdempotencyTTL time.Duration
	// RecordDB is the database with the records of such writes, so that DBSIZE, SCAN and
	// FLUSHDB of the data leave them alone. Default 15, the last one of a Redis with its
	// default settings; negative: the database of the data.
	RecordDB int
	answers  *answers // of all connections
	// Logger logs every change of the master. Default: no log.
	Logger *slog.Logger
}

// AnswersHeld is how many answers of the greatest length a Client has room for at once,
// unless Config.MaxAnswers is set. One client may have ClientAnswers of them.
const (
	AnswersHeld   = 6
	ClientAnswers = 4
)

// Login is a Redis user with its password; an empty name is the default user.
type Login struct{ Username, Password string }

// atSentinels returns the configuration of connections to Sentinels.
func (c Config) atSentinels() Config {
	if c.Sentinel != nil {
		c.Username, c.Password = c.Sentinel.Username, c.Sentinel.Password
	}
	return c
}

// alone reports whether Redis is a single server: no Sentinel and no cluster decides who
// the master is.
func (c Config) alone() bool { return len(c.Sentinels) == 0 && len(c.Cluster) == 0 }

func (c Config) withDefaults() Config {
	if c.AckTimeout == 0 {
		c.AckTimeout = 150 * time.Millisecond
	}
	if c.Hold == 0 {
		c.Hold = 5 * time.Second
	}
	if c.MaxHeld == 0 {
		c.MaxHeld = 10000
	}
	if c.IdempotencyTTL == 0 {
		c.IdempotencyTTL = max(30*time.Second, 6*c.Hold)
	}
	if c.MaxHeldBytes == 0 {
		c.MaxHeldBytes = 256 << 20
	}
	if c.MaxLag == 0 {
		c.MaxLag = time.Second
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.MaxAnswer == 0 {
		c.MaxAnswer = 64 << 20
	}
	if c.MaxAnswers == 0 {
		c.MaxAnswers = AnswersHeld * c.MaxAnswer
	}
	if c.answers == nil {
		c.answers = newAnswers(c.MaxAnswers, c.MaxAnswer)
	}
	if c.RecordDB == 0 {
		c.RecordDB = 15
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Client reads from and writes to the master, whichever node that is. Its methods are
// safe for concurrent use. They work only while Run runs.
type Client struct {
	cfg     Config
	monitor *discovery.Monitor
	writer  *writer
	readers *readers
	// cluster takes the place of writer and readers if Redis is a cluster; monitor then
	// follows the master of some shard. Otherwise it is nil.
	cluster *cluster

	commands commandSource
	// published has the messages that clients subscribe to, and changes the keys that
	// changed: see subscribe.go.
	published, changes *pubsub.Broker
	patterns           atomic.Int64                             // how many patterns the subscribers have together
	concluding         func(o *operation, over bool, err error) // conclude, made once
	errands            errands                                  // the goroutines that wait for requests of Start
}

// New makes a client, which connects when Run runs.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
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
		c := newCluster(cfg)
		return &Client{
			cfg: cfg, cluster: c, monitor: c.anchor,
			commands: newCommandSource(), published: pubsub.NewBroker(cfg.options(), cfg.Logger, c.anchor),
		}, nil
	}
	m := discovery.New(cfg.monitorConfig())
	c := &Client{
		cfg: cfg, monitor: m, writer: newWriter(cfg, m), readers: newReaders(cfg, m),
		commands: newCommandSource(), published: pubsub.NewBroker(cfg.options(), cfg.Logger, m), changes: pubsub.NewBroker(cfg.options(), cfg.Logger, m),
	}
	c.concluding = c.conclude
	c.writer.compareClocks(newClocks(cfg, m))
	return c, nil
}

// Run finds the master, follows it, and carries operations out. It returns when the
// context has ended and all its goroutines have. End the context when no operation is
// under way any more, because such operations fail.
func (c *Client) Run(ctx context.Context) {
	defer c.errands.end() // last: they end when the operations have that they wait for
	var parts sync.WaitGroup
	if c.cluster != nil {
		parts.Go(func() { c.cluster.run(ctx) })
		parts.Go(func() { c.published.Run(ctx) })
		parts.Wait()
		return
	}
	parts.Go(func() { c.monitor.Run(ctx) })
	parts.Go(func() { c.writer.run(ctx) })
	parts.Go(func() { c.writer.clocks.run(ctx) })
	parts.Go(func() { c.writer.clocks.runLists(ctx) })
	parts.Go(func() { c.readers.run(ctx) })
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

// do is Do for a request or a part of one. A part goes on with r.spent of the parts before.
func (c *Client) do(ctx context.Context, r *Request) error {
	r.Results, r.From, r.Node, r.Lag, r.Token = r.Results[:0], ReadMaster, "", 0, ""
	if c.cluster != nil {
		return c.doInCluster(ctx, r)
	}
	o, err := c.operation(ctx, r)
	if err != nil {
		return err
	}
	if o.hasWaiting(r) {
		o.free()
		return c.doInParts(ctx, r)
	}
	if o.aside() && !o.atomic && len(o.cmds) > 1 {
		return c.doInSlices(ctx, r, o)
	}
	return c.carryOut(ctx, r, o)
}

// carryOut has an operation of a request carried out, and fills in its answer.
func (c *Client) carryOut(ctx context.Context, r *Request, o *operation) error {
	if !o.writes && !o.local && r.Read != ReadMaster {
		if c.readers.read(ctx, r, o) {
			defer o.free()
			return c.claim(r, o)
		}
		if !o.brief && o.silences > 0 {
			o.free()
			return &Error{Kind: GivenUp, Cause: errSilenced}
		}
	}
	return c.finish(ctx, r, o, false, nil)
}

// finish has an operation carried out until it has its outcome, and fills in the answer.
// again is true if there was an attempt already, with the outcome err.
func (c *Client) finish(ctx context.Context, r *Request, o *operation, again bool, err error) error {
	over := true
	if !again {
		over, err = c.writer.do(ctx, o)
	}
	if over && err == errLarge {
		over, err = c.putAside(ctx, c.writer, o)
	}
	if err == errNoScript {
		over, err = c.writer.byExec(ctx, o)
	}
	if over && err == errNoRoom {
		c.enlarge(o)
		over, err = c.writer.withRoom(ctx, o)
	}
	if over {
		defer o.free()
	}
	if err == nil {
		err = c.tell(r, o)
	}
	if KindOf(err) == Unknown {
		c.writer.stats.unknown.Add(1)
	}
	return err
}

// tell fills in the answer of an operation that was carried out. It is a function of its
// own because of the stack that it needs: as a part of Do, it would take that stack from
// every connection of a server while Do waits.
//
//go:noinline
func (c *Client) tell(r *Request, o *operation) error {
	if err := c.claim(r, o); err != nil {
		return err
	}
	r.Results = append(r.Results, o.outcome()...)
	r.Node = c.monitor.State().Master
	if o.told {
		r.Token = tokenOf(o.offset)
	}
	return nil
}

// claim hands the room that an operation's answer takes to its request, or returns
// the error of a client that has too much of it already.
func (c *Client) claim(r *Request, o *operation) error {
	r.spent += o.spent
	if o.held == 0 {
		return nil
	}
	if !c.cfg.answers.Claim(r.Client, o.held, o.writes) {
		return &Error{Kind: Crowded, Cause: errOwnAnswers}
	}
	r.hold(c.cfg.answers.Ledger, o.held)
	o.held = 0
	return nil
}

// operation makes the operation of a request. The error is why the request is refused.
func (c *Client) operation(ctx context.Context, r *Request) (*operation, error) {
	o := operations.Get().(*operation)
	o.cmds, o.atomic, o.script, o.keys, o.args = r.Commands, r.Atomic, r.Script, r.Keys, r.Args
	o.async, o.wantToken, o.sender = r.Async, r.WantToken, r.Sender
	o.ledger, o.budget = c.cfg.answers, max(0, int64(c.cfg.MaxAnswer)-r.spent)
	if o.script != nil {
		o.writes = !o.script.readOnly
		o.size = size(o.keys) + size(o.args)
	}
	if len(o.cmds) == 0 && o.script == nil {
		return nil, &Error{Kind: Invalid, Cause: errNoCommand}
	}
	// carried: a script of ours can carry out each command that writes;
	// whole: all commands as one transaction.
	carried, whole := true, len(o.cmds) <= maxWhole
	o.brief = true // a script of ours is
	words, several := 0, len(o.cmds) > 1
	if len(o.cmds) == 1 {
		o.effects, o.frees = o.oneEffect[:], o.oneFree[:]
	} else {
		o.effects, o.frees = make([]bool, len(o.cmds)), make([]bool, len(o.cmds))
	}
	for i, cmd := range o.cmds {
		if len(cmd) == 0 || cmd[0] == "" {
			return nil, &Error{Kind: Invalid, Cause: errNoCommand}
		}
		spec, err := c.Spec(ctx, cmd)
		if err != nil {
			return nil, err
		}
		suspect := false
		for _, arg := range cmd[1:] {
			suspect = suspect || command.Reserved(arg)
			o.size += len(arg)
		}
		if suspect && !r.Own && namesReserved(spec, cmd) {
			return nil, &Error{Kind: Invalid, Cause: errReservedKey}
		}
		switch {
		case spec == nil:
			// Redis is the one to refuse a command that is not known here. But the client
			// library would take some names for commands of its own.
			if strings.HasSuffix(strings.ToUpper(cmd[0]), "SUBSCRIBE") {
				return nil, &Error{Kind: Invalid, Cause: errStateful}
			}
			o.effects[i] = true
			carried, o.brief = false, false
		case spec.Stateful:
			return nil, &Error{Kind: Invalid, Cause: fmt.Errorf("%w: %s", errStateful, spec.Name)}
		default:
			o.effects[i], o.frees[i] = spec.Write, spec.Write && !spec.Grows
			o.local = o.local || !spec.Replicated
			o.uses = appendUses(o.uses, spec.Name, cmd)
			o.brief = o.brief && spec.BriefFor(cmd) && !c.publishesToMany(spec, cmd)
			o.runsScript = o.runsScript || spec.RunsScript()
			several = several || spec.AnswerKind >= command.ByKeys
			if len(o.cmds) == 1 && (spec.AnswerKind == command.ByKey || spec.AnswerKind == command.ByField) {
				o.foresee(spec.AnswerKind, cmd)
			}
			// A command that waits would hold up everybody else on the connection. In a
			// transaction Redis answers it at once, as if its time were over.
			o.atomic = o.atomic || spec.Waits(cmd)
			// BITFIELD returns integers of 64 bits, and those of Lua have 53.
			carried = carried && (!spec.Write || !spec.NoScript && spec.Name != "bitfield")
		}
		o.size += len(cmd[0])
		words += len(cmd)
		o.writes = o.writes || o.effects[i]
		carried = carried && len(cmd) < maxScriptArgs
		whole = whole && carriable(spec, cmd, c.cluster != nil)
	}
	if o.runsScript {
		o.login = c.cfg.scriptLogin(r)
	}
	o.brief = o.brief && words <= command.BriefTogether && (len(o.cmds) <= 2*command.MaxNamed || o.script != nil || !c.readsAgain(o.cmds))
	if several {
		c.foreseeMany(o, r.wary)
	}
	o.large = o.large || r.Long
	if o.aside() && o.script == nil {
		o.bounded, o.estimates = unbounded, c.estimates(o)
	}
	if o.atomic {
		o.bounded = unbounded
	}
	if o.writes && r.IdempotencyKey != "" {
		o.record, o.attempt = recordKey(c.cfg.App, r), r.Attempt
		if o.atomic {
			carried = whole
		}
		o.guarded = o.script == nil && !carried
	}
	return o, nil
}

func size(args []string) int {
	n := 0
	for _, a := range args {
		n += len(a)
	}
	return n
}

// Status is what the client knows about Redis at a moment.
type Status struct {
	// Master is host:port; empty: there is no master now, and Why is the reason. For a
	// cluster it is the masters of all shards, with commas, and empty while any shard has
	// none. Replicas and InSync are then the smallest of all shards.
	Master string    `json:"master"`
	Why    string    `json:"why"`
	Since  time.Time `json:"since"`
	// Found is true if there was a master at some time.
	Found bool `json:"-"`
	// Heard is when any node or Sentinel last answered.
	Heard time.Time `json:"heard"`
	// Replicas is how many replicas are online at the master. InSync is how many of them
	// have to have a write before it is acknowledged.
	Replicas int `json:"replicas"`
	InSync   int `json:"inSync"`
	// Held is how many operations wait.
	Held int `json:"held"`
	// Unknown counts the requests whose outcome is unknown.
	Unknown int64 `json:"unknown"`
	// Operations counts the operations in all batches that went to a master,
	// and Batches the batches by their size: see BatchBuckets.
	Operations int64                    `json:"-"`
	Batches    [len(BatchBuckets)]int64 `json:"-"`
}

// Status returns what the client knows now. It asks no Redis.
func (c *Client) Status() Status {
	if c.cluster != nil {
		return c.cluster.status()
	}
	s, _ := c.monitor.Now()
	st := Status{
		Master: s.Master, Why: s.Why, Since: s.Since, Found: s.Found, Heard: s.Heard,
		Replicas: len(s.MasterNode().Replicas), InSync: min(int(c.writer.inSync.Load()), len(s.MasterNode().Replicas)), Held: c.writer.waiting(),
		Unknown: c.writer.stats.unknown.Load(), Operations: c.writer.stats.operations.Load(),
	}
	for i := range st.Batches {
		st.Batches[i] = c.writer.stats.batches[i].Load()
	}
	return st
}

// Master returns the present master's host:port; empty: there is none.
func (c *Client) Master() string {
	return c.monitor.State().Master
}

// namesReserved reports whether one of a command's keys is Holdfast's own, as far as
// Redis tells which of its words are keys. Where it does not (SORT), no word may be
// like one.
func namesReserved(spec *Spec, cmd Command) bool {
	if spec == nil {
		return true
	}
	keys, told := spec.Keys(cmd)
	return !told || slices.ContainsFunc(keys, command.Reserved)
}
