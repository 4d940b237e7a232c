package redis

import (
	"testing"

	"holdfast/internal/redis/outcome"
)

func TestWhetherAnOperationIsRepeatedFollowsFromWhatItIs(t *testing.T) {
	for _, tt := range []struct {
		what   string
		o      *operation
		silent bool
		losses int
		nodes  string // the node of each loss; empty: all of one
		want   next
		kind   Kind // of the outcome, when it is not repeated
	}{
		{what: "a read, and the node has died", o: &operation{}, losses: 3, want: repeat},
		{what: "and the next one, too", o: &operation{brief: true}, losses: 2, nodes: "ab", want: decided, kind: GivenUp},
		{what: "a write with a record, and two have died", o: &operation{brief: true, writes: true, record: "r"}, losses: 2, nodes: "ab", want: decided, kind: Unknown},
		{what: "a brief read, once", o: &operation{brief: true}, silent: true, losses: 1, want: repeat},
		{what: "and not twice", o: &operation{brief: true}, silent: true, losses: 2, want: decided, kind: GivenUp},
		{what: "a slow read", o: &operation{}, silent: true, losses: 1, want: decided, kind: GivenUp},
		{what: "a brief write with a record", o: &operation{brief: true, writes: true, record: "r"}, silent: true, losses: 1, want: repeat},
		{what: "and not twice, too", o: &operation{brief: true, writes: true, record: "r"}, silent: true, losses: 2, want: decided, kind: Unknown},
		{what: "a slow write with a record", o: &operation{writes: true, record: "r"}, silent: true, losses: 1, want: decided, kind: Unknown},
		{what: "and the node has died", o: &operation{writes: true, record: "r"}, losses: 2, want: repeat},
		{what: "a write without a record", o: &operation{brief: true, writes: true}, losses: 1, want: decided, kind: Unknown},
	} {
		o := tt.o
		o.done = make(chan error, 1)
		o.state.Store(taken)
		var got next
		for i := range tt.losses {
			node := "a"
			if tt.nodes != "" {
				node = tt.nodes[i : i+1]
			}
			got = o.lose(outcome.ErrLost, loss{node, tt.silent, !tt.silent})
		}
		if got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
		if tt.want == decided {
			if err := <-o.done; KindOf(err) != tt.kind {
				t.Errorf("%s: %v", tt.what, err)
			}
		}
	}
}
