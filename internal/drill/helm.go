package drill

import (
	"context"
	"sync"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// helm finds the holdfast process to ask about the stack: its supervisor, or, on hosts of the
// drill's own, the process of any host. Each of them can answer for all. If one is lost or cut off,
// another takes its place. It is safe for concurrent use.
type helm struct {
	seats []seat

	mu sync.Mutex
	at int // index of the seat that answered last, or that leads
}

// seat is one process that can be asked.
type seat struct {
	host   string // empty: the stack is not on several hosts
	state  string // its state directory
	client *control.Client
}

func newSeat(host, state string) seat { return seat{host, state, control.NewClient(state)} }

// seatPatience is how long the seat that answered last may take before all are asked: a host that
// is cut off waits for a leader and does not answer.
const seatPatience = 400 * time.Millisecond

func (h *helm) seat() seat {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seats[h.at]
}

// of returns the seat of a host.
func (h *helm) of(host string) seat {
	for _, s := range h.seats {
		if s.host == host {
			return s
		}
	}
	return seat{}
}

// take makes the seat of a host the first to be asked.
func (h *helm) take(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, s := range h.seats {
		if s.host == host {
			h.at = i
		}
	}
}

// status returns the stack's status. The leader's seat is asked first from then on, because the
// leader needs no other host for its answer.
func (h *helm) status(ctx context.Context) (supervise.Status, error) {
	if len(h.seats) == 1 {
		return h.seat().client.Status(ctx)
	}
	first, cancel := context.WithTimeout(ctx, seatPatience)
	st, err := h.seat().client.Status(first)
	cancel()
	if err != nil {
		st, err = h.askAll(ctx)
	}
	if err == nil {
		h.take(st.Host)
	}
	return st, err
}

// askAll asks all seats at once and returns the first answer without an error.
func (h *helm) askAll(ctx context.Context) (supervise.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		st  supervise.Status
		err error
	}
	answers := make(chan answer, len(h.seats))
	for _, s := range h.seats {
		go func() {
			st, err := s.client.Status(ctx)
			answers <- answer{st, err}
		}()
	}
	var last answer
	for range h.seats {
		if last = <-answers; last.err == nil {
			return last.st, nil
		}
	}
	return last.st, last.err
}
