package supervise

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// A host that is cut off from the others keeps the virtual address: it hears of nobody else
// who has it. Clients that still reach the host then get nothing but errors, and when the cut
// ends the address may move back to it. So the host gives the address away by itself when it
// reaches no majority of the hosts, and its balancers reach no node of an application or no
// master of Redis (a web node is ready without one: it holds what it gets). Neither is enough
// alone: without a majority what runs goes on, and where nothing serves anywhere a balancer
// that says so is better than no answer.

const (
	cutInterval = 500 * time.Millisecond // between two looks
	// cutPatience is how long the host has to be cut off until it looks at its balancers.
	cutPatience = time.Second
	cutAnswer   = 300 * time.Millisecond // for a balancer
	cutParting  = 2 * time.Second        // for what the clients of all have in hand
	// cutLeaving is how long keepalived may take to give an address away.
	cutLeaving = 300 * time.Millisecond
)

// WatchCut tells the keepalived of this host when the host is cut off, until ctx ends. It is
// for every host, whichever leads; cutOff reports whether it reaches no majority.
func WatchCut(ctx context.Context, state string, cutOff func(context.Context) bool, log *slog.Logger) {
	accept(ctx, state) // an earlier process may have ended while it refused
	var since time.Time
	was := false // cut off, and serving nobody
	for tick := time.NewTicker(cutInterval); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case now := <-tick.C:
			cut := false
			switch {
			case !cutOff(ctx):
				since = time.Time{}
			case since.IsZero():
				since = now
				continue
			case now.Sub(since) < cutPatience:
				continue
			default:
				cut = !serving(ctx, state)
			}
			switch {
			case cut && !was:
				partFromClients(ctx, state, func() { tellCut(state, cut, log) })
			case was && !cut:
				accept(ctx, state)
				tellCut(state, cut, log)
			default:
				tellCut(state, cut, log)
			}
			was = cut
		}
	}
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
		_, _ = c.CloseSessions(parting, entryFrontend) // what is left ends by itself
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
func serving(ctx context.Context, state string) bool {
	asked := false
	for _, socket := range balancerSockets(state) {
		ctx, cancel := context.WithTimeout(ctx, cutAnswer)
		stats, err := haproxy.NewClient(socket).Stat(ctx)
		cancel()
		if err != nil {
			continue // it is dead, or hangs: that is the health file's
		}
		if asked = true; servesAll(stats) {
			return true
		}
	}
	return !asked
}

// redisMaster is the backend of the Redis master that has replicas (package plan's
// haproxy.cfg). The others of Redis, which begin likewise, do not count.
const redisMaster = "redis.master"

// servesAll reports whether every application's backend has a server that serves, and
// Redis' master.
func servesAll(stats []haproxy.Stat) bool {
	serves := map[string]bool{}
	for _, row := range stats {
		if row.IsServer() && (row.Backend == redisMaster || !strings.HasPrefix(row.Backend, "redis.")) {
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
