package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"holdfast/internal/supervise"
)

// notifier tells systemd the state of the stack, if systemd has started the supervisor
// (sd_notify(3)). It is silent while the stack is being taken down.
type notifier struct {
	text    func() string // returns the stack's state in a few words
	listens bool          // systemd wants to be told

	quit chan struct{}
	all  sync.WaitGroup
	once sync.Once
}

func newNotifier(g *globals, text func() string) *notifier {
	return &notifier{text: text, listens: g.getenv("NOTIFY_SOCKET") != "", quit: make(chan struct{})}
}

// started reports that the stack is up, and from then on its state. A stack that is not ready
// counts as started, because it is looked after as well.
func (n *notifier) started() {
	if !n.listens {
		return
	}
	n.send(daemon.SdNotifyReady + "\nSTATUS=" + n.text())
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
				// A supervisor that hangs does not get past text, so the watchdog notices.
				text := n.text()
				n.send(daemon.SdNotifyWatchdog + "\nSTATUS=" + text)
			}
		}
	})
}

func (n *notifier) stopping() {
	if n.listens {
		n.stop()
		n.send(daemon.SdNotifyStopping)
	}
}

func (n *notifier) stop() {
	n.once.Do(func() { close(n.quit) })
	n.all.Wait()
}

// statusText returns a status in a few words.
func statusText(st supervise.Status) string {
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

// send ignores errors: systemd notices by itself that it hears nothing.
func (n *notifier) send(state string) { _, _ = daemon.SdNotify(false, state) }
