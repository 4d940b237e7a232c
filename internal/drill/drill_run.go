package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/load"
)

// The times of a drill.
const (
	leadIn  = 2500 * time.Millisecond // undisturbed load at the beginning
	between = 1500 * time.Millisecond // between two faults
	leadOut = 2 * time.Second         // after the last fault
	// healBeyond limits how long the stack may take to be well again after a fault, in addition to
	// the start of its slowest node (health.start).
	healBeyond = 45 * time.Second
	// wellLimit limits how long the stack may take to be well before anything is broken: it may
	// have been started a moment ago.
	wellLimit = 10 * time.Second
	// endLimit limits how long the stack may take to be well at the end, when nothing has been
	// broken for a while.
	endLimit = 3 * time.Second
	// readLimit limits how long reading everything back may take.
	readLimit = 30 * time.Second
)

// Mix describes the load. Zero values take the defaults.
type Mix struct {
	Rate    int // operations per second; default 400, with URLs 100
	Clients int // default 40, with URLs 20
	Keys    int // of each kind; default 12, or more in proportion to a Rate above 400
	Token   string
	// Replica and Cached are the fractions of reads that accept less than the newest value. The
	// default is 0.1 each.
	Replica, Cached float64
}

func (m Mix) withDefaults(ofURLs bool) Mix {
	rate, clients := 400, 40
	if ofURLs { // low enough for a program that answers one request at a time
		rate, clients = 100, 20
	}
	if m.Rate == 0 {
		m.Rate = rate
	}

	if m.Clients == 0 {
		m.Clients = clients
	}
	if m.Keys == 0 {
		// The checker has to put one second's operations on one key in an order. Twice as many
		// concurrent operations on a key take it much more than twice as long.
		m.Keys = max(12, m.Rate*12/400)
	}
	if m.Replica == 0 {
		m.Replica = 0.1
	}
	if m.Cached == 0 {
		m.Cached = 0.1
	}
	return m
}

// leastRate is the lowest rate that proves anything, in operations per second: at a lower one a
// fault may strike between two operations.
const leastRate = 20

// load returns the configuration of this load, on URLs if there are any.
func (m Mix) load(urls []load.URL, entries []string, prefix string) load.Config {
	return load.Config{
		URLs:    urls,
		Entries: entries, Token: m.Token, Prefix: prefix, Rate: m.Rate, Clients: m.Clients,
		Registers: m.Keys, Counters: m.Keys, Sets: m.Keys, ReplicaReads: m.Replica, CachedReads: m.Cached,
	}
}

// Update is what the display shows of a drill.
type Update struct {
	At    time.Duration
	Words string // empty: unchanged
	Load  load.Progress
}

// drillRun is one drill of one stack: faults one after the other under one load.
type drillRun struct {
	stack   drilledStack
	journal *journal
	faults  []fault
	mix     Mix
	seed    int64
	show    func(Update)
	// tokenFile holds the token of mix. keys is the id of the journal step that removes the drill's
	// keys; nil: the keys go with the stack.
	tokenFile string
	keys      *int
	prefix    string // of the drill's keys

	began   time.Time
	history history.History
	load    *load.Load
	watcher stackWatcher
	elected time.Time // when the master was last seen to have changed
}

