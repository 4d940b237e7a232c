package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/pprof/profile"

	"holdfast/internal/process"
)

// bench is one run: the running peers, and what was measured.
type bench struct {
	options
	dir      string
	progress io.Writer
	running  map[string]*runningPeer // by the name of the peer
	launches int                     // number of topologies started
	headers  []string                // of the ceiling's answers
	slices   bool                    // the pairs of the goals are being measured
	profiles []*profile.Profile      // of Holdfast's node, one for each measurement
	report   *report
}

// runningPeer is a running peer.
type runningPeer struct {
	peer
	topology *topology
	warm     bool // it has already had a load
}

// compare measures everything that was asked for. All processes that it started have ended when it
// returns.
func compare(ctx context.Context, o options, progress io.Writer) (_ *report, err error) {
	if err := roomForFiles(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, progress: progress, running: map[string]*runningPeer{}, report: newReport(o),
		headers: []string{"x-content-type-options: nosniff", "cache-control: no-store", "holdfast-node: web-1"}}
	defer func() {
		for _, s := range b.running {
			err = errors.Join(err, s.topology.end())
		}
		if err == nil || ctx.Err() != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		} else {
			err = fmt.Errorf("%w (what the servers wrote is in %s)", err, dir)
		}
	}()

	text, err := assets.ReadFile("assets/wrk.lua")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "wrk.lua"), text, 0o600); err != nil {
		return nil, err
	}

	cases := chosen(o.cases)
	for _, p := range peers {
		if !slices.ContainsFunc(cases, func(c scenario) bool {
			return slices.ContainsFunc(c.subjectsOf(o.only), func(s subject) bool { return s.peer == p.name })
		}) {
			continue
		}
		fmt.Fprintf(progress, "starting %s\n", p.name)
		if err := b.startPeer(ctx, p); err != nil {
			return nil, fmt.Errorf("%s does not stand: %w", p.name, err)
		}
		if p.name == "holdfast" {
			if err := b.readHeaders(); err != nil {
				return nil, err
			}
		}
	}

	wanted := b.preflight(cases)
	if err := ctx.Err(); err != nil {
		return nil, err
	}

	began := time.Now()
	err = b.measureRounds(ctx, cases, wanted)
	if err == nil {
		err = b.writeProfile()
	}
	if err == nil {
		err = b.measurePairs(ctx, wanted)
	}
	b.report.Took = time.Since(began).Round(time.Second)
	return b.report, err
}

// roomForFiles raises the limit of open files, for this process and those that it starts, to the
// most that is allowed.
func roomForFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// startPeer starts a peer with its whole topology, and fills its store.
func (b *bench) startPeer(ctx context.Context, p peer) error {
	b.launches++
	t, err := newTopology(filepath.Join(b.dir, strconv.Itoa(b.launches)), p.name)
	if err != nil {
		return err
	}
	b.running[p.name] = &runningPeer{peer: p, topology: t} // from here on compare ends it
	if p.redis {
		if err := t.startRedis(ctx, p.name == "holdfast"); err != nil {
			return err
		}
		if _, err := ask(t.master, "SET", "health", "good"); err != nil {
			return err
		}
		for _, size := range []int{smallValue, largeValue} {
			for i := range keysOf(size) {
				k := key(get, size, i)
				if _, err := ask(t.master, "SET", k, value(k, size)); err != nil {
					return err
				}
			}
		}
	}
	if _, err := b.startServer(ctx, p, t, t.server); err != nil {
		return err
	}
	return t.startHAProxy(ctx, p.health, p.entry)
}

