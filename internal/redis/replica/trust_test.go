package replica

import (
	"testing"
	"time"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/discovery"
)

// The times by which an answer is trusted, and what each has to be less than. Other
// tests wait for them by name, and would wait for longer ones, too. Package ack has more.
func TestTheTimesOfTrustInCacheAndReplicasAreShortEnough(t *testing.T) {
	for _, c := range []struct {
		what        string
		is, atMost  time.Duration
		sinceBeyond string
	}{
		{"cacheTrust", cacheTrust, 1200 * time.Millisecond, "docs/guarantees.md promises that a value of the cache is no older"},
		{"cacheAsks", cacheAsks, cacheTrust / 3, "a connection that hangs has to be noticed within cacheTrust"},
		{"steadyInterval", discovery.SteadyInterval + discovery.SteadyTimeout, cacheTrust - 300*time.Millisecond, "a master is heard within cacheTrust"},
		{"replica's lag", config.Config{}.WithDefaults().MaxLag, time.Second, "docs/guarantees.md promises that a replica's answer is no older"},
	} {
		if c.is <= 0 || c.is > c.atMost {
			t.Errorf("%s is %v and may be %v at most: %s", c.what, c.is, c.atMost, c.sinceBeyond)
		}
	}
}
