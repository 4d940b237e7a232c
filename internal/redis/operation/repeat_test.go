package operation

import (
	"testing"

	"holdfast/internal/redis/outcome"
)

func TestWhetherAnOperationIsRepeatedFollowsFromWhatItIs(t *testing.T) {
	for _, tt := range []struct {
		what   string
		o      *Operation
		silent bool
		losses int
		nodes  string // the node of each loss; empty: all of one
		want   Next
		kind   outcome.Kind // of the outcome, when it is not repeated
	}{
		{what: "a read, and the node has died", o: &Operation{}, losses: 3, want: Repeat},
		{what: "and the next one, too", o: &Operation{Brief: true}, losses: 2, nodes: "ab", want: Decided, kind: outcome.GivenUp},
		{what: "a write with a record, and two have died", o: &Operation{Brief: true, Writes: true, Record: "r"}, losses: 2, nodes: "ab", want: Decided, kind: outcome.Unknown},
		{what: "a brief read, once", o: &Operation{Brief: true}, silent: true, losses: 1, want: Repeat},
		{what: "and not twice", o: &Operation{Brief: true}, silent: true, losses: 2, want: Decided, kind: outcome.GivenUp},
		{what: "a slow read", o: &Operation{}, silent: true, losses: 1, want: Decided, kind: outcome.GivenUp},
		{what: "a brief write with a record", o: &Operation{Brief: true, Writes: true, Record: "r"}, silent: true, losses: 1, want: Repeat},
		{what: "and not twice, too", o: &Operation{Brief: true, Writes: true, Record: "r"}, silent: true, losses: 2, want: Decided, kind: outcome.Unknown},
		{what: "a slow write with a record", o: &Operation{Writes: true, Record: "r"}, silent: true, losses: 1, want: Decided, kind: outcome.Unknown},
		{what: "and the node has died", o: &Operation{Writes: true, Record: "r"}, losses: 2, want: Repeat},
		{what: "a write without a record", o: &Operation{Brief: true, Writes: true}, losses: 1, want: Decided, kind: outcome.Unknown},
	} {
		o := tt.o
		o.Done = make(chan error, 1)
		o.State.Store(Taken)
		var got Next
		for i := range tt.losses {
			node := "a"
			if tt.nodes != "" {
				node = tt.nodes[i : i+1]
			}
			got = o.Lose(outcome.ErrLost, Loss{node, tt.silent, !tt.silent})
		}
		if got != tt.want {
			t.Errorf("%s: %v", tt.what, got)
		}
		if tt.want == Decided {
			if err := <-o.Done; outcome.KindOf(err) != tt.kind {
				t.Errorf("%s: %v", tt.what, err)
			}
		}
	}
}
