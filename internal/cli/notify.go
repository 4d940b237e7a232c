package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"holdfast/internal/supervise"
)

// notifier tells systemd how the stack is, where systemd has started the supervisor
// (sd_notify(3)). It says nothing about a stack that is being taken down.
type notifier struct {
	text    func() string // how the stack is, in some words
	listens bool          // somebody wants to know

	quit chan struct{}
	all  sync.WaitGroup
	once sync.Once
}

func newNotifier(g *globals, text func() string) *notifier {
	return &notifier{text: text, listens: g.getenv("NOTIFY_SOCKET") != "", quit: make(chan struct{})}
}

// started tells that the stack is up, and goes on telling how it is. A stack that is
// not ready then is looked after as well.
func (n *notifier) started() {
	if !n.listens {
		return
	}
	n.tell(daemon.SdNotifyReady + "\nSTATUS=" + n.text())
	every, _ := daemon.SdWatchdogEnabled(false)
	if every /= 3; every <= 0 {
		every = 5 * time.Second
	}
	n.all.Go(func() {
		ticker := time.NewTicker(min(every, 5*time.Second))
		defer ticker.Stop()
		for {
			select {
			case <-n.quit:
				return
			case <-ticker.C:
				// A supervisor that hangs does not come to the second line.
				text := n.text()
				n.tell(daemon.SdNotifyWatchdog + "\nSTATUS=" + text)
			}
		}
	})
}

func (n *notifier) stopping() {
	if n.listens {
		n.end()
		n.tell(daemon.SdNotifyStopping)
	}
}

func (n *notifier) end() {
	n.once.Do(func() { close(n.quit) })
	n.all.Wait()
}

// inWords is a status in some words.
func inWords(st supervise.Status) string {
	up := 0
	for _, node := range st.Nodes {
		if node.State == supervise.Up {
			up++
		}
	}
	ready := "ready"
	if !st.Ready {
		ready = "not ready"
	}
	return fmt.Sprintf("%s is %s: %d of %d nodes up, entry %s", st.Stack, ready, up, len(st.Nodes), st.Entry)
}

// tell ignores an error: systemd notices by itself that it is told nothing.
func (n *notifier) tell(state string) { _, _ = daemon.SdNotify(false, state) }
