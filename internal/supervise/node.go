package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// Action is what an operator can ask of a node.
type Action string

// The actions.
const (
	ActStart   Action = "start"
	ActStop    Action = "stop"
	ActRestart Action = "restart"
	ActKill    Action = "kill"   // SIGKILL; the supervisor starts it again
	ActPause   Action = "pause"  // SIGSTOP
	ActResume  Action = "resume" // SIGCONT

	// actCut has a stopping node cut open connections by its CutSignal. Only the supervisor sends
	// it.
	actCut Action = "cut"
	// actReload and actTake give a node other settings without starting another process (see
	// command.spec). With actReload the process is told to read its files again; with actTake it
	// need not know. Only the supervisor sends them, mostly in changes (engine.go).
	actReload Action = "reload"
	actTake   Action = "take"
)

// Timing of a node's life.
const (
	// A node that dies is started again at once, then after backoffFirst, which doubles up to
	// backoffMost. After being up for calm, its earlier deaths no longer count.
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 15 * time.Second
	calm         = 30 * time.Second
	// deaths is how many deaths, without calm in between, make a node count as failed. It is still
	// started again, every backoffMost.
	deaths = 5

	// cutLimit is how long a balancer may take to end after it was told to cut the open
	// connections.
	cutLimit = 2 * time.Second

	// signalAgainAfter is the pause, doubling each time, before a balancer is told again to stop:
	// HAProxy's master process ignores signals that arrive while it starts.
	signalAgainAfter = time.Second

	probeStarting = 40 * time.Millisecond
	probeUp       = 500 * time.Millisecond
	probeTimeout  = 2 * time.Second
	// askAgain is how long a node that may not start yet waits before it looks again.
	askAgain = 100 * time.Millisecond
)

// node looks after one process of the stack. Its fields are owned by the goroutine of run,
// except for the channels and atomic values; other goroutines send commands.
type node struct {
	now       atomic.Pointer[plan.Process] // see spec
	sup       *Supervisor
	log       *slog.Logger
	commands  chan command
	drained   chan machine.Process // processes that have left service and may be stopped
	inService chan machine.Process // processes that the balancers know to be up

	gone chan struct{} // closed by removal from the stack (dropNode)

	next           *plan.Process // settings for the next process; nil: unchanged
	proc           machine.Process
	processLog     processLog
	notedProc      machine.Process // the process whose server was last asked for (noteWriter)
	settingsDigest string          // digest of the settings that proc was started with
	listenAddress  string          // the address that the last process was started with
	want           want
	brief          bool // the node is stopped only for a moment: see command.brief
	state          State
	detail         string
	restarts       int
	crashes        int         // ends that nobody asked for, since the node got its settings
	died           int         // deaths since it was last calm
	began          time.Time   // when this process was started; zero: it was adopted
	upSince        time.Time   // since when this process has been up; zero: not yet
	deadAt         time.Time   // when the redis node was first seen dead
	startAt        time.Time   // the earliest next start; zero: now
	killAt         time.Time   // when a stopping process is killed; zero: it is not stopping
	startFacts     *redisFacts // the facts that the first decision is made on
	waiting        []waiter
	probing        bool
	hungFrom       time.Time // since when the liveness probe has failed
	// unable is true while a node cannot run on its host.
	unable bool
	// cut is true if a stopping balancer was told to cut the open connections.
	cut bool
	// lastSignal is the signal by which the process was told to stop. A balancer is told again at
	// nextSignalAt, and the next pause is signalPause.
	lastSignal   syscall.Signal
	nextSignalAt time.Time
	signalPause  time.Duration
	// reloadAgain is true if a balancer was told to reload before it was up.
	reloadAgain bool
	// enteringService is true from the moment that an application's node is up until the balancers
	// know it. Until then they send it no requests.
	enteringService bool
	// connected is true if this process, a replica, was told to connect to its master.
	connected bool

	published NodeStatus // the status that was published last
	written   record     // the record that was written last, perhaps by an earlier supervisor
	// inherited is the state in which a node was adopted, and since when. It is cleared when the
	// node is found in another state.
	inherited record

	// outdated is true if the settings of the adopted process differ from the plan's. keepDown is
	// true if the operator stopped or paused the node under an earlier supervisor. Both are set
	// before run, or by run where the process is found later (findProcess).
	outdated, keepDown atomic.Bool
	// paused is true while the operator has the node paused.
	paused atomic.Bool
	// notFoundYet is true while nobody knows whether the node runs, because its host was away.
	notFoundYet bool
}