// startServer starts a peer's server and waits until it can serve.
func (b *bench) startServer(ctx context.Context, p peer, t *topology, address string) (*process.Process, error) {
	dir, err := os.MkdirTemp(t.dir, "server-")
	if err != nil {
		return nil, err
	}
	l, err := p.serve(place{topology: t, address: address, holdfast: b.holdfast, dir: dir, headers: b.headers})
	if err != nil {
		return nil, err
	}
	started, err := t.start(tierServer, filepath.Base(dir), l.program, l.args, l.env)
	if err != nil {
		return nil, err
	}
	return started, until(ctx, 20*time.Second, func() error {
		if how := started.Exit(); how != "" {
			return fmt.Errorf("it has ended: %s", how)
		}
		return checkHealthy(address, p.health)
	})
}

// address returns the address at which a case reaches a peer.
func (b *bench) address(c scenario, s subject) string {
	t := b.running[s.peer].topology
	if c.behind {
		return t.entry
	}
	return t.server
}

// readHeaders stores the headers of Holdfast's answers, so that the ceiling can send the same ones.
// With fewer headers the ceiling would be too high.
func (b *bench) readHeaders() error {
	a, err := send(b.running["holdfast"].topology.server, http("GET", "/get?key="+key(get, smallValue, 0), ""))
	if err != nil {
		return err
	}
	b.headers = nil
	for _, header := range a.headers {
		name, _, _ := strings.Cut(header, ":")
		if !slices.Contains([]string{"content-length", "content-type", "date", "connection"}, name) { // the server's own
			b.headers = append(b.headers, header)
		}
	}
	return nil
}

// preflight sends each subject of each case one request, and returns those with the right answer. A
// wrong answer is a failure of the run and not a gap in the report.
func (b *bench) preflight(cases []scenario) map[measurement]bool {
	good := map[measurement]bool{}
	for _, c := range cases {
		for _, s := range c.subjectsOf(b.only) {
			x := c.exchanges(s)[0]
			a, err := send(b.address(c, s), x.request)
			if err == nil {
				err = a.checkBody(x.want)
			}
			if err != nil {
				b.fail(c, s, err)
				continue
			}
			good[measurement{c.name, s.name}] = true
		}
	}
	return good
}

func (b *bench) fail(c scenario, s subject, err error) {
	text := fmt.Sprintf("%s of %s: %v", c.name, s.name, err)
	fmt.Fprintln(b.progress, text)
	b.report.Failures = append(b.report.Failures, text)
}

