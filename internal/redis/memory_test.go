package redis

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/redis/redistest"
)

// What comes together goes in one call of a script: there, too, Redis refuses
// what takes memory when that is full, and carries out the rest.
func TestWhatFreesMemoryIsCarriedOutBesideWhatTakesSome(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	master := cluster.Nodes[0]
	client := open(t, cluster, nil)
	const many = 200
	for i := range many {
		do(t, client, &Request{Commands: []Command{{"SET", fmt.Sprint("k", i), "v"}}})
	}
	master.Do("CONFIG", "SET", "maxmemory", "1")

	for range 2 { // the second time from the records
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				key := fmt.Sprint("k", i)
				cmd, refused := Command{"DEL", key}, false
				if i%3 == 0 {
					cmd, refused = Command{"APPEND", key, "w"}, true
				}
				r := &Request{Commands: []Command{cmd}, IdempotencyKey: key}
				err := client.Do(t.Context(), r)
				if err == nil {
					err = r.Results[0].Err
				}
				if refused != strings.HasPrefix(Words(err), "OOM ") || !refused && (err != nil || r.Results[0].Reply.Int() != 1) {
					t.Errorf("%q: %v", cmd, err)
				}
			})
		}
		all.Wait()
	}
}
