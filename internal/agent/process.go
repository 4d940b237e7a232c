package agent

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/machine"
)

// askAgain is the pause before a host that could not be reached is asked again.
const askAgain = 250 * time.Millisecond

// process is a process of another host.
type process struct {
	remote *Remote
	id     machine.ID
	done   chan struct{}
	exit   string // set before done is closed

	mu sync.Mutex
	// signals are waiting to be sent, in this order; sending is true while sendAll runs.
	signals []signal
	sending bool
	// stopped is the host's last answer; asking is true while a new one is fetched.
	stopped, asking bool
}

// Start implements machine.Processes.
func (r *Remote) Start(ctx context.Context, spec machine.Spec) (machine.Process, error) {
	id, err := call[machine.ID](ctx, r, "start", spec)
	if err != nil {
		return nil, err
	}
	return r.watched(id), nil
}

// Adopt implements machine.Processes.
func (r *Remote) Adopt(ctx context.Context, id machine.ID) (machine.Process, error) {
	if err := r.do(ctx, "adopt", id); err != nil {
		return nil, err
	}
	return r.watched(id), nil
}

// watched returns a process, and starts to wait for its end.
func (r *Remote) watched(id machine.ID) *process {
	p := &process{remote: r, id: id, done: make(chan struct{})}
	r.tasks.Go(p.watch)
	return p
}

// watch waits for the end of the process. If the host cannot be reached, it asks again until
// the host answers, because the process may still run.
func (p *process) watch() {
	for p.remote.life.Err() == nil {
		exit, err := p.await(p.remote.life)
		if errors.Is(err, machine.ErrGone) {
			exit, err = "ended", nil
		}
		if err == nil {
			p.exit = exit
			close(p.done)
			return
		}
		clock.Sleep(p.remote.life, askAgain)
	}
}

// await waits until the process has ended, and returns how.
func (p *process) await(ctx context.Context) (string, error) {
	req, err := p.remote.request(ctx, "wait", p.id)
	if err != nil {
		return "", err
	}
	resp, err := p.remote.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	end, err := readReply[ended](ctx, p.remote, resp)
	return end.Exit, err
}

// ID implements machine.Process.
func (p *process) ID() machine.ID { return p.id }

// Done implements machine.Process.
func (p *process) Done() <-chan struct{} { return p.done }

// Exit implements machine.Process.
func (p *process) Exit() string {
	select {
	case <-p.done:
		return p.exit
	default:
		return ""
	}
}

// Signal implements machine.Process.
func (p *process) Signal(sig syscall.Signal) error { return p.send(sig, false) }

// SignalGroup implements machine.Process.
func (p *process) SignalGroup(sig syscall.Signal) error { return p.send(sig, true) }

// send queues a signal after those that were sent before, and does not wait for it. A signal
// that does not reach the host is lost: the caller sees that the process goes on, and sends
// another one.
func (p *process) send(sig syscall.Signal, group bool) error {
	if p.Exit() != "" {
		return machine.ErrGone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signals = append(p.signals, signal{ID: p.id, Number: int(sig), Group: group})
	if !p.sending {
		p.sending = true
		p.remote.tasks.Go(p.sendAll)
	}
	return nil
}

func (p *process) sendAll() {
	for {
		p.mu.Lock()
		if len(p.signals) == 0 || p.remote.life.Err() != nil {
			p.signals, p.sending = nil, false
			p.mu.Unlock()
			return
		}
		next := p.signals[0]
		p.signals = p.signals[1:]
		p.mu.Unlock()
		ctx, cancel := context.WithTimeout(p.remote.life, aliveLimit)
		_ = p.remote.do(ctx, "signal", next)
		cancel()
	}
}

// Stopped implements machine.Process. It returns the host's last answer, and fetches a new one
// in the background.
func (p *process) Stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asking && p.Exit() == "" {
		p.asking = true
		p.remote.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(p.remote.life, aliveLimit)
			defer cancel()
			stopped, err := call[bool](ctx, p.remote, "stopped", p.id)
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.asking = false; err == nil {
				p.stopped = stopped
			}
		})
	}
	return p.stopped
}