// command is an action on its way to a node. The answer is sent when the action's goal is
// reached or cannot be reached.
type command struct {
	action     Action
	startFacts *redisFacts
	// spec is the process that the node is to have from now on, or for ActRestart from its next
	// process on; nil: unchanged.
	spec *plan.Process
	// brief is for ActStop: the node will be started again in a moment. It is recorded as wanted
	// up, so that the next supervisor starts it if this one dies in between.
	brief  bool
	answer chan error // buffered
}

// waiter is a command whose goal is not reached yet.
type waiter struct {
	action Action
	old    machine.Process // for a restart: the process that has to end first
	answer chan error
}

func newNode(sup *Supervisor, spec plan.Process) *node {
	n := &node{
		sup: sup, state: Down, want: wantDown,
		log:      sup.log.With("node", spec.Node),
		commands: make(chan command, 16), drained: make(chan machine.Process),
		inService: make(chan machine.Process), gone: make(chan struct{}),
	}
	n.now.Store(&spec)
	return n
}

// run looks after the node until ctx ends or the node is removed. It leaves the process
// running, because processes outlive their supervisor; ending one takes a command.
func (n *node) run(ctx context.Context) {
	probes := make(chan probeResult, 1)
	timer := time.NewTimer(0)
	defer timer.Stop()
	if n.proc != nil && n.want == wantDown {
		n.terminate() // it was stopped under an earlier supervisor
	}
	for {
		var done <-chan struct{}
		if n.proc != nil {
			done = n.proc.Done()
		}
		select {
		case <-ctx.Done():
			for _, w := range n.waiting {
				w.answer <- ctx.Err()
			}
			return
		case <-n.gone:
			return
		case c := <-n.commands:
			n.command(c)
		case <-done:
			n.ended()
		case p := <-n.drained:
			if p == n.proc && !n.killAt.IsZero() {
				n.signalStop()
			}
		case p := <-n.inService:
			if p == n.proc {
				n.enteringService = false
				n.settle()
			}
		case r := <-probes:
			n.probing = false
			n.probed(r)
		case <-timer.C:
			n.tick(ctx, probes)
		}
		n.publish()
		timer.Reset(n.nextTick())
	}
}

// nextTick returns how long tick can wait.
func (n *node) nextTick() time.Duration {
	switch {
	case n.proc == nil && n.want == wantUp:
		return max(time.Until(n.startAt), 0)
	case n.proc == nil:
		return time.Hour
	case !n.killAt.IsZero() && !n.nextSignalAt.IsZero():
		return max(min(time.Until(n.killAt), time.Until(n.nextSignalAt)), 0)
	case !n.killAt.IsZero():
		return max(time.Until(n.killAt), 0)
	case n.state == Up || n.state == Paused:
		return probeUp
	}
	return probeStarting
}

// tick does what is due: it starts the process, kills one that does not stop, or probes.
func (n *node) tick(ctx context.Context, probes chan<- probeResult) {
	switch {
	case n.proc == nil && n.want == wantUp && !time.Now().Before(n.startAt):
		n.start(ctx)
	case n.proc == nil:
	case !n.killAt.IsZero():
		switch {
		case time.Now().Before(n.killAt):
			n.stopAgain()
		case n.spec().Kind.Traits().CutSignal != "" && !n.cut:
			// Cut the open connections; then the workers that only wait for these end at once.
			n.cut = true
			n.sendStopSignal(signals[n.spec().Kind.Traits().CutSignal])
			n.killAt = time.Now().Add(cutLimit)
		default:
			n.log.Warn("did not stop in time: killed", "grace", n.spec().Grace)
			n.proc.SignalGroup(syscall.SIGKILL)
			n.killAt = time.Now().Add(time.Second)
		}

	case !n.probing && n.want == wantUp:
		if n.reloadAgain && n.state == Up {
			n.reloadAgain = false
			n.reload()
		}
		n.probing = true
		proc, limit := n.proc, n.probeLimit()
		fresh := n.upSince.IsZero() && !n.began.IsZero() && !n.connected
		n.sup.tasks.Go(func() {
			began := time.Now()
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			r := n.sup.probe(ctx, *n.spec())
			if r.idle != "" && fresh {
				r.connected = n.sup.connect(ctx, n.spec().Node, r.idle)
			}
			r.proc, r.began = proc, began
			probes <- r // buffered, and one at a time
		})
	}
}

