package consistency_test

import (
	"strings"
	"testing"

	"holdfast/internal/redis"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/httpfast"
)

// A read needs no key and has no age. But a header that no balancer writes is refused, so that
// nobody relies on it.
func TestBalancersHeadersCountWhereTheyAreWellFormedAndForWritesAlone(t *testing.T) {
	for _, c := range []struct {
		name     string
		options  httpfast.Options
		dropped  bool
		wellDone bool // Apply takes the request
		key      string
	}{
		{"none", httpfast.Options{}, true, true, ""},
		{"both", httpfast.Options{Attempt: []byte("a-1"), Attempts: 1, Received: []byte("99999999999")}, true, true, "\na-1"},
		{"the client's own key counts", httpfast.Options{Attempt: []byte("a-1"), Attempts: 1, IdempotencyKey: []byte("own"), IdempotencyKeys: 1}, true, true, "own"},
		{"an attempt twice", httpfast.Options{Attempt: []byte("a-1"), Attempts: 2}, false, false, ""},
		{"an empty attempt", httpfast.Options{Attempts: 1}, false, false, ""},
		{"an attempt that is too long", httpfast.Options{Attempt: []byte(strings.Repeat("a", consistency.MaxIdempotencyKey+1)), Attempts: 1}, false, false, ""},
		{"a time that is none", httpfast.Options{Received: []byte("now")}, false, false, ""},
		{"a time with a sign", httpfast.Options{Received: []byte("-1")}, false, false, ""},
		{"a time beyond all", httpfast.Options{Received: []byte(strings.Repeat("9", 19))}, false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &redis.Request{}
			w := c.options
			err := consistency.New(redis.ReadMaster, false, nil).Apply(nil, &w, r)
			if (err == nil) != c.wellDone || err == nil && r.IdempotencyKey != c.key {
				t.Errorf("the key is %q, %v", r.IdempotencyKey, err)
			}
			consistency.DropBalancerHeaders(&w)
			if dropped := w.Attempts == 0 && w.Received == nil; dropped != c.dropped {
				t.Errorf("dropped for a read: %t", dropped)
			}
		})
	}
}
