package supervise

import (
	"syscall"
	"time"

	"holdfast/internal/plan"
)

// How a node's process is told to end, or to take its files up.

// terminate asks the process to end, by its own signal.
func (n *node) terminate() {
	if n.proc == nil || !n.killAt.IsZero() {
		return
	}
	n.state = Draining
	leave, limit := n.sup.drain, n.sup.rotationLimit()+drainTime(*n.spec())
	if n.spec().Kind == plan.Balancer && n.sup.stack().Entry.Virtual.Enabled() {
		leave, limit = n.sup.giveAddressAway, moveLimit
	} else if !n.spec().Kind.Traits().Rotates {
		leave = nil
	}
	// In a shutdown the address has gone before: plan.StopKeepalived.
	if leave == nil || n.spec().Kind == plan.Balancer && n.sup.stopping.Load() || n.want == wantPaused || n.upSince.IsZero() {
		n.signalStop()
		return
	}
	// A node leaves service before it leaves. To an application's node the balancers send
	// nothing new, and what it has in hand is finished. A balancer's host gives the virtual
	// address away.
	n.killAt = time.Now().Add(limit + n.spec().Grace)
	proc := n.proc
	n.sup.tasks.Go(func() {
		leave(n.sup.ctx, n.spec().Node)
		select {
		case n.drained <- proc:
		case <-n.gone:
		case <-n.sup.ctx.Done():
		}
	})
}

// signalStop tells the process to end.
func (n *node) signalStop() {
	n.log.Info("stop", "signal", n.spec().StopSignal)
	n.tell(signals[n.spec().StopSignal])
	n.proc.SignalGroup(syscall.SIGCONT) // a paused one has to wake up to hear
	n.killAt = time.Now().Add(n.spec().Grace)
}

// tell sends a signal that asks the process to end.
func (n *node) tell(signal syscall.Signal) {
	n.proc.Signal(signal)
	if n.told = signal; n.spec().Kind.Traits().StopAgain {
		n.tellGap = tellAgain
		n.tellAt = time.Now().Add(n.tellGap)
	}
}

// stopAgain tells a balancer once more to stop, which changes nothing for one that has
// heard it.
func (n *node) stopAgain() {
	if n.tellAt.IsZero() || time.Now().Before(n.tellAt) {
		return
	}
	n.proc.Signal(n.told)
	n.tellGap *= 2
	n.tellAt = time.Now().Add(n.tellGap)
}

// reload has a balancer take its files up: to its master SIGUSR2 says so (management
// guide, section 4).
func (n *node) reload() error {
	n.log.Info("reload")
	return n.proc.Signal(syscall.SIGUSR2)
}
