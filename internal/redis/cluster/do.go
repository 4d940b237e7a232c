package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/redis/command"
	"holdfast/internal/redis/commit"
	"holdfast/internal/redis/hashslot"
	"holdfast/internal/redis/once"
	"holdfast/internal/redis/operation"
	"holdfast/internal/redis/outcome"
	"holdfast/internal/redis/request"
)

// A request to a cluster is divided by shard; each part is an operation of that shard's writer.
// What a node refuses because the slot is elsewhere (MOVED, ASK) certainly did not happen, and goes
// there, until the request's time is over.

// ErrNotInCluster returns the error of what a cluster does not have.
func ErrNotInCluster(what string) error {
	return fmt.Errorf("%s: not available with Redis Cluster", what)
}

// item is one command of a request, or all of it where it cannot be parted.
type item struct {
	number int
	cmd    command.Command
	keys   []string
	slot   int
	merge  merger // not nil: it is for every master
	// asks is the node that another node named because the slot is on its way there; empty: the
	// topology has the owner.
	asks string
	// sent is true if it may have happened.
	sent bool
	// replies are those of the masters, if merge wants several. They are the masters of the
	// topology seen.
	replies []request.Result
	seen    *topology
}

// journey is one request on its way through a cluster.
type journey struct {
	cluster *Cluster
	maker   *operation.Maker
	r       *request.Request
	record  string // without a slot
	// whole is true if it cannot be divided (a script, a transaction).
	whole   bool
	guarded bool
	// most is how many commands a shard gets at once now, and usual how many it gets otherwise:
	// see parts.
	most, usual int
	// once is true if some of it was sent already.
	once    bool
	nodes   []string
	tokens  []string
	results []request.Result
}

