package agent

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/machine"
)

// askAgain is the pause before a host is asked again that could not be reached.
const askAgain = 250 * time.Millisecond

// process is a process of another host.
type process struct {
	remote *Remote
	id     machine.ID
	done   chan struct{}
	exit   string // set before done is closed

	mu sync.Mutex
	// signals are to be sent, in this order; sending is true while somebody does.
	signals []signal
	sending bool
	// stopped is what was heard last; asking is true while it is asked for.
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

// watched is a process whose end is waited for.
func (r *Remote) watched(id machine.ID) *process {
	p := &process{remote: r, id: id, done: make(chan struct{})}
	r.tasks.Go(p.watch)
	return p
}

// watch waits for the end of the process. A host that cannot be reached is asked until it
// answers: its processes may well run.
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
		select {
		case <-time.After(askAgain):
		case <-p.remote.life.Done():
		}
	}
}

// await returns how the process has ended, when it has.
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
	end, err := take[ended](ctx, p.remote, resp)
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

// send sends a signal behind those that were sent before. One that does not reach its host
// is lost: whoever sent it sees that the process goes on, and sends another one.
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

// Stopped implements machine.Process. It returns what the host has said last, and asks it
// again.
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
