package supervise

import (
	"errors"
	"fmt"
)

// Commands to a node are refused at once, or answered when their goal is reached or cannot be
// reached any more.

// refuse returns why an action cannot begin; nil: it can.
func (n *node) refuse(a Action) error {
	switch a {
	case ActStop, ActKill, actCut, actTake:
	case actReload, ActStart, ActRestart, ActPause, ActResume:
		// A request that was made before the stop of the stack, or at the same time, comes too
		// late: the node would be up after the stack is down.
		if n.sup.stopping.Load() {
			return errStopping
		}
	default:
		return fmt.Errorf("unknown action %q", a)
	}
	switch a {
	case ActStart:
		if n.want == wantPaused {
			return fmt.Errorf("%s is paused; 'holdfast resume %s' lets it go on", n.spec().Node, n.spec().Node)
		}
	case ActKill, ActPause, ActResume:
		if n.proc == nil {
			return fmt.Errorf("%s is %s: there is no process to %s", n.spec().Node, n.state, a)
		}
		if a != ActKill && !n.killAt.IsZero() {
			return fmt.Errorf("%s is being stopped: it is too late to %s it", n.spec().Node, a)
		}
	}
	return nil
}

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
		return n.state == Up && !n.enteringService && (w.action == ActStart || n.proc != w.old), n.overruled(n.want == wantDown)
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