// measureRounds measures every subject of every case once in each round. The order of the subjects
// is random each time, so that other activity on the machine affects them alike.
func (b *bench) measureRounds(ctx context.Context, cases []scenario, wanted map[measurement]bool) error {
	for round := range b.options.rounds {
		for _, c := range cases {
			all := c.subjectsOf(b.only)
			rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			for _, s := range all {
				if !wanted[measurement{c.name, s.name}] {
					continue
				}
				title := fmt.Sprintf("round %d of %d", round+1, b.options.rounds)
				if err := b.record(ctx, c, s, b.report.Cells, round, title); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// record stores one measurement of a subject. A failed measurement goes into the report. The error
// is only that of ctx.
func (b *bench) record(ctx context.Context, c scenario, s subject, cells cells, round int, title string) error {
	figures, err := b.measureOnce(ctx, c, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		b.fail(c, s, err)
		return nil
	}
	cells.add(c.name, s.name, round, figures)
	fmt.Fprintf(b.progress, "%6.0fs  %s  %-17s %-16s %s\n", time.Since(b.report.Date).Seconds(), title, c.name, s.name, brief(figures))
	return nil
}

// sample is the key that is looked up after a load that writes. Every load begins with the first
// keys, so this one has been written. (It is not the first, because wrk only inspects the very
// first request and does not send it.)
const sample = 7

// measureOnce carries out one measurement of one subject.
func (b *bench) measureOnce(ctx context.Context, c scenario, s subject) (map[string]float64, error) {
	t := b.running[s.peer].topology
	if err := t.emptyLogs(); err != nil {
		return nil, err
	}

	all := c.exchanges(s)
	if c.kind == idle {
		return b.idleCost(ctx, c, s, all)
	}

	if b.running[s.peer].muddles {
		if err := b.restart(ctx, c, s, all); err != nil {
			return nil, err
		}
	}

	written := ""
	if c.op.writes() {
		written = key(c.op, c.size, sample)
	}

	var l loaded
	var used map[string]usage
	var err error
	if c.kind == open {
		l, used, err = b.openLoad(ctx, c, s, all, written)
	} else {
		l, used, err = b.closedLoad(ctx, c, s, all, written)
	}

	if err != nil {
		return nil, err
	}

	if written != "" {
		if err := t.verifyStored(ctx, written, value(written, c.size)); err != nil {
			return nil, err
		}
	} else if !b.running[s.peer].muddles {
		if err := b.check(c, s, all); err != nil {
			return nil, fmt.Errorf("after the load: %w", err)
		}
	}

	return b.figures(c, s, l, used)
}

// deleteKey deletes the key that every load of the case writes, so that finding it afterwards
// proves something.
func (t *topology) deleteKey(written string) error {
	if written == "" {
		return nil
	}
	_, err := ask(t.master, "DEL", written)
	return err
}

// verifyStored returns an error unless master and replicas have the value.
func (t *topology) verifyStored(ctx context.Context, key, want string) error {
	for _, p := range t.plan.Hosts[0].Processes {
		if p.Kind != "redis" {
			continue
		}
		if err := until(ctx, 5*time.Second, func() error {
			// The default user has all rights on replicas, too.
			got, err := ask(p.Address, "GET", key)
			if err == nil && got != want {
				err = fmt.Errorf("%s has %.100q for %s, want %.100q", p.Node, got, key, want)
			}
			return err
		}); err != nil {
			return fmt.Errorf("an acknowledged value: %w", err)
		}
	}
	return nil
}

// restart starts the server of a peer again, and checks its answers.
func (b *bench) restart(ctx context.Context, c scenario, s subject, all []exchange) error {
	standing := b.running[s.peer]
	t := standing.topology
	if err := t.endServer(); err != nil {
		return err
	}
	if _, err := b.startServer(ctx, standing.peer, t, t.server); err != nil {
		return err
	}
	// The balancer may still have connections to the old server.
	return until(ctx, 10*time.Second, func() error { return b.check(c, s, all) })
}

// check checks some bodies, since wrk only looks at statuses.
func (b *bench) check(c scenario, s subject, all []exchange) error {
	for _, i := range []int{0, len(all) / 2, len(all) - 1} {
		a, err := send(b.address(c, s), all[i].request)
		if err == nil {
			err = a.checkBody(all[i].want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) closedLoad(ctx context.Context, c scenario, s subject, all []exchange, written string) (loaded, map[string]usage, error) {
	standing, address := b.running[s.peer], b.address(c, s)
	t := standing.topology
	requests := filepath.Join(b.dir, c.name+"."+s.name)
	if _, err := os.Stat(requests); errors.Is(err, os.ErrNotExist) {
		if err := writeRequests(requests, all); err != nil {
			return loaded{}, nil, err
		}
	}
	warm := b.warm
	if b.slices && standing.warm && !standing.muddles {
		warm = min(warm, sliceWarm)
	}
	if warm > 0 {
		if _, err := wrk(ctx, b.dir, address, requests, c.connections, warm); err != nil && !errors.Is(err, errNothing) {
			return loaded{}, nil, fmt.Errorf("warming up: %w", err)
		}
		standing.warm = true
	}

	if err := t.deleteKey(written); err != nil {
		return loaded{}, nil, err
	}

	before, err := t.use()
	if err != nil {
		return loaded{}, nil, err
	}

	l, err := b.profiled(ctx, s, func() (loaded, error) {
		measure := b.measure
		if c.crowded() { // so that opening its connections is a small part of it
			measure += time.Duration(c.connections) * time.Millisecond
		}
		return wrk(ctx, b.dir, address, requests, c.connections, measure)
	})
	if err != nil {
		return loaded{}, nil, err
	}
	used, err := t.since(before)
	return l, used, err
}

func (b *bench) openLoad(ctx context.Context, c scenario, s subject, all []exchange, written string) (loaded, map[string]usage, error) {
	t := b.running[s.peer].topology
	loop := &openLoop{address: b.address(c, s), exchanges: all}
	if err := loop.dial(ctx, c.connections); err != nil {
		return loaded{}, nil, err
	}
	if err := t.deleteKey(written); err != nil {
		loop.close()
		return loaded{}, nil, err
	}
	before, err := t.use()
	if err != nil {
		loop.close()
		return loaded{}, nil, err
	}
	l, err := loop.run(ctx, b.rate, b.warm, b.measure)
	if err != nil {
		return loaded{}, nil, err
	}
	used, err := t.since(before)
	// The figures of use include the warm-up: subtract its share.
	part := float64(b.measure) / float64(b.warm+b.measure)
	for tier, u := range used {
		u.cpu = time.Duration(float64(u.cpu) * part)
		used[tier] = u
	}
	return l, used, err
}

// since returns the CPU time used since before, and the present memory.
func (t *topology) since(before map[string]usage) (map[string]usage, error) {
	used, err := t.use()
	for tier, u := range used {
		u.cpu -= before[tier].cpu
		used[tier] = u
	}
	return used, err
}

// idleCost returns the memory of a connection that had one answer and now idles. The server is a
// new one: memory left in its heap by an earlier load would hide the cost.
func (b *bench) idleCost(ctx context.Context, c scenario, s subject, all []exchange) (_ map[string]float64, err error) {
	standing := b.running[s.peer]
	port, err := freePort()
	if err != nil {
		return nil, err
	}

	address := fmt.Sprintf("127.0.0.1:%d", port)
	fresh := *standing.topology
	fresh.all, fresh.tiers = nil, map[string][]*process.Process{}
	defer func() { err = errors.Join(err, fresh.end()) }()

	if _, err := b.startServer(ctx, standing.peer, &fresh, address); err != nil {
		return nil, err
	}

	settle := time.Second
	if b.quick {
		settle = 100 * time.Millisecond
	}
	for range 100 { // the first requests allocate what every server needs once
		if err := b.exchangeOnce(address, all[0]); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}

	before, err := fresh.use()
	if err != nil {
		return nil, err
	}

	loop := &openLoop{address: address, exchanges: all}
	if err := loop.dial(ctx, c.connections); err != nil {
		return nil, err
	}
	defer loop.close()
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}

	after, err := fresh.use()
	if err != nil {
		return nil, err
	}

	grown := after[tierServer].rss - before[tierServer].rss
	return map[string]float64{
		figureIdle: float64(grown) / float64(c.connections),
		figureRSS:  float64(before[tierServer].rss),
	}, nil
}

func (b *bench) exchangeOnce(address string, x exchange) error {
	a, err := send(address, x.request)
	if err != nil {
		return err
	}
	return a.checkBody(x.want)
}

// figures returns the figures of a measurement.
func (b *bench) figures(c scenario, s subject, l loaded, used map[string]usage) (map[string]float64, error) {
	commands := float64(l.requests) * float64(c.op.commands())
	if commands == 0 {
		return nil, errNothing
	}
	f := map[string]float64{
		figureRate: commands / l.took.Seconds(),
		figureP50:  l.p50.Seconds(), figureP99: l.p99.Seconds(), figureP999: l.p999.Seconds(),
		figureRSS: float64(used[tierServer].rss),
	}
	if c.kind == open {
		f[figureLate] = l.late.Seconds()
	} else {
		f[figureLoader] = l.cpu.Seconds() / commands
	}
	for tier, u := range used {
		// Without the balancer in front, it only sends health checks.
		if tier == tierHAProxy && !c.behind {
			continue
		}
		f[figureCPU+tier] = u.cpu.Seconds() / commands
		f[figureCPU+"all"] += u.cpu.Seconds() / commands
	}
	return f, nil
}
