package supervise

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// A host that is cut off from the others hears of nobody who has the virtual address: it
// keeps the address, or takes it. Clients that still reach the host then get nothing but
// errors, by turns with the host that has the address rightly, and when the cut ends the
// address may move back. So the host's own process keeps the address away:
//
//   - A host that did not have the address does not take it while no majority of the machines
//     replies, for cutWary. Later it may: the others may be lost, and its balancers know by
//     then whether there is anything to serve.
//   - A host that had the address gives it away when it reaches no majority of the hosts, and
//     its balancers reach no node of an application, or no master of Redis that could
//     acknowledge a write (a web node is ready without one: it holds what it gets). Neither is
//     enough alone: without a majority what runs goes on, and where nothing serves anywhere a
//     balancer that says so is better than no answer.

const (
	cutInterval = 100 * time.Millisecond // between two looks
	// cutWary is longer than balancers need to notice that they reach nobody.
	cutWary = 6 * time.Second
	// cutPatience is how long the host has to be cut off until it looks at its balancers.
	cutPatience = time.Second
	cutPause    = 500 * time.Millisecond // between two looks of that kind
	cutAnswer   = 300 * time.Millisecond // for a balancer
	cutParting  = 2 * time.Second        // for what the clients of all have in hand
	// cutLeaving is how long keepalived may take to give an address away.
	cutLeaving = 300 * time.Millisecond
)

// Contact is what the process of a host knows of the other hosts.
type Contact interface {
	// Quiet reports whether it has heard of no host that leads for a moment. It asks nobody.
	Quiet() bool
	// Alone reports whether no majority of the machines replies, be it that nobody listens.
	Alone(context.Context) bool
	// CutOff reports whether no majority of the hosts' processes answers.
	CutOff(context.Context) bool
}

// WatchCut tells the keepalived of this host when it is not to have the virtual address,
// until ctx ends. It is for every host, whichever leads.
func WatchCut(ctx context.Context, state string, contact Contact, log *slog.Logger) {
	accept(ctx, state) // an earlier process may have ended while it refused
	tellCut(state, false, log)
	look := cutLook{
		holds:   func() bool { return holdsVirtual(state) },
		alone:   func() bool { return contact.Alone(ctx) },
		cutOff:  func() bool { return contact.CutOff(ctx) },
		serving: func(alone bool) bool { return serving(ctx, state, alone) },
	}
	var w cutWatch
	tick := time.NewTicker(cutInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		was := w.cut
		switch w.step(time.Now(), contact.Quiet(), look); {
		case ctx.Err() != nil: // what it asked for was given up, and says nothing
			return
		case w.parts(was, look.holds):
			partFromClients(ctx, state, func() { tellCut(state, true, log) })
		case w.cut:
			tellCut(state, true, log)
		case was:
			accept(ctx, state)
			tellCut(state, false, log)
		}
	}
}

// cutLook is how a host finds out what it has to know. Each but holds may take its time.
// Serving is told whether no majority of the machines replies.
type cutLook struct {
	holds, alone, cutOff func() bool
	serving              func(alone bool) bool
}

// cutWatch decides whether a host is not to have the virtual address.
type cutWatch struct {
	// since is when the host heard of no leader any more; zero: it hears of one. had is
	// whether it had the address then.
	since time.Time
	had   bool
	// off is since when it reaches no majority; zero: it does. next is when it looks again.
	off, next time.Time
	cut       bool
}

func (w *cutWatch) step(now time.Time, quiet bool, look cutLook) {
	if !quiet {
		*w = cutWatch{}
		return
	}
	if w.since.IsZero() {
		w.since, w.had = now, look.holds()
	}
	if !w.had && now.Sub(w.since) < cutWary {
		w.cut = look.alone()
		return
	}

	if now.Before(w.next) {
		return
	}
	w.next = now.Add(cutPause)
	switch {
	case !look.cutOff():
		w.off, w.cut = time.Time{}, false
	case w.off.IsZero():
		w.off = now
	case now.Sub(w.off) >= cutPatience:
		w.cut = !look.serving(look.alone())
	}
}

// parts reports whether the host has just become one that is not to have the address, and has
// clients by it. They are there also when it has lost the address before: keepalived gives it
// to a host with a higher priority that it hears, be it that nobody hears this one.
func (w *cutWatch) parts(was bool, holds func() bool) bool {
	return w.cut && !was && (w.had || holds())
}

// holdsVirtual reports whether this machine has a virtual address of its stack.
func holdsVirtual(state string) bool {
	file, _, known := LastFile(state)
	return known && slices.ContainsFunc(file.Entry.Virtual.Bare(), func(address string) bool {
		return ownAddress(net.JoinHostPort(address, "0"))
	})
}

