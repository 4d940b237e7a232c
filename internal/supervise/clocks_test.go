package supervise

import (
	"maps"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

func TestAClockIsWrongThatDiffersFromMostOthers(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		what  string
		ahead map[string]time.Duration // how far each clock is ahead of this host's
		want  map[string]bool
	}{
		{"all are right", map[string]time.Duration{"a": time.Second, "b": 0}, nil},
		{"one is ahead", map[string]time.Duration{"a": 0, "b": hour, "c": 0}, map[string]bool{"b": true}},
		{"one is behind", map[string]time.Duration{"a": 0, "b": -hour}, map[string]bool{"b": true}},
		{"this host's own", map[string]time.Duration{"a": hour, "b": hour}, nil},
		{"two of four", map[string]time.Duration{"a": 0, "b": hour, "c": hour}, nil},
		{"nobody knows", map[string]time.Duration{"a": hour}, nil},
		{"nobody tells", nil, nil},
	} {
		if got := wrongOf(c.ahead); !maps.Equal(got, c.want) {
			t.Errorf("%s: wrong are %v, want %v", c.what, got, c.want)
		}
	}
}

func TestAMasterIsReplacedByAReplicaWhoseClockIsRight(t *testing.T) {
	for _, wrong := range []int{1, 2} {
		for _, by := range []time.Duration{time.Hour, -time.Hour} {
			c := redistest.StartClocked(t, 2, 3)
			s := supervisorOfHealthyCluster(t, c)
			c.Nodes[wrong].SetClock(t, by)
			redistest.Eventually(t, soon, "the replica is back in step", func() bool { // its clock has just jumped
				return strings.Contains(c.Nodes[0].Do("INFO", "replication"), "min_slaves_good_slaves:2")
			})
			c.Nodes[0].Kill()
			var err error
			redistest.Eventually(t, soon, "a failover begins", func() bool {
				err = s.failOver(t.Context(), "redis-1")
				return err == nil
			})
			if got := c.Nodes[3-wrong].Do("ROLE"); !strings.Contains(got, "master") {
				t.Errorf("the clock of redis-%d is %v ahead, and redis-%d is %q", wrong+1, by, 4-wrong, got)
			}
		}
	}
}
