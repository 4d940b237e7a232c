package redis

import (
	"slices"
	"testing"

	"holdfast/internal/redis/redistest"
)

// Redis refuses to queue some of these in a transaction, and the others of the
// pipeline are carried out all the same.
func TestAPipelineWithACommandThatMayWaitIsNoTransaction(t *testing.T) {
	cluster := redistest.Start(t, 1, 0)
	client := open(t, cluster, nil)
	want := []string{"OK", "1", "nil", "!ERR unknown command 'NOSUCH', with args beginning with: ", "[l x]", "!ERR wrong number of arguments for 'blpop' command", "2"}
	for _, idempotencyKey := range []string{"", "once", "once"} { // the last one is a repetition
		r := &Request{Commands: commands("SET a 1", "RPUSH l x", "BLPOP none 0", "NOSUCH", "BLPOP l 0", "BLPOP", "INCR a"), IdempotencyKey: idempotencyKey}
		if got := do(t, client, r); !slices.Equal(got, want) {
			t.Errorf("with key %q: %q, want %q", idempotencyKey, got, want)
		}
	}
	if got := cluster.Nodes[0].Do("GET", "a"); got != "2" {
		t.Errorf("the counter is %s", got)
	}
}
