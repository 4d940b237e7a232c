package redis

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

	"holdfast/internal/redis/outcome"
)

// A request to a cluster is parted by shard; each part is an operation of that
// shard's writer. What a node turns down because the slot is elsewhere (MOVED,
// ASK) certainly did not happen, and goes there, until the request's time is
// over.

func errNotInCluster(what string) error {
	return fmt.Errorf("%s: not available with Redis Cluster", what)
}

// item is one command of a request, or all of it where it cannot be parted.
type item struct {
	number int
	cmd    Command
	keys   []string
	slot   int
	merge  merger // not nil: it is for every master
	// asks is whom a node named that has the slot on its way there; empty: the
	// map says who.
	asks string
	// sent: it may have happened.
	sent bool
	// replies are those of the masters, where merge wants several; they are those
	// of this topology.
	replies []Result
	seen    *topology
}

// journey is one request on its way through a cluster.
type journey struct {
	*Client
	r      *Request
	record string // without a slot
	// whole: it cannot be parted (a script, a transaction).
	whole   bool
	guarded bool
	// most is how many commands a shard gets at once now, and usual how many it
	// gets otherwise: see parts.
	most, usual int
	// once: some of it was sent already.
	once    bool
	nodes   []string
	tokens  []string
	results []Result
}

func (c *Client) doInCluster(ctx context.Context, r *Request) error {
	j := &journey{Client: c, r: r, whole: r.Script != nil || r.Atomic}
	if r.IdempotencyKey != "" {
		j.record = recordKey(c.cfg.App, r)
	}
	items, err := j.items(ctx)
	if err != nil {
		return err
	}
	if r.Script != nil {
		j.results = make([]Result, 1)
	} else {
		j.results = make([]Result, len(r.Commands))
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Hold)
	defer cancel()
	j.most = j.usual
	if err := j.travel(ctx, items); err != nil {
		return err
	}
	r.Results = append(r.Results, j.results...)
	r.Node = strings.Join(j.nodes, ",")
	t, _ := c.cluster.now()
	if len(j.tokens) > 0 && t != nil {
		r.Token = fmt.Sprintf("%s%x.%s", clusterToken, t.mark, strings.Join(j.tokens, "."))
	}
	return nil
}

