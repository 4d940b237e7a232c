package fair

import (
	"sync"
	"sync/atomic"
)

// shares divides a number of places among senders so that some stay free for others, whatever one
// of them does. A sender may have at most as many places as are free at that moment, times a factor
// (A. Choudhury and E. Hahne, "Dynamic queue length thresholds", 1998). With the factor 1, one
// sender alone gets half of all places and a second one a quarter; with 3, one alone gets three
// quarters.
type shares struct {
	limit  int // of all senders together
	each   int // of one sender; 0: by the factor
	factor int

	mu    sync.Mutex
	taken int
	of    map[string]int // by sender; senders without places are not in it
}

func newShares(limit, each, factor int) *shares {
	return &shares{limit: limit, each: each, factor: factor, of: map[string]int{}}
}

// take takes n places for a sender, or reports false and takes none. A sender without places gets
// its first ones as long as enough are free.
func (s *shares) take(sender string, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := s.of[sender]
	free := s.limit - s.taken - n
	most := s.factor * free
	if s.each > 0 {
		most = s.each
	}
	if free < 0 || has+n > most && has > 0 {
		return false
	}
	s.taken += n
	s.of[sender] = has + n
	return true
}

// leave gives n places back.
func (s *shares) leave(sender string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
	if s.of[sender] -= n; s.of[sender] == 0 {
		delete(s.of, sender)
	}
}

// inUse returns how many places are taken.
func (s *shares) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// TurnedAway counts what a node turned away because there was too much of it.
type TurnedAway struct {
	Connections, Waiting, Streams, Bodies atomic.Uint64
}
