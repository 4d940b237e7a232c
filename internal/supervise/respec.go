package supervise

import "holdfast/internal/plan"

// The process that a node is to have may change while it is looked after: see command.spec.

// spec returns what the node's process is, or is to be. For a node that has just gone (nil), it
// returns an empty one.
func (n *node) spec() *plan.Process {
	if n == nil {
		return &plan.Process{}
	}
	return n.now.Load()
}

// takeNext makes the settings that a restart brought the current ones.
func (n *node) takeNext() {
	if n.next != nil {
		n.now.Store(n.next)
		n.sup.directClient(*n.next)
		n.next = nil
	}
}

// applySettings makes other settings the current ones, also for the running process.
func (n *node) applySettings(how Action) error {
	n.takeNext()
	if n.proc == nil {
		return nil
	}
	if how == actReload {
		if err := n.reload(); err != nil {
			return err
		}
		// HAProxy's master ignores signals while it starts, and may have read the former files.
		n.reloadAgain = n.state == Starting
	}
	n.settingsDigest, n.listenAddress = n.sup.digest(*n.spec()), n.spec().Address
	n.record()
	return nil
}