// items says where everything of the request belongs. What crosses slots is
// refused in Redis' words.
func (j *journey) items(ctx context.Context) ([]*item, error) {
	r := j.r
	if r.Script == nil && len(r.Commands) == 0 {
		return nil, &Error{Kind: Invalid, Cause: errNoCommand}
	}
	var items []*item
	slots := anySlot // of the first that has keys
	brief, merges := true, false
	for i, cmd := range r.Commands {
		if len(cmd) == 0 || cmd[0] == "" {
			return nil, &Error{Kind: Invalid, Cause: errNoCommand}
		}
		spec, err := j.Spec(ctx, cmd)
		if err != nil {
			return nil, err
		}
		it := &item{number: i, cmd: cmd, slot: anySlot}
		brief = brief && spec != nil && spec.BriefFor(cmd)
		if spec != nil {
			it.merge = mergerOf(spec)
			if it.keys, err = placeOf(spec, cmd); err == nil {
				it.slot, err = slotOfAll(it.keys)
			}
			merges = merges || it.merge != nil
			if err != nil {
				// A slot is none: Redis' own refusal of it needs no Redis.
				it.slot = noSlot
			}
		}
		if j.whole && it.merge != nil {
			return nil, &Error{Kind: Invalid, Cause: fmt.Errorf("ERR %s is about every master of Redis Cluster, and a transaction is at one", strings.ToUpper(spec.Name))}
		}
		if slots == anySlot {
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
		j.usual = slowTogether
	}
	if r.Script != nil {
		slot, err := slotOfAll(r.Keys)
		if err != nil {
			return nil, &Error{Kind: Refused, Cause: errCrossSlot}
		}
		return []*item{{keys: r.Keys, slot: j.settled(slot)}}, nil
	}
	if r.Atomic {
		whole := &item{slot: anySlot}
		for _, it := range items {
			whole.keys = append(whole.keys, it.keys...)
			if it.slot == noSlot || it.slot != anySlot && whole.slot != anySlot && it.slot != whole.slot {
				return nil, &Error{Kind: Refused, Cause: &discarded{errCrossSlot}}
			}
			whole.slot = max(whole.slot, it.slot)
		}
		whole.slot = j.settled(whole.slot)
		return []*item{whole}, nil
	}
	slots = j.settled(slots)
	for _, it := range items {
		if it.slot == anySlot {
			it.slot = slots
		}
	}
	return items, nil
}

// noSlot is the slot of what crosses slots.
const noSlot = -2

// settled is the slot of what may be anywhere: that of the request's others,
// or, so that a repetition finds its record, the record's.
func (j *journey) settled(slot int) int {
	switch {
	case slot >= 0:
		return slot
	case j.record != "":
		return slotOf(j.record[len(idemPrefix):])
	}
	return rand.IntN(slotCount)
}

// placeOf are a command's keys, as far as they can be told: where they cannot,
// the first one has to do, and Redis has the last word.
func placeOf(spec *Spec, cmd Command) ([]string, error) {
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

// leg is what one shard gets at once.
type leg struct {
	shard *clusterShard
	asks  bool
	items []*item
	req   Request
	o     *operation
	err   error
}

// travel sends what there is and what was sent back, until all is answered or
// the context ends. Its error is for the whole request.
func (j *journey) travel(ctx context.Context, items []*item) error {
	var last error // why something was sent back
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
			var many *tooMany
			if errors.As(p.err, &many) {
				j.most = min(j.most, many.n)
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
			next := time.NewTimer(retryPause)
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

// giveUp tells what is left that its time is over.
func (j *journey) giveUp(items []*item, why error) error {
	if why == nil {
		why = outcome.ErrNoMaster
	}
	for _, it := range items {
		kind := NotExecuted
		if it.sent {
			kind = Unknown
		}
		if !j.once && kind == NotExecuted {
			return &Error{Kind: kind, Cause: why}
		}
		if j.whole {
			return &Error{Kind: kind, Cause: why}
		}
		j.results[it.number] = Result{Err: &Error{Kind: kind, Cause: why}}
	}
	return nil
}

// parts says who gets what, in the order of the request; stuck is what has no
// owner now. Where some command is not brief, a shard gets a few at once, and the
// others later.
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
			j.results[it.number] = Result{Err: &Error{Kind: Refused, Cause: errCrossSlot}}
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
				// It owns nothing yet, or a record needs several steps: when
				// the slot has settled.
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
		p.req = *j.r
		p.req.Results, p.req.held = nil, 0
		place := &placement{asking: p.asks}
		if j.whole {
			place.keys = [][]string{p.items[0].keys}
		} else {
			p.req.Commands = make([]Command, 0, len(p.items))
			for _, it := range p.items {
				slot, cmd := it.slot, it.cmd
				if it.merge != nil {
					slot, cmd = p.shard.anySlot(), it.merge.command(it.seen, it)
				}
				p.req.Commands = append(p.req.Commands, cmd)
				place.at = append(place.at, it.number)
				place.slots = append(place.slots, slot)
				place.keys = append(place.keys, it.keys)
			}
		}
		o, err := j.operation(ctx, &p.req)
		if err != nil {
			return err
		}
		o.site = place
		o.sent = slices.ContainsFunc(p.items, func(it *item) bool { return it.sent })
		if o.record != "" {
			switch o.record = j.record; {
			case j.whole:
				o.record = recordIn(p.items[0].slot, j.record)
			case o.atomic: // it would wait, and may not
				o.record = itemRecord(recordIn(place.slots[0], j.record), place.at[0])
			}
			// Said of the whole request: how a record is kept must not hang on
			// how the request is parted.
			j.guarded = j.guarded || o.guarded
		}
		p.o = o
	}
	for _, p := range parts {
		p.o.guarded = p.o.record != "" && j.guarded
	}
	return nil
}

// carry has one part carried out.
func (j *journey) carry(ctx context.Context, t *topology, p *leg) {
	r, o := &p.req, p.o
	if r.Read == ReadReplica && !o.writes && !o.local && !p.asks && !slices.ContainsFunc(p.items, func(it *item) bool { return it.merge != nil || t.moving[it.slot] }) {
		if after, ok := tokenFor(t, p.shard, r.After); ok {
			r.After = after
			if p.shard.readers.replica(ctx, r, o) {
				p.err = j.claim(r, o)
				o.free()
				return
			}
		}
	}
	r.From = ReadMaster
	over, err := p.shard.writer.do(ctx, o)
	if over && err == errLarge {
		over, err = j.putAside(ctx, p.shard.writer, o)
	}
	if err == errNoScript {
		j.guarded = true // it is whole, and so has no other part
		if p.asks {
			p.err, p.items[0].sent = err, o.sent
			o.free()
			return
		}
		over, err = p.shard.writer.byExec(ctx, o)
	}
	if over && err == errNoRoom {
		j.enlarge(o)
		over, err = p.shard.writer.withRoom(ctx, o)
	}
	if err == nil {
		err = j.claim(r, o)
	}
	if p.err = err; err == nil {
		r.Results = append(r.Results[:0], o.outcome()...)
		s, _ := p.shard.monitor.Now()
		r.Node = s.Master
		r.Token = tokenOf(cmp.Or(o.offset, s.MasterNode().Offset))
	} else if KindOf(err) == Unknown {
		p.shard.writer.stats.unknown.Add(1)
	}
	if over {
		o.free()
	}
}

// arrive takes what became of a part: back is what has to be sent again, and
// why. The error is for the whole request, where the part is all of it.
func (j *journey) arrive(p *leg, alone bool) (back []*item, why, err error) {
	r := &p.req
	if p.err == errNoScript {
		return p.items, nil, nil // when the slot has settled
	}
	if p.err != nil {
		if way := redirectionOf(p.err); j.whole && way.code != "" {
			it := p.items[0]
			it.sent = KindOf(p.err) == Unknown
			it.asks = way.ask()
			return p.items, p.err, nil
		}
		if KindOf(p.err) == NotExecuted && p.shard.ended() && !j.cluster.over() {
			return p.items, p.err, nil // its slots are another's now
		}
		if alone && !j.once {
			return nil, nil, p.err
		}
		for _, it := range p.items {
			j.result(it, Result{Err: p.err})
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
		way := redirectionOf(result.Err)
		if way.code == "" || it.merge != nil || way.code == "TRYAGAIN" && followedBy(p.items, r.Results, i) {
			j.result(it, result)
			continue
		}
		it.sent = it.sent || KindOf(result.Err) == Unknown
		it.asks = way.ask()
		back, why = append(back, it), result.Err
	}
	j.once = j.once || len(back) < len(p.items)
	return back, why, nil
}

// followedBy says that a command of the same slot behind this one was carried
// out: this one would come too late.
func followedBy(items []*item, results []Result, i int) bool {
	for k := i + 1; k < len(items); k++ {
		if items[k].slot == items[i].slot && results[k].Err == nil {
			return true
		}
	}
	return false
}

// result keeps one command's result.
func (j *journey) result(it *item, result Result) {
	if it.merge == nil {
		j.results[it.number] = result
		return
	}
	it.replies = append(it.replies, result)
	j.results[it.number] = it.merge.merge(it.seen, it)
}

// met notes who answered.
func (j *journey) met(p *leg) {
	r := &p.req
	j.r.absorb(r)
	first := len(j.nodes) == 0
	if !slices.Contains(j.nodes, r.Node) {
		j.nodes = append(j.nodes, r.Node)
	}
	if first || r.From == ReadMaster {
		j.r.From = r.From
	}
	if j.r.Lag = max(j.r.Lag, r.Lag); j.r.From == ReadMaster {
		j.r.Lag = 0
	}
	j.tokens = append(j.tokens, p.shard.name()[:tokenName]+"-"+strings.TrimPrefix(r.Token, tokenPrefix))
}
