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

// A host that is cut off from the others hears no host that has the virtual address, so its
// keepalived keeps the address or takes it. Clients that still reach the host then get errors,
// in turn with the host that rightly has the address. When the cut ends, the address may move
// again. So the host's own process keeps the address away:
//
//  - A host that did not have the address does not take it for cutWary, while no majority of the
//    machines replies. After that it may, because the others may be lost. By then its balancers know
//    whether there is anything to serve.
//  - A host that had the address gives it away when two things are true: it reaches no majority of
//    the hosts, and its balancers reach no node of an application, or no Redis master that could
//    acknowledge a write. (A web node is ready without a master: it holds requests.) One of the two
//    is not enough. Without a majority, what runs goes on; and where nothing serves anywhere, a
//    balancer that answers with an error is better than no answer.

const (
	cutInterval = 100 * time.Millisecond // between two looks at the other hosts
	// cutWary is longer than balancers need to notice that they reach nothing.
	cutWary = 6 * time.Second
	// cutPatience is how long the host has to be cut off before it asks its balancers.
	cutPatience     = time.Second
	cutPause        = 500 * time.Millisecond // between two checks whether the host is cut off
	cutAnswer       = 300 * time.Millisecond // for one balancer to reply
	endClientsLimit = 2 * time.Second        // to end the requests of all clients
	// cutLeaving is how long keepalived may take to give up an address.
	cutLeaving = 300 * time.Millisecond
)

// Contact is what a host's process knows of the other hosts.
type Contact interface {
	// Quiet reports whether the process has heard of no leading host for a moment. It sends
	// nothing.
	Quiet() bool
	// Alone reports whether no majority of the machines replies, even to say that the port is
	// closed.
	Alone(context.Context) bool
	// CutOff reports whether no majority of the hosts' processes replies.
	CutOff(context.Context) bool
}

// WatchCut tells this host's keepalived when it must not have the virtual address, until ctx
// ends. It runs on every host, whichever host leads.
func WatchCut(ctx context.Context, state string, contact Contact, log *slog.Logger) {
	acceptConnections(ctx, state) // an earlier process may have ended while its balancers refused connections
	writeCutFiles(state, false, log)
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

		was := w.unfit
		switch w.step(time.Now(), contact.Quiet(), look); {
		case ctx.Err() != nil: // the questions were cut short, and their results mean nothing
			return
		case w.mustEndClients(was, look.holds):
			endClients(ctx, state, func() { writeCutFiles(state, true, log) })
		case w.unfit:
			writeCutFiles(state, true, log)
		case was:
			acceptConnections(ctx, state)
			writeCutFiles(state, false, log)
		}
	}
}

// cutLook holds how a host finds out what it has to know. Each function but holds may take its
// time. The argument of serving is the result of alone.
type cutLook struct {
	holds, alone, cutOff func() bool
	serving              func(alone bool) bool
}

// cutWatch decides whether a host must not have the virtual address.
type cutWatch struct {
	// since is when the host lost contact to a leader; zero while it has contact. hadAddress is
	// whether it had the address at that time.
	since      time.Time
	hadAddress bool
	// cutOffSince is since when the host reaches no majority; zero while it does. next is when to
	// look again.
	cutOffSince, next time.Time
	// unfit is true if the host must not have the address.
	unfit bool
}

// step updates unfit at the time now. quiet is the result of Contact.Quiet.
func (w *cutWatch) step(now time.Time, quiet bool, look cutLook) {
	if !quiet {
		*w = cutWatch{}
		return
	}
	if w.since.IsZero() {
		w.since, w.hadAddress = now, look.holds()
	}
	if !w.hadAddress && now.Sub(w.since) < cutWary {
		w.unfit = look.alone()
		return
	}

	if now.Before(w.next) {
		return
	}

	w.next = now.Add(cutPause)
	switch {
	case !look.cutOff():
		w.cutOffSince, w.unfit = time.Time{}, false
	case w.cutOffSince.IsZero():
		w.cutOffSince = now
	case now.Sub(w.cutOffSince) >= cutPatience:
		w.unfit = !look.serving(look.alone())
	}
}