// run carries the drill out and returns what happened. Its error means that it could not begin, or
// that the load was too slow. What was broken is undone when run returns, also if ctx ends
// meanwhile; the history is then marked as interrupted.
func (r *drillRun) run(ctx context.Context) (history.History, error) {
	r.began = time.Now()
	r.history = history.History{
		// The random part: drills of several stacks may begin at once and share a directory.
		ID: fmt.Sprintf("%s-%d-%04x", r.began.UTC().Format("20060102-150405"), r.seed, rand.IntN(1<<16)), Stack: r.stack.declared().Name,
		Began: r.began, Seed: r.seed, Rate: r.mix.Rate, Clients: r.mix.Clients,
	}

	r.history.SickBefore = r.stack.awaitWell(ctx, wellLimit)
	if r.history.SickBefore != "" {
		return r.history, fmt.Errorf("the stack is not well, so that nothing was broken: %s", r.history.SickBefore)
	}

	reaches := r.stack.loadTarget()
	r.prefix = "holdfast-drill:" + r.history.ID + ":"
	cfg := r.mix.load(reaches.urls, nil, r.prefix)
	cfg.Seed = r.seed
	if err := r.stack.directLoad(ctx, &cfg); err != nil {
		return r.history, err
	}

	r.history.App = reaches.app
	for _, u := range reaches.urls {
		r.history.URLs = append(r.history.URLs, u.String())
	}

	if left := r.stack.removeKeysStep(cfg, r.tokenFile); left != nil {
		id, err := r.journal.add(*left)
		if err != nil {
			return r.history, err
		}
		r.keys = &id
	}

	if err := r.stack.tryRequests(ctx, cfg); err != nil {
		var refused *RefusedError
		if errors.As(err, &refused) { // otherwise keys may exist, and the journal's step has to remove them
			err = errors.Join(err, r.forgetKeys())
		}
		return r.history, err
	}

	r.began = time.Now()
	cfg.Began = r.began
	var err error
	if r.load, err = load.New(cfg); err != nil {
		return r.history, err
	}
	if r.watcher, err = r.stack.watch(ctx, r.began); err != nil {
		return r.history, err
	}

	var parts sync.WaitGroup
	watching, endWatch := context.WithCancel(context.WithoutCancel(ctx))
	loading, endLoad := context.WithCancel(context.WithoutCancel(ctx))
	defer endLoad()
	defer endWatch()
	parts.Go(func() { r.watcher.run(watching) })
	parts.Go(func() { r.display(watching) })
	var sending sync.WaitGroup
	sending.Go(func() { r.load.Run(loading) })

	err = r.breakAll(ctx)
	r.history.Interrupted = err != nil && ctx.Err() != nil
	endLoad()
	sending.Wait()
	r.history.LoadEnd = r.load.End()
	r.readBack(ctx)
	endWatch()
	parts.Wait()

	r.history.Notices = attributeNotices(r.history.Faults, r.watcher.notices(r.history.Faults))
	r.history.Operations = r.load.Operations()

	var slow *RateError
	if errors.As(err, &slow) {
		return r.history, slow
	}
	return r.history, nil
}

// breakAll injects the faults one after the other, under the load.
func (r *drillRun) breakAll(ctx context.Context) error {
	r.say("the load runs, nothing is broken yet")
	if err := sleep(ctx, leadIn); err != nil {
		return err
	}
	if err := r.enoughRate(); err != nil {
		return err
	}

	for i, f := range r.faults {
		if i > 0 {
			if err := sleep(ctx, between); err != nil {
				return err
			}
		}
		if err := r.runFault(ctx, f); err != nil {
			return err
		}
	}

	r.say("nothing is broken any more")
	if err := sleep(ctx, leadOut); err != nil {
		return err
	}
	// Something that was no part of the drill may have happened meanwhile.
	why := r.stack.awaitWell(ctx, endLimit)
	if why == "" || ctx.Err() != nil {
		return ctx.Err()
	}
	r.history.SickAfter = why
	return errors.New(why)
}

// RateError reports that this machine does not reach the rate that was asked for, in operations per
// second.
type RateError struct{ Asked, Reached int }

func (e *RateError) Error() string {
	return fmt.Sprintf("of %d operations a second that were asked for, %d were answered before anything was broken: nothing was; choose a lower --rate", e.Asked, e.Reached)
}

// enoughRate returns a RateError if the undisturbed stack answers less than 70 % of the rate that
// was asked for. A fault would prove nothing then, and the Sentinels would starve.
func (r *drillRun) enoughRate() error {
	took := time.Since(r.began).Seconds()
	p := r.load.Progress()
	reached := int(float64(p.OK+p.Failed+p.Unknown) / took)
	if reached < r.mix.Rate*7/10 {
		return &RateError{r.mix.Rate, reached}
	}
	return nil
}