// command begins an action.
func (n *node) command(c command) {
	if err := n.refuse(c.action); err != nil {
		c.answer <- err
		return
	}
	if n.notFoundYet && (c.action == ActStop || c.action == ActRestart) {
		if err := n.findProcessNow(); err != nil {
			c.answer <- err
			return
		}
	}
	w := waiter{action: c.action, answer: c.answer, old: n.proc}
	if c.spec != nil {
		n.next = c.spec
	}
	switch c.action {
	case actReload, actTake:
		c.answer <- n.applySettings(c.action)
		return
	case ActStart:
		n.wantUpAgain()
		n.detail = ""
		if n.proc == nil { // the facts are only for a start that happens now
			n.startFacts = c.startFacts
		}
	case ActStop:
		n.terminate()
		n.want, n.brief = wantDown, c.brief
		if n.proc == nil {
			n.state, n.detail = Down, ""
		}
	case ActRestart:
		n.terminate()
		n.wantUpAgain()
		if n.proc == nil {
			n.takeNext()
		}
	case ActKill, ActPause, ActResume:
		n.log.Info(string(c.action))
		switch c.action {
		case ActKill:
			n.proc.SignalGroup(syscall.SIGKILL)
			if n.want == wantPaused {
				n.want = wantUp
			}
		case ActPause:
			n.want = wantPaused
			n.proc.SignalGroup(syscall.SIGSTOP)
			n.state = Paused
		case ActResume:
			n.want, n.hungFrom = wantUp, time.Time{}
			n.proc.SignalGroup(syscall.SIGCONT)
			if n.state == Paused {
				n.state = Starting
			}
		}
	case actCut:
		if n.proc != nil && !n.killAt.IsZero() {
			n.sendStopSignal(signals[n.spec().Kind.Traits().CutSignal])
		}
		c.answer <- nil
		return
	}
	// After 'down', the whole stack is to be up the next time: so its stops are not recorded.
	if !n.sup.stopping.Load() && (n.proc != nil || c.action == ActStop) {
		n.record()
	}
	n.waiting = append(n.waiting, w)
	n.settle()
}

// wantUpAgain wants the node up, and forgets its earlier deaths.
func (n *node) wantUpAgain() {
	n.want, n.brief, n.startAt, n.died = wantUp, false, time.Time{}, 0
	if n.state == Failed {
		n.state = Starting
	}
}

// start starts the process, or sets detail to the reason why it cannot start yet.
func (n *node) start(ctx context.Context) {
	if n.state != Failed {
		n.state = Starting
	}
	if why := n.whyNotStart(ctx); why != "" {
		n.detail = why
		n.startAt = time.Now().Add(askAgain)
		return
	}

	if n.notFoundYet {
		switch seen, err := n.findProcess(ctx); {
		case err != nil:
			n.detail = fmt.Sprintf("its host is back, and does not say whether it runs: %v", err)
			n.startAt = time.Now().Add(askAgain)
			return
		case seen:
			n.settle()
			return
		}
	}

	if n.spec().Kind.Traits().Optional {
		if why := n.sup.prepareKeepalived(ctx, *n.spec()); why != "" {
			n.markUnable(why)
			return
		}
	}

	if n.spec().Kind == plan.Balancer {
		if err := n.sup.ensureCertificatesFor(ctx, n.home(), n.spec().Node); err != nil {
			n.detail, n.startAt = err.Error(), time.Now().Add(askAgain)
			return
		}
	}

	args, master := n.spec().Args, ""
	if n.spec().Kind == plan.Redis {
		if n.deadAt.IsZero() {
			n.deadAt = time.Now()
		}
		decision := n.sup.decide(ctx, n.spec().Node, n.deadAt, n.startFacts)
		n.startFacts = nil
		switch {
		case decision.Wait != "":
			if n.detail != decision.Wait {
				level := slog.LevelInfo
				if decision.Refused {
					level = slog.LevelWarn
				}
				n.log.Log(ctx, level, "not started yet", "why", decision.Wait)
			}
			n.detail = decision.Wait
			if decision.Refused {
				n.state = Failed
			}
			n.startAt = time.Now().Add(askAgain)
			n.settle()
			return
		case decision.Master:
			args = append(args[:len(args):len(args)], "--replicaof", "no", "one")
		default:
			master = decision.Replica
			n.setAOFAside(ctx, master)
			host, port := splitAddress(master)
			args = append(args[:len(args):len(args)], "--replicaof", host, port)
		}
		args = n.sup.untilCopied(args)
	}

	if n.spec().Kind == plan.Redis {
		if why := n.cannotRead(ctx, master); why != "" {
			if n.detail != why {
				n.log.Error("not started", "why", why)
			}
			n.state, n.detail, n.startAt = Failed, why, time.Now().Add(lookAtProgramsEvery)
			n.settle()
			return
		}
	}

	if master != "" {
		var err error
		if args, err = n.sup.untilFilled(ctx, n.home(), n.spec().Node, args); err != nil {
			n.markUnable(err.Error())
			return
		}
	}

	n.unable = false
	n.processLog.begin(time.Now(), n.sup.tokensOf(n.spec()))
	variable, err := n.noteLaunch()
	if err != nil { // a full disk must not keep a node down
		n.log.Error("cannot note that the node is started", "error", err)
	}
	proc, err := n.sup.startProcess(*n.spec(), args, variable)
	if err != nil {
		n.detail = err.Error()
		n.log.Error("cannot start", "error", err)
		n.scheduleRestart()
		return
	}
	n.log.Info("started", "pid", proc.ID().PID, "args", args)
	made := n.sup.digest(*n.spec())
	if made != n.settingsDigest { // crashes of other settings do not count
		n.crashes = 0
	}
	n.proc, n.settingsDigest, n.began, n.upSince, n.hungFrom = proc, made, time.Now(), time.Time{}, time.Time{}
	n.listenAddress = n.spec().Address
	n.record()
}