// mustEndClients reports whether the host must not have the address since this step, and has
// clients that came by it. It may have such clients although it has already lost the address:
// keepalived yields to a host with a higher priority that it hears, even if that host does not hear
// this one.
func (w *cutWatch) mustEndClients(was bool, holds func() bool) bool {
	return w.unfit && !was && (w.hadAddress || holds())
}

// holdsVirtual reports whether this machine has a virtual address of its stack.
func holdsVirtual(state string) bool {
	file, _, known := LastFile(state)
	return known && slices.ContainsFunc(file.Entry.Virtual.Bare(), func(address string) bool {
		return ownAddress(net.JoinHostPort(address, "0"))
	})
}

// writeCutFiles writes the host's cut files, except those that already have the right content.
func writeCutFiles(state string, cut bool, log *slog.Logger) {
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

// endClients ends the requests of the clients of a host's balancers, and refuses new ones,
// while the address leaves. Without the address nothing reaches these clients any more, and each
// would wait until its own time-out.
func endClients(ctx context.Context, state string, leave func()) {
	if len(cutFiles(state)) == 0 {
		return // the stack has no virtual address
	}
	parting, cancel := context.WithTimeout(ctx, endClientsLimit)
	for _, socket := range balancerSockets(state) {
		c := haproxy.NewClient(socket)
		_ = c.Accept(parting, entryFrontend, false)
		// HAProxy treats a request whose session is closed as cut off by its server, and repeats
		// it ("retry-on empty-response") as often as "retries" allows.
		for {
			if closed, err := c.CloseSessions(parting, entryFrontend); err != nil || closed == 0 {
				break // any other session ends by itself
			}
		}
	}

	cancel()
	leave()
	time.Sleep(cutLeaving)
	acceptConnections(ctx, state)
}

// acceptConnections has the balancers of a host with a virtual address take connections again.
func acceptConnections(ctx context.Context, state string) {
	if len(cutFiles(state)) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endClientsLimit)
	defer cancel()
	for _, socket := range balancerSockets(state) {
		_ = haproxy.NewClient(socket).Accept(ctx, entryFrontend, true) // a balancer that hangs is killed, and its next process accepts
	}
}

// cutFiles returns the paths of the files that this host's keepalived nodes read.
func cutFiles(state string) []string {
	files, _ := filepath.Glob(filepath.Join(state, "nodes", "*", plan.CutFile)) // Glob fails only for a malformed pattern
	return files
}

// entryFrontend is the balancers' frontend of the entry (package plan's haproxy.cfg).
const entryFrontend = "entry"

// balancerSockets returns the paths of the runtime sockets of the host's balancers.
func balancerSockets(state string) []string {
	sockets, _ := filepath.Glob(filepath.Join(state, "nodes", string(plan.Balancer)+"-*", plan.BalancerSocket)) // Glob fails only for a malformed pattern
	return sockets
}

// serving reports whether a balancer of a host has a server for each application. It returns
// true also if no balancer replies, because then nothing is known.
func serving(ctx context.Context, state string, alone bool) bool {
	asked := false
	for _, socket := range balancerSockets(state) {
		ctx, cancel := context.WithTimeout(ctx, cutAnswer)
		stats, err := haproxy.NewClient(socket).Stat(ctx)
		cancel()
		if err != nil {
			continue // it is dead or hangs: the health file deals with that
		}
		if asked = true; servesAll(stats) && !(alone && masterAlone(stats, ownAddress)) {
			return true
		}
	}
	return !asked
}

// servesAll reports whether every application's backend has a server that serves, and so has the
// backend of the Redis master for writes. Redis' other backends, whose names also begin with
// "redis.", do not count.
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
// redis node of another host answers. A master that is cut off calls itself master for seconds,
// with as many replicas as before. If no majority of the machines replies either, its Sentinels
// have no majority, and no write is acknowledged. The function here reports whether an address
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

// ownAddress reports whether the host of a "host:port" is an address of this machine.
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