// runFault injects one fault, undoes it, and waits until the stack is well again. Its error ends
// the drill. What went wrong with the fault alone goes into the fault's record.
func (r *drillRun) runFault(ctx context.Context, f fault) error {
	// Sentinel does not elect again within twice the failover time-out (Redis manual, "Sentinel",
	// failover-timeout). Without this pause, a fault would be charged for the one before.
	rest := 2*r.stack.declared().Redis.FailoverTimeout + time.Second - time.Since(r.elected)
	if rest > 0 {
		r.say("waiting until the Sentinels would elect again")
		if err := sleep(ctx, rest); err != nil {
			return err
		}
	}

	r.say("waiting until every replica confirms writes")
	if err := r.stack.awaitInSync(ctx); err != nil {
		if ctx.Err() == nil {
			r.history.SickAfter = err.Error()
		}
		return err
	}

	r.history.Faults = append(r.history.Faults, history.Fault{
		Name: f.name, Promise: r.stack.loadTarget().promise(f), Began: time.Since(r.began), Undone: -1, Healthy: -1,
	})
	record := &r.history.Faults[len(r.history.Faults)-1]
	if f.hangs && r.stack.loadTarget().app == "" {
		record.DetectionDelay = detectionDelay(r.stack.declared(), r.stack.loadTarget()) // see loadTarget.promise
	}

	fc := &faultContext{
		journal: r.journal, record: record, began: r.began, say: r.say, progress: r.load.Progress,
		mix: r.mix, prefix: r.prefix, tokenFile: r.tokenFile,
		random: rand.New(rand.NewPCG(uint64(r.seed), uint64(len(r.history.Faults)))),
	}
	r.stack.attachTo(fc)

	before := r.stack.master(ctx)
	checkpoint := r.journal.checkpoint()
	err := f.inject(ctx, fc)
	if err != nil {
		record.Trouble = err.Error()
	}

	r.say("undoing %s", f.name)
	if undone := r.journal.undo(checkpoint); undone != nil {
		record.Trouble = errors.Join(err, undone).Error()
	} else {
		record.Undone = fc.now()
	}

	r.say("waiting until the stack is well again")
	// Not ended by an interrupt: a drill leaves the stack as it found it.
	healing := context.WithoutCancel(ctx)
	limit := healBeyond + r.stack.declared().SlowestStart()
	why := r.stack.awaitWell(healing, limit)
	if why == "" {
		record.Healthy = fc.now()
	}
	r.history.SickAfter = why

	if at := r.watcher.electedAt(); at.After(r.elected) {
		r.elected = at
	}
	if r.stack.master(healing) != before && r.elected.Before(r.began.Add(record.Began)) {
		r.elected = time.Now() // the watcher has not seen it yet
	}
	if why != "" {
		return fmt.Errorf("the stack is not well %v after %s: %s", limit, f.name, why)
	}
	return ctx.Err()
}

// attributeNotices adds each notice from the time of a fault with a binding promise to that fault's
// Harm, since such a fault was to harm nobody. It returns the other notices.
func attributeNotices(faults []history.Fault, notices []history.Notice) (rest []history.Notice) {
	for _, n := range notices {
		i := slices.IndexFunc(faults, func(f history.Fault) bool {
			return f.Promise.Binding && n.At >= f.Began && (f.Healthy < 0 || n.At <= f.Healthy+slack)
		})
		if i < 0 {
			rest = append(rest, n)
			continue
		}
		faults[i].Harm = append(faults[i].Harm, fmt.Sprintf("at %.1f s %s", n.At.Seconds(), n.Text))
	}
	return rest
}

// readBack reads every key, and then removes them all.
func (r *drillRun) readBack(ctx context.Context) {
	if r.stack.loadTarget().app == "" {
		return // a load on URLs has no keys
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
	defer cancel()
	r.say("reading everything back")
	if err := r.load.ReadBack(ctx); err != nil && r.history.SickAfter == "" {
		r.history.SickAfter = err.Error()
	}
	err := r.load.Remove(ctx)
	if err == nil {
		err = r.forgetKeys()
	}
	if err != nil && r.history.SickAfter == "" {
		r.history.SickAfter = "the drill's own keys cannot be removed: " + err.Error()
	}
}

// forgetKeys removes the keys' step from the journal, after the keys were removed.
func (r *drillRun) forgetKeys() error {
	if r.keys == nil {
		return nil
	}
	return r.journal.forget(*r.keys)
}

// say shows what the drill is doing now.
func (r *drillRun) say(format string, args ...any) {
	r.update(fmt.Sprintf(format, args...))
}

func (r *drillRun) update(words string) {
	if r.show != nil {
		r.show(Update{At: time.Since(r.began), Words: words, Load: r.load.Progress()})
	}
}

// displayEvery is the interval between two updates of the display.
const displayEvery = 200 * time.Millisecond

func (r *drillRun) display(ctx context.Context) {
	for sleep(ctx, displayEvery) == nil {
		r.update("")
	}
}
