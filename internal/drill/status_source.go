package drill

import (
	"context"
	"sync"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// statusSource finds the holdfast process to ask about the stack: its supervisor, or, on hosts of
// the drill's own, the process of any host. Each of them can answer for all. If one is lost or cut
// off, another takes its place. It is safe for concurrent use.
type statusSource struct {
	endpoints []endpoint

	mu sync.Mutex
	at int // index of the endpoint that answered last, or that leads
}

// endpoint is one process that can be asked.
type endpoint struct {
	host   string // empty: the stack is not on several hosts
	state  string // its state directory
	client *control.Client
}

func newEndpoint(host, state string) endpoint { return endpoint{host, state, control.NewClient(state)} }

// endpointPatience is how long the endpoint that answered last may take before all are asked: a
// host that is cut off waits for a leader and does not answer.
const endpointPatience = 400 * time.Millisecond

func (src *statusSource) current() endpoint {
	src.mu.Lock()
	defer src.mu.Unlock()
	return src.endpoints[src.at]
}

// ofHost returns the endpoint of a host.
func (src *statusSource) ofHost(host string) endpoint {
	for _, s := range src.endpoints {
		if s.host == host {
			return s
		}
	}
	return endpoint{}
}

// prefer makes the endpoint of a host the first to be asked.
func (src *statusSource) prefer(host string) {
	src.mu.Lock()
	defer src.mu.Unlock()
	for i, s := range src.endpoints {
		if s.host == host {
			src.at = i
		}
	}
}

// status returns the stack's status. The leader's endpoint is asked first from then on, because the
// leader needs no other host for its answer.
func (src *statusSource) status(ctx context.Context) (supervise.Status, error) {
	if len(src.endpoints) == 1 {
		return src.current().client.Status(ctx)
	}
	first, cancel := context.WithTimeout(ctx, endpointPatience)
	st, err := src.current().client.Status(first)
	cancel()
	if err != nil {
		st, err = src.askAll(ctx)
	}
	if err == nil {
		src.prefer(st.Host)
	}
	return st, err
}

// askAll asks all endpoints at once and returns the first answer without an error.
func (src *statusSource) askAll(ctx context.Context) (supervise.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		st  supervise.Status
		err error
	}
	answers := make(chan answer, len(src.endpoints))
	for _, s := range src.endpoints {
		go func() {
			st, err := s.client.Status(ctx)
			answers <- answer{st, err}
		}()
	}
	var last answer
	for range src.endpoints {
		if last = <-answers; last.err == nil {
			return last.st, nil
		}
	}
	return last.st, last.err
}
