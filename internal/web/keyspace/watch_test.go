package keyspace

import (
	"testing"

	"holdfast/internal/redis"
)

func TestAWatcherWithTooMuchBeforeItStartsAgain(t *testing.T) {
	h := newHub(nil, nil)
	p := &prefixWatch{h: h, wake: make(chan struct{}, 1), waiting: map[string]bool{}}
	h.prefixes[p] = struct{}{}
	for range 2 {
		for i := range maxPending {
			h.hear(t.Context(), redis.Change{Key: string(rune('a' + i))})
		}
	}
	if reset, keys := p.take(); reset || len(keys) != maxPending {
		t.Errorf("%d keys, reset %v: one that changes twice waits once", len(keys), reset)
	}
	for i := range maxPending + 1 {
		h.hear(t.Context(), redis.Change{Key: string(rune('a' + i))})
	}
	if reset, keys := p.take(); !reset || len(keys) != 0 {
		t.Errorf("%d keys, reset %v", len(keys), reset)
	}
}
