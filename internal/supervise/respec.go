package supervise

import "holdfast/internal/plan"

// What a node is may change while it is looked after: see command.spec.

// spec is what the node's process is, or is to be. A node that has just gone has an
// empty one.
func (n *node) spec() *plan.Process {
	if n == nil {
		return &plan.Process{}
	}
	return n.now.Load()
}

// takeNext has the settings count that a restart brought.
func (n *node) takeNext() {
	if n.next != nil {
		n.now.Store(n.next)
		n.sup.reach(*n.next)
		n.next = nil
	}
}

// take has other settings count for the process that runs, too.
func (n *node) take(how Action) error {
	n.takeNext()
	if n.proc == nil {
		return nil
	}
	if how == actReload {
		if err := n.reload(); err != nil {
			return err
		}
		// Its master takes no signal while it starts, and may have read the former files.
		n.reloadAgain = n.state == Starting
	}
	n.made, n.listens = n.sup.digest(*n.spec()), n.spec().Address
	n.record()
	return nil
}
