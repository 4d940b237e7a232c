package redis

import (
	"errors"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
)

// What is held while a master is elected is answered soon after: nothing of our
// own is to be waited for then.

func TestAMasterWithoutReplicasIsAskedAgainSoon(t *testing.T) {
	for _, c := range []struct {
		refusal string
		waits   bool
		want    time.Duration
	}{
		{"NOREPLICAS Not enough good replicas to write.", true, replicaPause},
		{"NOREPLICAS Not enough good replicas to write.", false, retryPause}, // else it would be asked all the time
		{"BUSY Redis is busy running a script.", true, retryPause},
		{"TRYAGAIN Multiple keys request during rehashing of slot", true, retryPause},
	} {
		s := inSync("a")
		if err := s.refused(errors.New(c.refusal)); err != nil {
			t.Errorf("%s: it ends the session: %v", c.refusal, err)
		}
		if c.waits {
			s.waited()
		}
		if s.pause != c.want {
			t.Errorf("%s, with a WAIT behind it (%t): again after %v, want %v", c.refusal, c.waits, s.pause, c.want)
		}
	}
	s := inSync("a")
	if s.waited(); s.pause != 0 {
		t.Errorf("nothing was turned down, and there is a pause of %v", s.pause)
	}
}

// Many complaints are one round, 20 ms later; who waits for a round's outcome
// does not wait for that.
func TestComplaintsHoldNobodyUpWhoWaitsForARound(t *testing.T) {
	client := open(t, redistest.Start(t, 1, 0), nil)
	do(t, client, &Request{Commands: commands("SET warm up")})
	shortest := time.Hour
	for range 20 {
		client.monitor.look()
		for len(client.monitor.nudge) > 0 { // until the monitor has heard it
			time.Sleep(time.Millisecond)
		}
		began := time.Now()
		if _, err := client.monitor.confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		shortest = min(shortest, time.Since(began))
	}
	if shortest > 10*time.Millisecond {
		t.Errorf("a round took %v at the least", shortest)
	}
}
