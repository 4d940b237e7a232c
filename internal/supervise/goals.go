package supervise

import (
	"errors"
)

// Commands to a node are answered when their goal is reached, or cannot be reached any more.

// settle answers the waiting commands whose goal is reached or out of reach.
func (n *node) settle() {
	n.publish() // first, so that the caller finds the new state in the status
	still := n.waiting[:0]
	for _, w := range n.waiting {
		reached, err := n.reached(w)
		if reached || err != nil {
			w.answer <- err
			continue
		}
		still = append(still, w)
	}
	n.waiting = still
}

// reached reports whether a command's goal is reached. An error means that it cannot be.
func (n *node) reached(w waiter) (bool, error) {
	switch w.action {
	case ActStop:
		return n.proc == nil && n.want == wantDown, n.overruled(n.want != wantDown)
	case ActStart, ActRestart:
		if n.state == Failed && n.unable {
			return false, &UnableError{Node: n.spec().Node, Why: n.detail}
		}
		if n.state == Failed {
			return false, &FailedError{Node: n.spec().Node, Detail: n.detail, Log: n.processLog.ofLastStart(n.tail)}
		}
		return n.state == Up && !n.enlisting && (w.action == ActStart || n.proc != w.old), n.overruled(n.want == wantDown)
	case ActKill:
		return n.proc != w.old, nil
	}
	return true, nil
}

// overruled returns an error if another command has changed what is wanted of the node.
func (n *node) overruled(yes bool) error {
	if yes {
		return errors.New("overruled by another command")
	}
	return nil
}
