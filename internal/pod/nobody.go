package pod

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"
)

// dialLimit is how long a connection to a Service may take.
const dialLimit = time.Second

// Nobody reports whether no pod seems to serve behind a Service: DNS answers that there is no such
// name, or nobody takes a connection. It returns false if DNS gives no definite answer.
func (s *Services) Nobody(ctx context.Context, name string, port int) bool {
	addresses, err := s.Lookup(ctx, name)
	if err != nil || len(addresses) == 0 {
		return err == nil || IsNoName(err)
	}

	// The time that DNS took is not the connection's.
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(addresses[0], strconv.Itoa(port)), dialLimit)
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

// IsNoName reports whether an error is the answer of DNS that there is no such name.
func IsNoName(err error) bool {
	said := new(net.DNSError)
	return errors.As(err, &said) && said.IsNotFound
}

// Streak measures for how long every probe has found the same. The zero value is ready for use, by
// several goroutines.
type Streak struct {
	mu          sync.Mutex
	since, last time.Time
}

// streakGap is the longest time between two probes of a streak. The kubelet asks every second.
const streakGap = 5 * time.Second

// Lasted adds a probe, and returns for how long every probe up to this one has found it.
func (s *Streak) Lasted(found bool, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !found {
		s.last = time.Time{}
		return 0
	}
	if now.Sub(s.last) > streakGap {
		s.since = now
	}
	s.last = now
	return now.Sub(s.since)
}