// adopt takes over a process that is already running.
func (n *node) adopt(proc machine.Process, r record) {
	n.proc, n.settingsDigest, n.want, n.state = proc, r.Plan, r.Want, Starting
	n.listenAddress = r.Address // not the plan's, if the stack file has changed
	if r.Want == wantPaused {
		n.state = Paused
		n.keepDown.Store(true)
	}
	n.restarts, n.crashes, n.written, n.inherited = r.Restarts, r.Crashes, r, r
	n.processLog.adopt(r.Tokens)
	n.log.Info("adopted", "pid", proc.ID().PID)
	n.publish()
}

// ended handles the end of the process.
func (n *node) ended() {
	n.tellKeepalivedEnded()
	if n.spec().Kind.Traits().Rotates && n.killAt.IsZero() {
		// This comes first, because every millisecond without it costs requests.
		n.sup.tasks.Go(func() { n.sup.tellHealth(n.sup.ctx, *n.spec(), false) })
	}
	n.log.Warn("ended", "pid", n.proc.ID().PID, "how", n.proc.Exit())
	if n.spec().Kind == plan.Redis {
		n.deadAt = time.Now()
		// On a real host that is away nobody would hear of this end. It is seen here where a drill
		// simulates the host on this machine.
		if !n.sup.stopping.Load() && n.home().Present(n.sup.ctx) {
			n.sup.redisEnded(n.spec().Node)
		}
	}
	// The last output of this process must not be mixed with that of the next.
	n.processLog.end(n.tail)
	stopped := !n.killAt.IsZero()
	if !n.upSince.IsZero() && time.Since(n.upSince) > calm {
		n.died = 0
	}
	n.detail = n.proc.Exit()
	n.takeNext()
	n.proc, n.startFacts, n.killAt, n.upSince, n.enteringService, n.cut, n.connected = nil, nil, time.Time{}, time.Time{}, false, false, false
	n.nextSignalAt, n.reloadAgain = time.Time{}, false
	switch {
	case n.want == wantDown:
		n.state, n.detail = Down, ""
	case stopped: // a restart
		n.state, n.startAt = Starting, time.Time{}
		n.restarts++
	default:
		n.want = wantUp // also when it was killed while paused
		n.restarts++
		n.crashes++
		n.scheduleRestart()
	}
	n.settle()
}

// scheduleRestart plans the next start of a node that died or could not start.
func (n *node) scheduleRestart() {
	n.died++
	n.state = Starting
	n.startAt = time.Now()
	if n.died > 1 {
		n.startAt = n.startAt.Add(min(backoffFirst<<min(n.died-2, 20), backoffMost))
	}
	if n.died >= deaths {
		n.state = Failed
		n.startAt = time.Now().Add(backoffMost)
		n.settle()
	}
}
