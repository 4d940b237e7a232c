package redis

import (
	"sync"
	"testing"

	"holdfast/internal/redis/redistest"
)

// Of answers that are long together as many are given as there is room for, and who
// waits gets the room of those that are released.
func TestLongAnswersTakeTurns(t *testing.T) {
	t.Parallel()
	client := open(t, redistest.Start(t, 0, 0), func(c *Config) { c.MaxAnswer, c.MinAcks = 4<<20, 0 })
	do(t, client, &Request{Commands: commands("SETRANGE big 3999999 x")})
	var mu sync.Mutex
	var all sync.WaitGroup
	given, crowded, others := 0, 0, 0
	for range 12 {
		all.Go(func() {
			r := &Request{Commands: commands("GET big")}
			err := client.Do(t.Context(), r)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && len(r.Results[0].Reply.Text()) == 4_000_000:
				given++
			case KindOf(err) == Crowded:
				crowded++
			default:
				others++
				t.Log(err, r.Results)
			}
		})
	}
	all.Wait()
	if given != 6 || crowded != 6 || others > 0 {
		t.Errorf("%d were given, %d found no room", given, crowded)
	}
}
