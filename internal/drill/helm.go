package drill

import (
	"context"
	"sync"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// helm is whom a drill asks about its stack: its supervisor, or, on hosts of the drill's
// own, the process of any host. One of them answers for all, and may be lost or cut off
// while another one takes its place. It is safe for concurrent use.
type helm struct {
	seats []seat

	mu sync.Mutex
	at int // the one that answered last, or the one that leads
}

// seat is one process that can be asked.
type seat struct {
	host   string // empty: the stack has one host alone
	state  string // its state directory
	client *control.Client
}

func newSeat(host, state string) seat { return seat{host, state, control.NewClient(state)} }

// seatPatience is how long the seat that answered last may take before all are asked. A
// host that is cut off waits for a leader.
const seatPatience = 400 * time.Millisecond

func (h *helm) seat() seat {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seats[h.at]
}

// of is the seat of a host.
func (h *helm) of(host string) seat {
	for _, s := range h.seats {
		if s.host == host {
			return s
		}
	}
	return seat{}
}

// take makes the seat of a host the one that is asked first.
func (h *helm) take(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, s := range h.seats {
		if s.host == host {
			h.at = i
		}
	}
}

// status asks for the stack's status. Who leads is asked first from then on: it need not
// ask anybody.
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

// askAll asks all seats at once, and takes the first answer.
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
