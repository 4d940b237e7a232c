package supervise

import (
	"syscall"
	"time"

	"holdfast/internal/plan"
)

// This file tells a node's process to end, or to read its files again.

// signals has the signals that a stack file can name.
var signals = map[string]syscall.Signal{
	"SIGTERM": syscall.SIGTERM,
	"SIGINT":  syscall.SIGINT,
	"SIGQUIT": syscall.SIGQUIT,
	"SIGHUP":  syscall.SIGHUP,
	"SIGUSR1": syscall.SIGUSR1,
	"SIGUSR2": syscall.SIGUSR2,
}

// terminate asks the process to end, after the node has left service.
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
	// When the stack is taken down, the address has moved before: plan.StopKeepalived.
	if leave == nil || n.spec().Kind == plan.Balancer && n.sup.stopping.Load() || n.want == wantPaused || n.upSince.IsZero() {
		n.signalStop()
		return
	}
	// The node leaves service before its process ends. The balancers send nothing new to an
	// application's node, which finishes the requests that it has. The host of a balancer gives
	// the virtual address to another host.
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
	n.sendStopSignal(signals[n.spec().StopSignal])
	n.proc.SignalGroup(syscall.SIGCONT) // a paused process has to run to handle the signal
	n.killAt = time.Now().Add(n.spec().Grace)
}

// sendStopSignal sends a signal that asks the process to end, and schedules its repetition where
// the kind of node needs it.
func (n *node) sendStopSignal(signal syscall.Signal) {
	n.proc.Signal(signal)
	if n.lastSignal = signal; n.spec().Kind.Traits().StopAgain {
		n.signalPause = signalAgainAfter
		n.nextSignalAt = time.Now().Add(n.signalPause)
	}
}

// stopAgain tells a balancer again to stop when that is due. For a balancer that has already
// received the signal, this changes nothing.
func (n *node) stopAgain() {
	if n.nextSignalAt.IsZero() || time.Now().Before(n.nextSignalAt) {
		return
	}
	n.proc.Signal(n.lastSignal)
	n.signalPause *= 2
	n.nextSignalAt = time.Now().Add(n.signalPause)
}

// reload makes a balancer read its files again: HAProxy's master process does so on SIGUSR2
// (management guide, section 4).
func (n *node) reload() error {
	n.log.Info("reload")
	return n.proc.Signal(syscall.SIGUSR2)
}