// tellCut writes the cut files of a host where they say something else.
func tellCut(state string, cut bool, log *slog.Logger) {
	text := []byte(plan.Well)
	if cut {
		text = []byte(plan.Unwell)
	}
	for _, path := range cutFiles(state) {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
			continue
		}
		if err := machine.WriteFile(path, 0o600, text); err != nil {
			log.Error("cannot tell keepalived whether this host is cut off", "cut", cut, "error", err)
			continue
		}
		log.Info("keepalived is told whether this host is cut off and serves nobody", "cut", cut)
	}
}

// partFromClients ends what the clients of a host's balancers have in hand, and takes nothing
// new, while the address leaves: without it nothing reaches these clients any more, and each
// would wait for as long as it has patience.
func partFromClients(ctx context.Context, state string, leave func()) {
	if len(cutFiles(state)) == 0 {
		return // there is no address
	}
	parting, cancel := context.WithTimeout(ctx, cutParting)
	for _, socket := range balancerSockets(state) {
		c := haproxy.NewClient(socket)
		_ = c.Accept(parting, entryFrontend, false)
		// HAProxy takes a request whose session is closed for one that its server has cut off,
		// and repeats it ("retry-on empty-response") as often as "retries" allows.
		for {
			if closed, err := c.CloseSessions(parting, entryFrontend); err != nil || closed == 0 {
				break // what is left ends by itself
			}
		}
	}
	cancel()
	leave()
	time.Sleep(cutLeaving)
	accept(ctx, state)
}

// accept has the balancers of a host with a virtual address take connections again.
func accept(ctx context.Context, state string) {
	if len(cutFiles(state)) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutParting)
	defer cancel()
	for _, socket := range balancerSockets(state) {
		_ = haproxy.NewClient(socket).Accept(ctx, entryFrontend, true) // one that hangs is killed, and the next one accepts
	}
}

// cutFiles are those of the keepalived nodes of a host.
func cutFiles(state string) []string {
	files, _ := filepath.Glob(filepath.Join(state, "nodes", "*", plan.CutFile)) // the pattern is good
	return files
}

// entryFrontend is the balancers' frontend of the entry (package plan's haproxy.cfg).
const entryFrontend = "entry"

func balancerSockets(state string) []string {
	sockets, _ := filepath.Glob(filepath.Join(state, "nodes", string(plan.Balancer)+"-*", plan.BalancerSocket)) // the pattern is good
	return sockets
}

// serving reports whether a balancer of a host has a server for each application, or does
// not say.
func serving(ctx context.Context, state string, alone bool) bool {
	asked := false
	for _, socket := range balancerSockets(state) {
		ctx, cancel := context.WithTimeout(ctx, cutAnswer)
		stats, err := haproxy.NewClient(socket).Stat(ctx)
		cancel()
		if err != nil {
			continue // it is dead, or hangs: that is the health file's
		}
		if asked = true; servesAll(stats) && !(alone && masterAlone(stats, ownAddress)) {
			return true
		}
	}
	return !asked
}

// servesAll reports whether every application's backend has a server that serves, and that of
// the Redis master that takes writes. Redis' other backends, whose names begin likewise, do not
// count.
func servesAll(stats []haproxy.Stat) bool {
	serves := map[string]bool{}
	for _, row := range stats {
		if row.IsServer() && (row.Backend == plan.RedisMasterBackend || !strings.HasPrefix(row.Backend, "redis.")) {
			serves[row.Backend] = serves[row.Backend] || row.Serves()
		}
	}
	for _, one := range serves {
		if !one {
			return false
		}
	}
	return true
}

// masterAlone reports whether the only master that a balancer finds is on its own host, and no
// redis node of another host answers. A master that is cut off calls itself master for
// seconds, with as many replicas as before. Where no majority of the machines replies either,
// its Sentinels have no majority, and no write is acknowledged. Here reports whether an address
// is one of this host.
func masterAlone(stats []haproxy.Stat, here func(address string) bool) bool {
	others := false
	for _, row := range stats {
		if !row.IsServer() || row.Backend != plan.RedisMasterBackend || here(row.Address) {
			continue
		}
		if others = true; row.Serves() || row.Answers() {
			return false
		}
	}
	return others
}

// ownAddress reports whether a host and port are of this machine.
func ownAddress(address string) bool {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return false
	}
	mine, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(mine, func(one net.Addr) bool {
		own, is := one.(*net.IPNet)
		return is && own.IP.Equal(at.Addr().AsSlice())
	})
}