// Do carries a request out.
func (c *Cluster) Do(ctx context.Context, r *request.Request) error {
	j := &journey{cluster: c, maker: c.Maker, r: r, whole: r.Script != nil || r.Atomic}
	if r.IdempotencyKey != "" {
		j.record = once.Record(c.cfg.App, r)
	}
	items, err := j.items(ctx)
	if err != nil {
		return err
	}
	if r.Script != nil {
		j.results = make([]request.Result, 1)
	} else {
		j.results = make([]request.Result, len(r.Commands))
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	j.most = j.usual
	if err := j.travel(ctx, items); err != nil {
		return err
	}
	r.Results = append(r.Results, j.results...)
	r.Node = strings.Join(j.nodes, ",")
	t, _ := c.now()
	if len(j.tokens) > 0 && t != nil {
		r.Token = fmt.Sprintf("%s%x.%s", clusterToken, t.mark, strings.Join(j.tokens, "."))
	}
	return nil
}

// items returns the request's commands with the slots that they belong to. Commands that cross
// slots are refused in Redis' words.
func (j *journey) items(ctx context.Context) ([]*item, error) {
	r := j.r
	if r.Script == nil && len(r.Commands) == 0 {
		return nil, &outcome.Error{Kind: outcome.Invalid, Cause: operation.ErrNoCommand}
	}
	var items []*item
	slots := hashslot.Any // of the first that has keys
	brief, merges := true, false
	for i, cmd := range r.Commands {
		if len(cmd) == 0 || cmd[0] == "" {
			return nil, &outcome.Error{Kind: outcome.Invalid, Cause: operation.ErrNoCommand}
		}
		spec, err := j.maker.Spec(ctx, cmd)
		if err != nil {
			return nil, err
		}
		it := &item{number: i, cmd: cmd, slot: hashslot.Any}
		brief = brief && spec != nil && spec.BriefFor(cmd)
		if spec != nil {
			it.merge = mergerOf(spec)
			if it.keys, err = placeOf(spec, cmd); err == nil {
				it.slot, err = hashslot.OfAll(it.keys)
			}
			merges = merges || it.merge != nil
			if err != nil {
				// The keys span slots: CROSSSLOT can be returned without asking Redis.
				it.slot = noSlot
			}
		}
		if j.whole && it.merge != nil {
			return nil, &outcome.Error{Kind: outcome.Invalid, Cause: fmt.Errorf("ERR %s is about every master of Redis Cluster, and a transaction is at one", strings.ToUpper(spec.Name))}
		}
		if slots == hashslot.Any {
			slots = it.slot
		}
		items = append(items, it)
	}
	switch {
	case brief:
		j.usual = math.MaxInt
	case merges:
		j.usual = 1 // what is for every master is not to be sent twice
	default:
		j.usual = operation.SlowTogether
	}
	if r.Script != nil {
		slot, err := hashslot.OfAll(r.Keys)
		if err != nil {
			return nil, &outcome.Error{Kind: outcome.Refused, Cause: hashslot.ErrCross}
		}
		return []*item{{keys: r.Keys, slot: j.settled(slot)}}, nil
	}
	if r.Atomic {
		whole := &item{slot: hashslot.Any}
		for _, it := range items {
			whole.keys = append(whole.keys, it.keys...)
			if it.slot == noSlot || it.slot != hashslot.Any && whole.slot != hashslot.Any && it.slot != whole.slot {
				return nil, &outcome.Error{Kind: outcome.Refused, Cause: &operation.Discarded{Cause: hashslot.ErrCross}}
			}
			whole.slot = max(whole.slot, it.slot)
		}
		whole.slot = j.settled(whole.slot)
		return []*item{whole}, nil
	}
	slots = j.settled(slots)
	for _, it := range items {
		if it.slot == hashslot.Any {
			it.slot = slots
		}
	}
	return items, nil
}

// noSlot stands for the slot of a command that crosses slots.
const noSlot = -2

// settled returns the slot of commands that may be in any: that of the request's other commands,
// or the record's, so that a repetition finds its record.
func (j *journey) settled(slot int) int {
	switch {
	case slot >= 0:
		return slot
	case j.record != "":
		return hashslot.Of(j.record[len(once.Prefix):])
	}
	return rand.IntN(hashslot.Count)
}

// placeOf returns a command's keys, as far as they can be told. If they cannot, it returns the first
// one, and Redis decides.
func placeOf(spec *command.Spec, cmd command.Command) ([]string, error) {
	if keys, ok := spec.Keys(cmd); ok {
		return keys, nil
	}
	for i := range spec.KeySpecs {
		if keys, ok := spec.KeySpecs[i].Collect(nil, cmd); ok && len(keys) > 0 {
			return keys[:1], nil
		}
	}
	return nil, nil
}

// leg is the part of a request that one shard gets at once.
type leg struct {
	shard *clusterShard
	asks  bool
	items []*item
	req   request.Request
	o     *operation.Operation
	err   error
}

// travel sends the commands, and again those that were redirected, until all are answered or the
// context ends. Its error is for the whole request.
func (j *journey) travel(ctx context.Context, items []*item) error {
	var last error // why something was redirected
	for {
		t, changed := j.cluster.now()
		parts, stuck, later := j.parts(t, items)
		if err := j.prepare(ctx, parts); err != nil {
			return err
		}
		var all sync.WaitGroup
		for i, p := range parts {
			if i == len(parts)-1 {
				j.carry(ctx, t, p) // on this goroutine
				break
			}
			all.Go(func() { j.carry(ctx, t, p) })
		}
		all.Wait()
		items, j.most = stuck, j.usual
		for _, p := range parts {
			var many *operation.TooMany
			if errors.As(p.err, &many) {
				j.most = min(j.most, many.N)
				later = append(later, p.items...)
				continue
			}
			back, why, err := j.arrive(p, len(parts) == 1 && len(stuck)+len(later) == 0)
			if err != nil {
				return err
			}
			if why != nil {
				last = why
			}
			items = append(items, back...)
		}
		waits := len(stuck) > 0 || slices.ContainsFunc(items, func(it *item) bool { return it.asks == "" })
		if items = append(items, later...); len(items) == 0 {
			return nil
		}
		slices.SortFunc(items, func(a, b *item) int { return cmp.Compare(a.number, b.number) })
		if waits {
			j.cluster.look()
			next := time.NewTimer(commit.RetryPause)
			select {
			case <-changed:
			case <-next.C:
			case <-ctx.Done():
			}
			next.Stop()
		}
		if ctx.Err() != nil {
			return j.giveUp(items, last)
		}
	}
}

// giveUp gives the commands that are left the error that their time is over.
func (j *journey) giveUp(items []*item, why error) error {
	if why == nil {
		why = outcome.ErrNoMaster
	}
	for _, it := range items {
		kind := outcome.NotExecuted
		if it.sent {
			kind = outcome.Unknown
		}
		if !j.once && kind == outcome.NotExecuted {
			return &outcome.Error{Kind: kind, Cause: why}
		}
		if j.whole {
			return &outcome.Error{Kind: kind, Cause: why}
		}
		j.results[it.number] = request.Result{Err: &outcome.Error{Kind: kind, Cause: why}}
	}
	return nil
}

// parts returns what each shard gets, in the order of the request. stuck are the commands whose slot
// has no owner now. If some command is not brief, a shard gets a few at once, and the others later.
func (j *journey) parts(t *topology, items []*item) (parts []*leg, stuck, later []*item) {
	if t == nil {
		return nil, items, nil
	}
	full := false
	add := func(s *clusterShard, asks bool, it *item) {
		for _, p := range parts {
			if p.shard == s && p.asks == asks {
				p.items = append(p.items, it)
				full = full || len(p.items) >= j.most
				return
			}
		}
		parts = append(parts, &leg{shard: s, asks: asks, items: []*item{it}})
		full = full || j.most == 1
	}
	for _, it := range items {
		switch {
		case full:
			later = append(later, it)
		case it.slot == noSlot:
			j.results[it.number] = request.Result{Err: &outcome.Error{Kind: outcome.Refused, Cause: hashslot.ErrCross}}
		case it.merge != nil:
			shards := it.merge.shards(t, it)
			if it.replies, it.seen = nil, t; len(shards) == 0 {
				stuck = append(stuck, it)
			}
			for _, s := range shards {
				add(s, false, it)
			}
		case it.asks != "":
			s := t.of(it.asks)
			it.asks = ""
			if s == nil || j.guarded {
				// It owns nothing yet, or a record needs several steps: this waits until the slot
				// has moved.
				stuck = append(stuck, it)
				continue
			}
			add(s, true, it)
		default:
			if s := t.at(it.slot); s != nil {
				add(s, false, it)
			} else {
				stuck = append(stuck, it)
			}
		}
	}
	return parts, stuck, later
}

// prepare makes the parts' operations. It fails before anything is sent.
func (j *journey) prepare(ctx context.Context, parts []*leg) error {
	for _, p := range parts {
		p.req = j.r.Part()
		place := &operation.Placement{Asking: p.asks}
		if j.whole {
			place.Keys = [][]string{p.items[0].keys}
		} else {
			p.req.Commands = make([]command.Command, 0, len(p.items))
			for _, it := range p.items {
				slot, cmd := it.slot, it.cmd
				if it.merge != nil {
					slot, cmd = p.shard.anySlot(), it.merge.command(it.seen, it)
				}
				p.req.Commands = append(p.req.Commands, cmd)
				place.At = append(place.At, it.number)
				place.Slots = append(place.Slots, slot)
				place.Keys = append(place.Keys, it.keys)
			}
		}
		o, err := j.maker.Make(ctx, &p.req)
		if err != nil {
			return err
		}
		o.Placement = place
		o.Sent = slices.ContainsFunc(p.items, func(it *item) bool { return it.sent })
		if o.Record != "" {
			switch o.Record = j.record; {
			case j.whole:
				o.Record = once.RecordIn(p.items[0].slot, j.record)
			case o.Atomic: // it would wait, and may not
				o.Record = once.ItemRecord(once.RecordIn(place.Slots[0], j.record), place.At[0])
			}
			// This is for the whole request: how a record is kept must not depend on how the request
			// is divided.
			j.guarded = j.guarded || o.Guarded
		}
		p.o = o
	}
	for _, p := range parts {
		p.o.Guarded = p.o.Record != "" && j.guarded
	}
	return nil
}

// carry has one part carried out.
func (j *journey) carry(ctx context.Context, t *topology, p *leg) {
	r, o := &p.req, p.o
	if r.Read == request.ReadReplica && !o.Writes && !o.Local && !p.asks && !slices.ContainsFunc(p.items, func(it *item) bool { return it.merge != nil || t.moving[it.slot] }) {
		if after, ok := tokenFor(t, p.shard, r.After); ok {
			r.After = after
			if p.shard.readers.Replica(ctx, r, o) {
				p.err = o.Claim(r)
				o.Free()
				return
			}
		}
	}
	r.From = request.ReadMaster
	over, err := p.shard.writer.Do(ctx, o)
	if over && err == operation.ErrLarge {
		j.maker.Enlarge(o)
		over, err = p.shard.writer.PutAside(ctx, o)
	}
	if err == commit.ErrNoScript {
		j.guarded = true // it is whole, and so has no other part
		if p.asks {
			p.err, p.items[0].sent = err, o.Sent
			o.Free()
			return
		}
		over, err = p.shard.writer.ByExec(ctx, o)
	}
	if over && err == operation.ErrNoRoom {
		j.maker.Enlarge(o)
		over, err = p.shard.writer.WithRoom(ctx, o)
	}
	if err == nil {
		err = o.Claim(r)
	}
	if p.err = err; err == nil {
		r.Results = append(r.Results[:0], o.Outcome()...)
		s, _ := p.shard.monitor.Now()
		r.Node = s.Master
		r.Token = request.TokenOf(cmp.Or(o.Offset, s.MasterNode().Offset))
	} else if outcome.KindOf(err) == outcome.Unknown {
		p.shard.writer.Stats.Unknown.Add(1)
	}
	if over {
		o.Free()
	}
}

// arrive takes in what became of a part. back are the commands that have to be sent again, and why
// is the reason. err is the error of the whole request, if the part is all of it.
func (j *journey) arrive(p *leg, alone bool) (back []*item, why, err error) {
	r := &p.req
	if p.err == commit.ErrNoScript {
		return p.items, nil, nil // when the slot has moved
	}
	if p.err != nil {
		if way := outcome.RedirectionOf(p.err); j.whole && way.Code != "" {
			it := p.items[0]
			it.sent = outcome.KindOf(p.err) == outcome.Unknown
			it.asks = way.Ask()
			return p.items, p.err, nil
		}
		if outcome.KindOf(p.err) == outcome.NotExecuted && p.shard.ended() && !j.cluster.over() {
			return p.items, p.err, nil // another shard has its slots now
		}
		if alone && !j.once {
			return nil, nil, p.err
		}
		for _, it := range p.items {
			j.result(it, request.Result{Err: p.err})
		}
		return nil, nil, nil
	}
	j.met(p)
	if j.r.Atomic {
		j.results = r.Results
		return nil, nil, nil
	}
	for i, it := range p.items {
		result := r.Results[i]
		way := outcome.RedirectionOf(result.Err)
		if way.Code == "" || it.merge != nil || way.Code == "TRYAGAIN" && followedBy(p.items, r.Results, i) {
			j.result(it, result)
			continue
		}
		it.sent = it.sent || outcome.KindOf(result.Err) == outcome.Unknown
		it.asks = way.Ask()
		back, why = append(back, it), result.Err
	}
	j.once = j.once || len(back) < len(p.items)
	return back, why, nil
}

// followedBy reports whether a command of the same slot behind command i was carried out: then
// command i would come too late.
func followedBy(items []*item, results []request.Result, i int) bool {
	for k := i + 1; k < len(items); k++ {
		if items[k].slot == items[i].slot && results[k].Err == nil {
			return true
		}
	}
	return false
}

// result keeps the result of one command.
func (j *journey) result(it *item, result request.Result) {
	if it.merge == nil {
		j.results[it.number] = result
		return
	}
	it.replies = append(it.replies, result)
	j.results[it.number] = it.merge.merge(it.seen, it)
}

// met notes the node that answered a part.
func (j *journey) met(p *leg) {
	r := &p.req
	j.r.Absorb(r)
	first := len(j.nodes) == 0
	if !slices.Contains(j.nodes, r.Node) {
		j.nodes = append(j.nodes, r.Node)
	}
	if first || r.From == request.ReadMaster {
		j.r.From = r.From
	}
	if j.r.Lag = max(j.r.Lag, r.Lag); j.r.From == request.ReadMaster {
		j.r.Lag = 0
	}
	j.tokens = append(j.tokens, p.shard.name()[:tokenName]+"-"+strings.TrimPrefix(r.Token, request.TokenPrefix))
}
